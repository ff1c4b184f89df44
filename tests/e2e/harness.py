"""A proxy as a user runs it, in a process of its own, and what a test needs to look at it from outside.

The proxy's side is synchronous, so that a proxy can be shared by the tests of a module, each with its own event loop.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Self
from urllib.error import HTTPError

import psutil
import yaml

from ai_proxy.runtimes.process.ports import free_port
from tests.fakes import engine

GUARD_S = 40.0
POLL_S = 0.01
MARK = "AI_PROXY_TEST_MARK"

type Settings = dict[str, Any]


def until[T](look: Callable[[], T], what: object = "it") -> T:
    """Look again and again, until what is seen is true."""
    deadline = time.monotonic() + GUARD_S
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {GUARD_S:g} s: {what() if callable(what) else what}"
        time.sleep(POLL_S)
    return seen


async def at_rest(value: Callable[[], int]) -> int:
    """Wait until a counter that has begun to grow grows no more."""
    last, looks = 0, 0
    while looks < 5:
        await asyncio.sleep(0.1)
        looks = looks + 1 if last and value() == last else 0
        last = value()
    return last


def process(*flags: str, **keys: Any) -> Settings:
    """A service: the small engine as a local process with these flags, on no GPU unless `resources` says so."""
    command = [*engine.argv("--port", "{port}"), *flags]
    usual = {"type": "llama-cpp-server", "stop_grace_period": 2, "resources": {"gpus": 0}}
    return {**usual, "command": command, **keys}


def external(port: int, **keys: Any) -> Settings:
    """A service: what runs on this port already."""
    return {"url": f"http://127.0.0.1:{port}", **keys}


class Proxy:
    """A proxy in a process of its own.

    Args:
        folder: For its config, its state and its log.
        settings: Its config; name, state directory and port are added.
        environ: Variables set for it.
        stderr: Where its log goes; a file in `folder` by default.
        under: A command that runs it in its own place, as `prlimit` does.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        *,
        environ: Mapping[str, str] | None = None,
        stderr: IO[bytes] | int | None = None,
        under: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.name = f"e{uuid.uuid4().hex[:10]}"
        self.config = folder / "ai-proxy.yaml"
        self.port = 0
        self._environ = {**os.environ, **(environ or {}), MARK: self.name}
        self._stderr = stderr
        self._under = under
        self._log_begins = 0
        self._good_ends: tuple[int, ...] = (0,)
        self._process: subprocess.Popen[bytes]
        self.configure(settings)

    def __repr__(self) -> str:
        return f"<Proxy {self.name} on {self.port}, pid {self.pid}>"

    # Its life

    def configure(self, settings: Settings) -> None:
        """Write its config file in one step; a proxy that runs will notice."""
        whole = {"name": self.name, "state_dir": str(self.folder / "state"), **settings}
        draft = self.config.with_suffix(".new")
        draft.write_text(yaml.safe_dump(whole, sort_keys=False), "utf-8")
        draft.rename(self.config)

    def start(self, port: int = 0) -> Self:
        """Start it and wait until it listens, on any port or on this one."""
        serve = (*self._under, sys.executable, "-m", "ai_proxy", "serve", "--config", str(self.config))
        if self._stderr is not None:
            self.port = free_port(())
            self._spawn((*serve, "--port", str(self.port)))
            until(self._takes_connections)
            return self
        self._log_begins = len(self.log)
        self._spawn((*serve, "--port", str(port)))
        line = until(lambda: self._said("Listening on http") or self._ended_early(), lambda: self.log)
        self.port = int(line.split("://")[1].split(",")[0].rsplit(":", 1)[1])
        return self

    def start_under_uvicorn(self) -> Self:
        """Start it on uvicorn's own server and protocol, on a socket that listens already."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            self._environ["AI_PROXY_CONFIG"] = str(self.config)
            app = ("--factory", "ai_proxy.server:create_app")
            self._spawn((sys.executable, "-m", "uvicorn", *app, "--fd", str(listener.fileno())), listener.fileno())
        self._good_ends = (0, -signal.SIGTERM)  # uvicorn raises the signal again once it has served
        return self

    def start_on(self, listener: socket.socket, **environ: str) -> Self:
        """Start it on a socket that listens already, as systemd does, with more variables set."""
        self.port, fd = listener.getsockname()[1], listener.fileno()
        self._environ |= {**environ, "LISTEN_FDS": "1"}
        # Who is meant is only known once it runs; bash, for other shells know no descriptors above 9.
        become = ("bash", "-c", f'LISTEN_PID=$$ exec "$@" 3<&{fd} {fd}<&-', "bash")
        self._spawn((*become, sys.executable, "-m", "ai_proxy", "serve", "--config", str(self.config)), fd)
        return self

    def _spawn(self, command: tuple[str, ...], *fds: int) -> None:
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=self._environ,
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log if self._stderr is None else self._stderr,
                cwd=self.folder,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; its exit status."""
        return self._process.wait(GUARD_S)

    def kill(self) -> None:
        """End it as a crash does."""
        self._process.kill()
        self._process.wait(GUARD_S)

    def close(self) -> None:
        """End it as an operator does: in good order, and with nothing left behind."""
        if not self.is_running:
            return
        self.signal(signal.SIGTERM)
        try:
            status = self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end:\n{self.log}") from None
        until(lambda: not self.processes(), self.processes)
        assert status in self._good_ends, self.log
        assert "Traceback" not in self.log, self.log

    # What is seen of it

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process.poll() is None

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that it has logged."""
        return self._log_file.read_text("utf-8", "replace") if self._log_file.exists() else ""

    @property
    def rss_mb(self) -> float:
        """Its resident memory now."""
        return self._memory_mb("VmRSS")

    @property
    def peak_rss_mb(self) -> float:
        """The most resident memory that it ever had."""
        return self._memory_mb("VmHWM")

    def processes(self) -> list[int]:
        """Every live process that it or a descendant of it has started, however far it has run away."""
        mark = f"{MARK}={self.name}".encode()
        return [pid for pid in psutil.pids() if pid != self.pid and _carries(pid, mark)]

    # The management API

    def get(self, path: str) -> Any:
        """What GET of a path answers, below `/api/v1` unless it is a service's."""
        return self._ask("GET", path)

    def post(self, path: str) -> Any:
        """What POST of nothing to a path answers."""
        return self._ask("POST", path)

    def service(self, service: str) -> Any:
        """What the management API says of a service."""
        return self.get(f"/api/v1/service/{service}")

    def state(self, service: str) -> str:
        """A service's state."""
        return str(self.service(service)["state"])

    def await_state(self, service: str, state: str) -> None:
        """Wait until a service is in a state."""
        until(lambda: self.state(service) == state, lambda: (self.service(service), self.log[-3000:]))

    def requests(self) -> list[Any]:
        """The requests in the house."""
        found: list[Any] = self.get("/api/v1/requests")
        return found

    def await_quiet(self) -> None:
        """Wait until no request waits or runs."""
        until(lambda: not self.requests(), self.requests)

    def metric(self, sample: str) -> float:
        """The value of one sample, by its name with its labels as they are printed."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=GUARD_S) as answer:
            lines = answer.read().decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == sample), 0.0)

    def stats(self, service: str) -> Any:
        """What the small engine behind a service has counted."""
        return self.get(f"/services/{service}/fake/stats")

    def _ask(self, method: str, path: str) -> Any:
        request = urllib.request.Request(self.url + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=GUARD_S) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()!r}") from None

    def _memory_mb(self, what: str) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))

    @property
    def _log_file(self) -> Path:
        return self.folder / "log"

    def _said(self, words: str) -> str:
        return next((line for line in self.log[self._log_begins :].splitlines() if words in line), "")

    def _takes_connections(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            self._ended_early()
            return False
        return True

    def _ended_early(self) -> str:
        assert self.is_running, f"it ended with {self._process.returncode}:\n{self.log}"
        return ""


def _carries(pid: int, mark: bytes) -> bool:
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        return mark in environ.split(b"\0") and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
