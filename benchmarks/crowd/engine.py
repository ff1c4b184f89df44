"""The engine behind the proxy: answers at once, with a lot, without an end, or takes nothing at all."""

import asyncio
from contextlib import suppress

_ANSWER = b'{"id":"c","choices":[{"message":{"content":"' + b"a" * 520 + b'"}}]}'
_BIG_BYTES = 4 << 20
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_EVENT = b"data: " + b"e" * 1000 + b"\n\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one connection's requests; for `asyncio.start_server`."""
    # Cancelled at the end of the run; nobody waits for this task.
    with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if path == b"/sink":
                await asyncio.Event().wait()
            if path == b"/endless":
                await _endless(writer)
            await reader.readexactly(_length(head))
            content = b"b" * _BIG_BYTES if path == b"/big" else _ANSWER
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
            await writer.drain()
    writer.transport.abort()


async def _endless(writer: asyncio.StreamWriter) -> None:
    writer.write(_STREAM)
    while True:
        writer.write(b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT))
        await writer.drain()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
