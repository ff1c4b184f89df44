"""One response, read from the bytes of one connection. No I/O.

It finds the head, skips informational ones, hands out body bytes by the framing of the head, and knows the
exact byte at which the response ends. What is left after it, it only reports: such a connection must not be
used again. One reader serves one response and is thrown away with it.
"""

from collections.abc import Callable
from enum import Enum, auto

from ai_proxy.transport.chunked import ChunkedDecoder
from ai_proxy.transport.errors import ProtocolError
from ai_proxy.transport.framing import Framing, Headers, frame
from ai_proxy.transport.head import VERSIONS, parse_head
from ai_proxy.transport.limits import Limits
from ai_proxy.transport.upgrade import agrees

type InformationalHook = Callable[[int, Headers], None]


class Phase(Enum):
    """How far the response has come."""

    HEAD = auto()
    LENGTH = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()
    DONE = auto()


_PHASE_OF = {
    Framing.EMPTY: Phase.DONE,
    Framing.LENGTH: Phase.LENGTH,
    Framing.CHUNKED: Phase.CHUNKED,
    Framing.UNTIL_CLOSE: Phase.UNTIL_CLOSE,
}


class ResponseReader:
    """Reads one response.

    Attributes:
        phase: How far it has come.
        status: Of the final head; 0 before it.
        headers: Raw fields of the final head.
        head: Its raw bytes.
        persistent: The upstream keeps the connection open after the response.
        trailers: Fields after a chunked body, once it is done.
        leftover: Bytes came after the end.
        asked: The request's Upgrade field; empty if it asked for none.
        early: What came after a 101 that switches to what was asked for.
    """

    __slots__ = (
        "_bodiless", "_decoder", "_held", "_informational", "_limits", "_on_informational", "_remaining",
        "asked", "early", "head", "headers", "leftover", "persistent", "phase", "status",
        "trailers",
    )  # fmt: skip

    def __init__(
        self, limits: Limits, *, bodiless: bool = False, on_informational: InformationalHook | None = None
    ) -> None:
        self.phase = Phase.HEAD
        self.status = 0
        self.headers: Headers = []
        self.head = b""
        self.trailers: Headers = []
        self.persistent = False
        self.leftover = False
        self.asked = self.early = b""
        self._limits = limits
        self._bodiless = bodiless
        self._on_informational = on_informational
        self._informational = 0
        self._held: bytearray | None = None
        self._remaining = 0
        self._decoder: ChunkedDecoder

    def __repr__(self) -> str:
        return f"<ResponseReader: {self.phase.name.lower()}, status {self.status}>"

    @property
    def untouched(self) -> bool:
        """Whether not a byte has come."""
        return self.phase is Phase.HEAD and self._held is None and not self._informational

    def feed(self, data: bytes) -> bytes:
        """Take what one read brought.

        Args:
            data: Bytes as received, at least one.

        Returns:
            The body bytes in them; the same object where all of it is body.

        Raises:
            ProtocolError: The response is not acceptable; nothing more may be fed.
        """
        phase = self.phase
        if phase is Phase.LENGTH:
            return self._feed_length(data)
        if phase is Phase.CHUNKED:
            return self._feed_chunked(data)
        if phase is Phase.UNTIL_CLOSE:
            return data
        if phase is Phase.HEAD:
            return self._feed_head(data)
        self.leftover = True
        return b""

    def eof(self) -> bool:
        """Take the end of the stream.

        Returns:
            Whether the response is complete by it.
        """
        if self.phase is Phase.UNTIL_CLOSE:
            self.phase = Phase.DONE
        return self.phase is Phase.DONE

    def _feed_head(self, data: bytes) -> bytes:
        while True:
            head, rest = self._split_head(data)
            if not head:
                return b""
            status, headers = parse_head(head, max_headers=self._limits.max_headers)
            if status >= 200:
                break
            if status == 101 and agrees(self.asked, headers):
                self.status, self.headers, self.head, self.early = status, headers, head, rest
                self.phase = Phase.DONE
                return b""
            self._skip_informational(status, headers)
            if not rest:
                return b""
            data = rest
        self.status, self.headers, self.head = status, headers, head
        framing, self._remaining, self.persistent = frame(
            status, headers, bodiless=self._bodiless, http10=head[7] == 0x30
        )
        self.phase = _PHASE_OF[framing]
        if framing is Framing.CHUNKED:
            limits = self._limits
            self._decoder = ChunkedDecoder(max_overhead_bytes=limits.max_head_bytes, max_trailers=limits.max_headers)
            self.trailers = self._decoder.trailers
        return self.feed(rest) if rest else b""

    def _split_head(self, data: bytes) -> tuple[bytes, bytes]:
        """Return head and what follows it; two empty strings while the head is not whole."""
        held = self._held
        if held is not None:
            seen = len(held)
            held += data
            end = held.find(b"\r\n\r\n", max(seen - 3, 0))
            data = bytes(held) if end >= 0 else data
        else:
            end = data.find(b"\r\n\r\n")
        if (end if end >= 0 else len(held or data)) > self._limits.max_head_bytes:
            raise ProtocolError(f"response head over {self._limits.max_head_bytes} bytes")
        if end >= 0:
            self._held = None
            return data[: end + 4], data[end + 4 :]
        if held is None:
            self._held = bytearray(data)
        start = bytes((held or data)[:8])
        if not any(version.startswith(start) for version in VERSIONS):
            # Said at once: whoever speaks another protocol may never send the empty line we wait for.
            raise ProtocolError("not an HTTP/1 response")
        return b"", b""

    def _skip_informational(self, status: int, headers: Headers) -> None:
        if status == 101:
            raise ProtocolError("101 to something that was not asked for")
        self._informational += 1
        if self._informational > self._limits.max_informational:
            raise ProtocolError(f"more than {self._limits.max_informational} informational responses")
        if self._on_informational is not None:
            self._on_informational(status, headers)

    def _feed_length(self, data: bytes) -> bytes:
        remaining = self._remaining - len(data)
        self._remaining = remaining
        if remaining > 0:
            return data
        self.phase = Phase.DONE
        if remaining:
            self.leftover = True
            return data[:remaining]
        return data

    def _feed_chunked(self, data: bytes) -> bytes:
        decoder = self._decoder
        body = decoder.feed(data)
        if decoder.done:
            self.phase = Phase.DONE
            self.leftover = not decoder.exact
        return body
