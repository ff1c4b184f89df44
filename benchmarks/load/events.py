"""Paced event streams: the upstream that sends them, and the client that times them.

Every event carries the time at which it was written; both ends are on one machine and one clock.
Run as `python -m benchmarks.load.events upstream PORT` or `… client PORT STREAMS EVENTS`.
"""

import asyncio
import json
import sys
import time
from statistics import quantiles

import uvloop

PACE_S = 0.02
PADDING = b"e" * 180
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
OPEN_OVER_S = 1.0


class Upstream(asyncio.Protocol):
    """Answers `GET /events/{n}` with n events."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # streams get no other
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def connection_lost(self, _error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._left = int(data.split(b" ", 2)[1].rsplit(b"/", 1)[1]) if data.startswith(b"GET /events/") else 0
        self._due = self._loop.time()
        self._transport.write(HEAD)
        self._send()

    def _send(self) -> None:
        if not self._left:
            self._transport.write(b"0\r\n\r\n")
            return
        event = b"data: %d %b\n\n" % (time.perf_counter_ns(), PADDING)
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        self._left -= 1
        self._due += PACE_S
        self._timer = self._loop.call_at(self._due, self._send)


class Stream(asyncio.Protocol):
    """One client connection that reads one stream."""

    def __init__(self, events: int, lags_us: list[float]) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._request = b"GET /events/%d HTTP/1.1\r\nHost: 127.0.0.1\r\nX-AI-Proxy-Service: events\r\n\r\n" % events
        self._lags_us = lags_us

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # streams get no other
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter_ns()
        for piece in data.split(b"data: ")[1:]:
            self._lags_us.append((now - int(piece.split(b" ", 1)[0])) / 1e3)
        if data.endswith(b"0\r\n\r\n"):
            self._transport.close()
            self.done.set_result(None)


async def serve(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


async def read(port: int, streams: int, events: int) -> dict[str, float]:
    """Open the streams over a second and read them to their end."""
    loop = asyncio.get_running_loop()
    lags_us: list[float] = []
    opened = []
    for _ in range(streams):
        _, stream = await loop.create_connection(lambda: Stream(events, lags_us), "127.0.0.1", port)
        opened.append(stream)
        await asyncio.sleep(OPEN_OVER_S / streams)
    async with asyncio.timeout(events * PACE_S + 30):
        await asyncio.gather(*[stream.done for stream in opened])
    cuts = quantiles(lags_us, n=100)
    return {"chunks": len(lags_us), "lag_p50_us": cuts[49], "lag_p99_us": cuts[98]}


def main() -> None:
    role, port, *numbers = sys.argv[1:]
    if role == "upstream":
        uvloop.run(serve(int(port)))
    else:
        print(json.dumps(uvloop.run(read(int(port), *map(int, numbers)))))


if __name__ == "__main__":
    main()
