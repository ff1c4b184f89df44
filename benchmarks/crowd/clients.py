"""The clients: those that only sit there, those that are slow in three ways, and the one whose waits are measured."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from statistics import quantiles
from typing import NamedTuple

PATH = "/v1/chat/completions"
BODY = b'{"model":"chat","messages":[{"role":"user","content":"' + b"b" * 200 + b'"}]}'
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ".encode()
REQUEST = HEAD + b"%d\r\n\r\n" % len(BODY) + BODY
GUARD_S = 10.0
_PACE_S = 1.0
_SLOW_READ_BYTES = 1000
_PROBES_PER_S = 50


class Latency(NamedTuple):
    """What new requests took, in milliseconds, and how many were asked."""

    p50_ms: float
    p99_ms: float
    worst_ms: float
    requests: int


@asynccontextmanager
async def crowd(port: int, *, idle: int, slow: int) -> AsyncIterator[None]:
    """Keep so many idle and slow clients there until the block ends."""
    sitting = [await _sit(port) for _ in range(idle)]
    ways = (_slow_head, _slow_body, _slow_reader)
    tasks = [asyncio.create_task(_again_and_again(ways[n % len(ways)], port)) for n in range(slow)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in sitting:
            writer.transport.abort()


async def probe(port: int, seconds: float) -> Latency:
    """Ask at a steady pace, each second time on a new connection."""
    took: list[float] = []
    kept = await asyncio.open_connection("127.0.0.1", port)
    end = time.perf_counter() + seconds
    try:
        while (began := time.perf_counter()) < end:
            fresh = await asyncio.open_connection("127.0.0.1", port) if len(took) % 2 else None
            await _exchange(*(fresh or kept))
            took.append((time.perf_counter() - began) * 1e3)
            if fresh is not None:
                fresh[1].transport.abort()
            await asyncio.sleep(max(0.0, began + 1 / _PROBES_PER_S - time.perf_counter()))
    finally:
        kept[1].transport.abort()
    return _latency(took)


async def read_slowly(port: int, path: str, seconds: float, bytes_per_s: int) -> int:
    """Read an answer at a pace; returns the bytes read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    end, got = time.perf_counter() + seconds, 0
    try:
        while time.perf_counter() < end:
            got += len(await reader.read(bytes_per_s // 10))
            await asyncio.sleep(0.1)
    finally:
        writer.transport.abort()
    return got


async def send_on(port: int, path: str, seconds: float) -> int:
    """Send a body without end, as fast as it is taken; returns the bytes that were."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    chunk, sent = b"10000\r\n" + b"x" * 0x10000 + b"\r\n", 0
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
    writer.transport.abort()
    return sent


def _latency(took: Sequence[float]) -> Latency:
    cuts = quantiles(took, n=100)
    return Latency(round(cuts[49], 2), round(cuts[98], 2), round(max(took), 2), len(took))


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(GUARD_S):
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))


async def _sit(port: int) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await _exchange(reader, writer)
    return writer


async def _again_and_again(way: Callable[[int], Awaitable[None]], port: int) -> None:
    """A slow client that was shown the door comes back."""
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            await way(port)
        await asyncio.sleep(_PACE_S)


async def _slow_head(port: int) -> None:
    await _trickle(port, b"", b"POST / HTTP/1.1\r\nX-Slow: " + b"s" * 3600)


async def _slow_body(port: int) -> None:
    await _trickle(port, HEAD + b"3600\r\n\r\n", b" " * 3600)


async def _trickle(port: int, at_once: bytes, slowly: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(at_once)
        for byte in slowly:
            if reader.at_eof() or writer.is_closing():
                return
            writer.write(bytes([byte]))
            await asyncio.sleep(_PACE_S)
    finally:
        writer.transport.abort()


async def _slow_reader(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    try:
        writer.write(b"GET /chat/big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while await reader.read(_SLOW_READ_BYTES):
            await asyncio.sleep(_PACE_S)
    finally:
        writer.transport.abort()
