"""How soon the engine's connection is closed once the client is gone: one client at a time, in each phase.

The upstream is a bare socket in this process, so a delay is from the client's close to the upstream's end of file.
"""

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.load.processes import PROXY_CORE, free_port, pinned, proxy_command

_GUARD_S = 5.0
_HEAD = b"POST /chat/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n"
_UPLOAD_BYTES = 10 << 20


class Delay(NamedTuple):
    """How long it took."""

    p50_ms: float
    worst_ms: float


def departures(folder: Path, count: int) -> Mapping[str, Delay]:
    """Leave so many times in each phase."""
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        upstream.settimeout(_GUARD_S)
        port = free_port()
        services = {"chat": {"url": f"http://127.0.0.1:{upstream.getsockname()[1]}"}}
        command = proxy_command(folder, "departures", port, services)
        with pinned(command, PROXY_CORE, log=folder / "departures.log", port=port):
            return {
                name: _delay([_leave(port, upstream, enter) for _ in range(count)]) for name, enter in _PHASES.items()
            }


def _delay(seconds: Sequence[float]) -> Delay:
    return Delay(median(seconds) * 1e3, max(seconds) * 1e3)


def _leave(port: int, upstream: socket.socket, enter: Callable[[socket.socket, socket.socket], socket.socket]) -> float:
    with socket.create_connection(("127.0.0.1", port), _GUARD_S) as client:
        engine = enter(client, upstream)
    left = time.perf_counter()
    with engine:
        _drain(engine)
        return time.perf_counter() - left


def _drain(engine: socket.socket) -> None:
    try:
        while engine.recv(1 << 20):
            pass
    except ConnectionResetError:
        return


def _accept(upstream: socket.socket) -> socket.socket:
    engine, _ = upstream.accept()
    engine.settimeout(_GUARD_S)
    return engine


def _waiting(client: socket.socket, upstream: socket.socket) -> socket.socket:
    client.sendall(_HEAD % 0)
    engine = _accept(upstream)
    engine.recv(1 << 16)
    return engine


def _streaming(client: socket.socket, upstream: socket.socket) -> socket.socket:
    engine = _waiting(client, upstream)
    engine.sendall(_STREAM)
    while b"data: 1" not in client.recv(1 << 16):
        pass
    return engine


def _uploading(client: socket.socket, upstream: socket.socket) -> socket.socket:
    client.sendall(_HEAD % _UPLOAD_BYTES + b"x" * 1000)
    engine = _accept(upstream)
    engine.recv(1 << 16)
    return engine


_PHASES = {"waiting for the head": _waiting, "in a stream": _streaming, "uploading": _uploading}
