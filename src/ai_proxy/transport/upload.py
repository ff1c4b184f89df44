"""A streaming request body on its way up, in a task of its own beside the wait for the response.

It takes the body's pieces one by one, frames them as the request's head declared, and waits while the
upstream takes no more. The connection owns it and cancels it; it never outlives its exchange.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Protocol

from ai_proxy.transport.errors import WriteError

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,19})[ \t]*\r\n", re.IGNORECASE)


def declared_length(head: bytes) -> int:
    r"""Return the Content-Length that a request's head declares.

    Raises:
        WriteError: It declares none.

    Example:
        >>> declared_length(b"POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\n")
        12
    """
    match = _CONTENT_LENGTH.search(head)
    if match is None:
        raise WriteError("a streamed body needs a Content-Length, or chunked=True")
    return int(match[1])


class Sink(Protocol):
    """What an upload asks of its connection."""

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket."""

    async def drained(self) -> None:
        """Wait until the socket takes more."""

    def uploaded(self) -> None:
        """Hear that the last byte was handed over."""

    def upload_failed(self, error: Exception) -> None:
        """Hear that the body can't be completed."""


class Upload:
    """Sends one body.

    Attributes:
        complete: Every byte that the head promised was handed to the socket.
    """

    __slots__ = ("_body", "_remaining", "_sink", "_task", "complete")

    def __init__(self, sink: Sink, body: AsyncIterator[bytes], *, length: int | None) -> None:
        """Start sending; `length` is None for chunked framing."""
        self.complete = length == 0
        self._sink = sink
        self._body = body
        self._remaining = length
        self._task: asyncio.Task[None] = asyncio.create_task(self._run(), name="upload")

    def __repr__(self) -> str:
        return f"<Upload: {'complete' if self.complete else 'sending'}>"

    def cancel(self) -> None:
        """Stop at once, unless all is sent."""
        if not self.complete:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._send_all()
        except Exception as error:  # noqa: BLE001 (whatever the caller's iterator raises is the exchange's error)
            # Once complete, the connection may already serve another exchange.
            if not self.complete:
                self._sink.upload_failed(error)
        finally:
            # A generator left suspended would be finished by the collector, at a time nobody chose.
            close = getattr(self._body, "aclose", None)
            if close is not None:
                await close()

    async def _send_all(self) -> None:
        sink = self._sink
        async for piece in self._body:
            if piece:
                sink.write(self._framed(piece))
                if self._remaining == 0:
                    # Not at the iterator's end: the answer may come before that.
                    break
                await sink.drained()
        if self._remaining is None:
            sink.write(b"0\r\n\r\n")
        elif self._remaining:
            raise WriteError(f"the body ended {self._remaining} bytes short of its Content-Length")
        self.complete = True
        sink.uploaded()

    def _framed(self, piece: bytes) -> bytes:
        if self._remaining is None:
            return b"%x\r\n%b\r\n" % (len(piece), piece)
        self._remaining -= len(piece)
        if self._remaining < 0:
            raise WriteError("the body is longer than its Content-Length")
        return piece
