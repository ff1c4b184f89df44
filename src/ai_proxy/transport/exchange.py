"""One request and its response, as its owner sees it: the head, then the body pulled at the owner's pace.

It buffers what arrived and was not read yet, and stops the socket above the high-water mark. It knows its
connection only as something to pause, resume, time and give up; it parses nothing.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from ai_proxy.transport.errors import ExchangeClosed, UpstreamClosed
from ai_proxy.transport.framing import Headers
from ai_proxy.transport.head import reason_of
from ai_proxy.transport.limits import Timeouts
from ai_proxy.transport.reader import Phase, ResponseReader
from ai_proxy.transport.upgrade import RawSocket

type Sink = Callable[[bytes], bool]
"""Takes bytes of a body in the step in which they are read; False: it takes no more for now."""


class Line(Protocol):
    """What an exchange asks of its connection."""

    def expect_bytes(self, within_s: float) -> None:
        """Fail the exchange if no byte comes in time."""

    def pause_reading(self) -> None:
        """Stop reading the socket."""

    def resume_reading(self) -> None:
        """Read the socket again."""

    def abandon(self) -> None:
        """Close the connection at once; the exchange has ended early."""


class Exchange:
    """A request that was sent and the response to it.

    The owner calls `read` until it returns `b""`, and `close` in a `finally`. When the last byte of the
    response arrives, the connection goes back to its pool by itself, read or not.

    Attributes:
        reader: The response as far as it has come.
        timeouts: The deadlines of this exchange.
        raw: The socket, once a 101 has switched it to another protocol; `take_over` makes it the caller's.
    """

    __slots__ = (
        "_buffered", "_chunks", "_error", "_high_water", "_line", "_loop", "_paused", "_sink", "_waiter",
        "raw", "reader", "timeouts",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        line: Line,
        reader: ResponseReader,
        timeouts: Timeouts,
        *,
        high_water_bytes: int,
    ) -> None:
        self.reader = reader
        self.timeouts = timeouts
        self._loop = loop
        self._high_water = high_water_bytes
        # Until the response is complete or given up
        self._line: Line | None = line
        self._paused = False
        # Until it is read
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self.raw: RawSocket | None = None

    def __repr__(self) -> str:
        phase = self.reader.phase.name.lower()
        return f"<Exchange: {self.status or 'no'} status, {phase}, {self._buffered} bytes unread>"

    @property
    def status(self) -> int:
        """Status of the response."""
        return self.reader.status

    @property
    def headers(self) -> Headers:
        """Fields of the response: raw names, order and duplicates kept."""
        return self.reader.headers

    @property
    def reason(self) -> bytes:
        """Reason phrase, perhaps empty."""
        return reason_of(self.reader.head)

    @property
    def http_version(self) -> str:
        """`1.1` or `1.0`."""
        return self.reader.head[5:8].decode("ascii")

    @property
    def trailers(self) -> Headers:
        """Trailer fields, once the body was read to its end."""
        return self.reader.trailers

    @property
    def complete(self) -> bool:
        """Whether the whole response has arrived, so that no read will wait."""
        return self.reader.phase is Phase.DONE

    # The owner's side

    async def read(self, sink: Sink | None = None) -> bytes:
        """Return the body bytes that have arrived, waiting for some if there are none.

        Args:
            sink: Given what arrives while this waits, so that only what it did not take, or what is the
                body's last, wakes the reader.

        Returns:
            At least one byte, or `b""` at the end of the body.

        Raises:
            TransportError: The response broke off; what came before it was returned by earlier reads.
        """
        while (data := self.read_nowait()) is None:
            if self._line is not None:
                self._line.expect_bytes(self.timeouts.idle_s)
            self._sink = sink
            try:
                await self.wait()
            finally:
                self._sink = None
        return data

    def read_nowait(self) -> bytes | None:
        """Return the body bytes that have arrived, `b""` at the end, or None if a read would wait.

        Raises:
            TransportError: The response broke off; what came before it was returned by earlier reads.
        """
        chunks = self._chunks
        if chunks:
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            self._buffered = 0
            if self._paused:
                self._paused = False
                if self._line is not None:
                    self._line.resume_reading()
            return data
        if self._error is not None:
            raise self._error
        return b"" if self.reader.phase is Phase.DONE else None

    async def wait_head(self) -> None:
        """Wait for the response's head.

        Raises:
            TransportError: None came.
        """
        while self.reader.phase is Phase.HEAD and self._error is None:
            await self.wait()
        if self._error is not None and not self.reader.status:
            raise self._error

    async def wait(self) -> None:
        """Wait until something happened. Cancelled, it gives up the connection at once."""
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        except BaseException:
            self.close()
            raise
        finally:
            self._waiter = None

    def close(self) -> None:
        """End the exchange: nothing to do if the response is complete, else the connection is closed."""
        line = self._line
        if line is not None:
            self.fail(ExchangeClosed("the exchange was closed"))
            self._chunks.clear()
            line.abandon()
        elif self.raw is not None:
            self.raw.transport.abort()

    def take_over(self) -> RawSocket:
        """Take the socket of an upgraded connection, which `close` then leaves alone.

        Raises:
            UpstreamClosed: There is none any more.
        """
        raw, self.raw = self.raw, None
        if raw is None or raw.transport.is_closing():
            raise UpstreamClosed("the upstream closed the connection that it had upgraded", started=True)
        return raw

    # The connection's side

    @property
    def waiting(self) -> bool:
        """Whether the owner waits for bytes."""
        return self._waiter is not None

    def gain(self, body: bytes) -> bool:
        """Take bytes of the body; say whether the owner must look at them."""
        sink, line = self._sink, self._line
        if sink is not None and line is not None and not self._chunks:
            if not sink(body):
                self._sink = None
            line.expect_bytes(self.timeouts.idle_s)
            return False
        self._chunks.append(body)
        self._buffered += len(body)
        if self._buffered > self._high_water and not self._paused and self._line is not None:
            self._paused = True
            self._line.pause_reading()
        return True

    def wake(self) -> None:
        """Let the waiting owner look again."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def detach(self) -> None:
        """Let go of the connection: the response is complete."""
        line, self._line = self._line, None
        if self._paused and line is not None:
            self._paused = False
            line.resume_reading()

    def fail(self, error: Exception) -> None:
        """Let go of the connection: the response will never be complete."""
        self._line = None
        if self._error is None:
            self._error = error
        self.wake()
