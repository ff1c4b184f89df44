"""`ai-proxy import`: what it writes, and what it says of it."""

from pathlib import Path

import pytest

from tests.cli.shell import run

pytestmark = pytest.mark.slow


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    path = tmp_path / "llama-swap.yaml"
    path.write_text("models: {Org/Model: {cmd: 'llama-server --port ${PORT}', name: x}}")
    return path


def test_without_a_file_to_write_it_goes_to_standard_output(theirs: Path, tmp_path: Path) -> None:
    said = run(tmp_path, "import", str(theirs))

    assert said.status == 0
    assert said.out.startswith("# Made from llama-swap.yaml (llama-swap) by `ai-proxy import`.")
    assert "models: [Org/Model]" in said.out
    assert said.err.splitlines() == [
        f"not carried over from {theirs}:",
        "  models.Org/Model.name: /v1/models shows no display names; remove it",
    ]


def test_what_it_writes_is_checked_and_passes_the_check(theirs: Path, tmp_path: Path) -> None:
    said = run(tmp_path, "import", str(theirs), "-o", "ai-proxy.yaml")

    assert (said.status, said.out) == (0, "")
    assert said.err.startswith("ai-proxy.yaml: written, fine, 1 service\n")
    assert run(tmp_path, "check").status == 0


def test_a_file_that_is_there_stays_unless_that_is_forced(theirs: Path, tmp_path: Path) -> None:
    there = tmp_path / "ai-proxy.yaml"
    there.write_text("mine")

    said = run(tmp_path, "import", str(theirs), "-o", str(there))
    assert (said.status, there.read_text()) == (1, "mine")
    assert said.err == f"{there} is there already; --force replaces it\n"

    assert run(tmp_path, "import", str(theirs), "-o", str(there), "--force").status == 0
    assert there.read_text().startswith("# Made from")


def test_variables_that_are_not_set_are_named(tmp_path: Path) -> None:
    theirs = tmp_path / "llama-swap.yaml"
    theirs.write_text("models: {m: {cmd: 'serve --key ${env.SOME_KEY}'}}")

    said = run(tmp_path, "import", str(theirs), "-o", "ai-proxy.yaml")

    assert said.err == "ai-proxy.yaml: written; set in its environment: SOME_KEY\n"


@pytest.mark.parametrize("text", ["services: {}", "{", "nothing: of it"])
def test_another_file_is_one_line_and_writes_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)

    said = run(tmp_path, "import", "x.yaml", "-o", "ai-proxy.yaml")

    assert said.status == 2
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "ai-proxy.yaml").exists()
