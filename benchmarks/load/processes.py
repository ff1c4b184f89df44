"""Processes pinned to a core, and the CPU time that they and their children have used."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

PROXY_CORE = 1
LOAD_CORE = 0
_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def pinned(command: Sequence[str], core: int, *, log: Path, port: int | None = None) -> Iterator[int]:
    """Run a command on one core until the block ends; give its pid once `port` answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(["taskset", "-c", str(core), *command], stdout=output, stderr=output)
    try:
        if port is not None:
            _await_port(port, process)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def proxy_command(folder: Path, name: str, port: int, services: Mapping[str, Mapping[str, str]]) -> Sequence[str]:
    """How `ai-proxy serve` is run on a port, configured in `folder`."""
    server, state_dir = {"port": port}, str(folder / f"{name}-state")
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, "state_dir": state_dir, "server": server, "services": services}))
    return [sys.executable, "-m", "ai_proxy", "serve", "--config", str(path)]


def cpu_s(pid: int) -> float:
    """User and system time of a process tree, in seconds."""
    return sum(_ticks(member) for member in _tree(pid)) / _TICKS


def rss_mb(pid: int) -> float:
    """Resident memory of a process tree, in MiB; pages shared between its members count for each."""
    pages = sum(int(_read(member, "statm").split()[1]) for member in _tree(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _tree(pid: int) -> list[int]:
    members = [pid]
    for member in members:
        members += [int(child) for child in _read(member, f"task/{member}/children").split()]
    return members


def _ticks(pid: int) -> int:
    fields = _read(pid, "stat").rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def _await_port(port: int, process: "subprocess.Popen[bytes]", within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"ended before it listened: {process.args!r}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"does not listen: {process.args!r}")
