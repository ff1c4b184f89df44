"""One HTTP/1.1 connection to an upstream: an asyncio protocol that carries one exchange at a time.

It owns the socket, its deadline and its flow control, and decides in one place, `_finish`, whether the
connection may serve again. It knows nothing of pools beyond the `Owner` that it reports to, and leaves
every byte of HTTP to the reader.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol, cast

from ai_proxy.transport.deadline import Deadline
from ai_proxy.transport.errors import (
    FirstByteTimeout,
    IdleTimeout,
    ProtocolError,
    TransportError,
    UpstreamClosed,
    WriteError,
    WriteTimeout,
)
from ai_proxy.transport.exchange import Exchange
from ai_proxy.transport.limits import Limits, Timeouts
from ai_proxy.transport.origin import Origin
from ai_proxy.transport.reader import InformationalHook, Phase, ResponseReader
from ai_proxy.transport.tls import hold_little
from ai_proxy.transport.upgrade import RawSocket
from ai_proxy.transport.upload import Upload, declared_length

type Body = bytes | AsyncIterator[bytes] | None

# Below this, one copied write is cheaper than two buffers.
_JOIN_BELOW_BYTES = 64 * 1024


class Owner(Protocol):
    """Whom a connection reports to."""

    def made(self, connection: "Connection") -> None:
        """Hear that the socket stands."""

    def released(self, connection: "Connection") -> None:
        """Hear that an exchange ended cleanly and the connection may serve another."""

    def lost(self, connection: "Connection") -> None:
        """Hear that the socket is gone; said once, last of all."""


class Connection(asyncio.Protocol):
    """A connection to one origin.

    Attributes:
        origin: Where it leads.
        idle_since: Loop time of its last release.
        exchanges: How many it has begun.
        reads: How often bytes came.
    """

    __slots__ = (
        "_closed", "_deadline", "_drain", "_exchange", "_limits", "_loop", "_owner",
        "_reported", "_transport", "_upload",
        "_write_paused", "exchanges", "idle_since", "origin", "reads",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, origin: Origin, owner: Owner, limits: Limits) -> None:
        # For the life of the connection
        self.origin = origin
        self.idle_since = 0.0
        self.exchanges = 0
        self.reads = 0
        self._loop = loop
        self._owner = owner
        self._limits = limits
        self._deadline = Deadline(loop, self._expired)
        self._transport: asyncio.Transport
        self._closed = False
        self._reported = False
        # Flow control of writing
        self._write_paused = False
        self._drain: asyncio.Future[None] | None = None
        # For the life of an exchange
        self._exchange: Exchange | None = None
        self._upload: Upload | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "active" if self._exchange is not None else "idle"
        return f"<Connection {self.origin}: {state}, {self.exchanges} exchanges>"

    @property
    def usable(self) -> bool:
        """Whether a new exchange may begin."""
        return not self._closed and self._exchange is None and not self._transport.is_closing()

    # The caller's side

    def start(
        self,
        head: bytes,
        body: Body,
        *,
        method: bytes,
        timeouts: Timeouts,
        chunked: bool = False,
        upgrade: bytes = b"",
        on_informational: InformationalHook | None = None,
    ) -> Exchange:
        """Send a request.

        Args:
            head: The complete head, empty line included.
            body: All of the body, or its pieces as they come, or None.
            method: As in the head; a HEAD's response ends at its headers.
            timeouts: Deadlines of the exchange.
            chunked: The head declares a chunked body, and the pieces are framed so.
            upgrade: The head's Upgrade field; the connection serves no other exchange then.
            on_informational: Called with status and fields of each 1xx response.

        Returns:
            The exchange; its response is still to come.

        Raises:
            WriteError: A streamed body has no declared framing; nothing was sent.
        """
        streamed = body is not None and not isinstance(body, bytes)
        try:
            length = declared_length(head) if streamed and not chunked else None
        except WriteError:
            self._owner.released(self)
            raise
        reader = ResponseReader(self._limits, bodiless=method == b"HEAD", on_informational=on_informational)
        reader.asked = upgrade
        exchange = Exchange(self._loop, self, reader, timeouts, high_water_bytes=self._limits.high_water_bytes)
        self._exchange = exchange
        self.exchanges += 1
        if body is None or isinstance(body, bytes):
            self._write_request(head, body)
            self._deadline.set(timeouts.first_byte_s)
        else:
            self._transport.write(head)
            self._upload = Upload(self, body, length=length)
        return exchange

    def abort(self) -> None:
        """Close the socket at once, dropping what is unsent and unread."""
        if self._closed:
            return
        self._closed = True
        self._deadline.cancel()
        self._stop_upload()
        self._transport.abort()

    def report_lost(self) -> None:
        """Tell the owner, once, that the socket is gone.

        For `connection_lost`, and for whoever cuts the making of a connection off: uvloop then closes the
        socket without a word to its protocol, while asyncio reports it later.
        """
        self._closed = True
        if not self._reported:
            self._reported = True
            self._owner.lost(self)

    def _write_request(self, head: bytes, body: bytes | None) -> None:
        if not body:
            self._transport.write(head)
        elif len(body) < _JOIN_BELOW_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    # The exchange's side

    def expect_bytes(self, within_s: float) -> None:
        """Fail the exchange if no byte comes in time."""
        self._deadline.set(within_s)

    def pause_reading(self) -> None:
        """Stop reading: the response's owner is slower than the upstream."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._closed:
            self._transport.resume_reading()

    def abandon(self) -> None:
        """Close: the exchange was ended before its response was complete."""
        self._exchange = None
        self.abort()

    # The upload's side

    def write(self, data: bytes) -> None:
        """Hand bytes of the request's body to the socket."""
        self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the socket takes more of the body."""
        exchange = self._exchange
        if self._write_paused and exchange is not None:
            self._deadline.set(exchange.timeouts.idle_s)
            self._drain = self._loop.create_future()
            try:
                await self._drain
            finally:
                self._drain = None

    def uploaded(self) -> None:
        """Expect the response from now on."""
        exchange = self._exchange
        if exchange is not None and exchange.reader.phase is Phase.HEAD:
            self._deadline.set(exchange.timeouts.first_byte_s)

    def upload_failed(self, error: Exception) -> None:
        """End the exchange: its request can't be completed."""
        # Forgotten first: cancelled from within, the upload could not let its source clean up.
        self._upload = None
        self._fail(error)

    def _stop_upload(self) -> bool:
        """Return whether the request's body had been sent whole."""
        upload, self._upload = self._upload, None
        if upload is None:
            return True
        upload.cancel()
        return upload.complete

    # The socket's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket's transport."""
        # A cast: uvloop has transports of its own, of no common class.
        self._transport = cast("asyncio.Transport", transport)
        if self._closed:
            self._transport.abort()
        else:
            hold_little(self._transport)
            self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        """Pass what was read to the exchange."""
        self.reads += 1
        exchange = self._exchange
        if exchange is None:
            # Bytes that nobody asked for: whatever they are, they must not become someone's response.
            self.abort()
            return
        reader = exchange.reader
        had_head = reader.status
        try:
            body = reader.feed(data)
        except ProtocolError as error:
            self._fail(error)
            return
        if not reader.status:
            return
        if not had_head and reader.status >= 300 and self._upload is not None:
            # The upstream has decided without the rest of the body. Sending on could draw an RST, and with
            # it lose the response that explains the refusal.
            self._upload.cancel()
        if reader.phase is Phase.DONE:
            self._finish(exchange, reader)
        if not body or exchange.gain(body):
            exchange.wake()

    def eof_received(self) -> None:
        """Take the upstream's FIN: the end of a close-delimited body, else the end too early."""
        exchange = self._exchange
        if exchange is None:
            return
        if exchange.reader.eof():
            self._finish(exchange, exchange.reader)
            exchange.wake()
        else:
            self._fail(self._closed_early(exchange, None))

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end of the socket, to the exchange on it and to the owner."""
        exchange = self._exchange
        if exchange is not None:
            self._fail(self._closed_early(exchange, exc))
        self._deadline.cancel()
        self._stop_upload()
        self.report_lost()

    def pause_writing(self) -> None:
        """Hold the upload: the upstream reads slower than the body comes."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Let the upload go on."""
        self._write_paused = False
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)

    # Ends of an exchange

    def _finish(self, exchange: Exchange, reader: ResponseReader) -> None:
        """Let go of a complete response; keep the connection only if nothing at all is left on it."""
        exchange.detach()
        self._exchange = None
        request_sent = self._stop_upload() and not self._transport.get_write_buffer_size()
        if reader.persistent and request_sent and not reader.leftover and not reader.asked:
            self._owner.released(self)
        elif reader.status == 101 and request_sent:
            exchange.raw = self._leave_http(reader.early)
        else:
            self.abort()

    def _leave_http(self, early: bytes) -> RawSocket:
        self._deadline.cancel()
        transport = self._transport
        transport.pause_reading()
        return RawSocket(transport, early, transport.pause_reading, transport.resume_reading, self._count)

    def _count(self) -> None:
        self.reads += 1

    def _fail(self, error: Exception) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.fail(error)
        self.abort()

    def _expired(self) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if self._drain is not None:
            self._fail(WriteTimeout("the upstream takes no more of the request"))
        elif exchange.waiting:
            error = self._late(exchange)
            if error is not None:
                self._fail(error)

    def _late(self, exchange: Exchange) -> TransportError | None:
        if exchange.reader.status:
            return IdleTimeout(f"no byte of the response for {exchange.timeouts.idle_s} s")
        if self._upload is not None and not self._upload.complete:
            # The body is still coming from its source, whose own deadline this is.
            return None
        return FirstByteTimeout(f"no response within {exchange.timeouts.first_byte_s} s")

    def _closed_early(self, exchange: Exchange, cause: Exception | None) -> UpstreamClosed:
        untouched = exchange.reader.untouched
        where = "before its response" if untouched else "in the middle of its response"
        error = UpstreamClosed(
            f"the upstream closed the connection {where}",
            started=not untouched,
            stale=untouched and self.exchanges > 1,
        )
        error.__cause__ = cause
        return error
