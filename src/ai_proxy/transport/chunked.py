r"""The chunked coding of a response body: chunks in, body bytes and trailers out. No I/O.

It also watches two things that the parser under it does not: how many bytes an upstream spends on framing
without sending any body, and whether a single byte follows the end.
"""

from httptools import HttpParserError, HttpResponseParser

from ai_proxy.transport.errors import ProtocolError

# llhttp decodes chunks only inside a message; this opens one whose only content is its coding.
_PREAMBLE = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
# A chunk of one byte takes six (`1 CRLF x CRLF`): honest framing stays below this many bytes per body byte.
_FAIR_BYTES_PER_BODY_BYTE = 8


class _BeyondTheEndError(Exception):
    """Stops the parser."""


class ChunkedDecoder:
    """Decodes one chunked body.

    Attributes:
        trailers: Fields after the last chunk; complete once `done`.
        done: The body's end was read.
        exact: The last byte fed was the body's last one.
    """

    __slots__ = ("_max_fields", "_max_overhead", "_overhead", "_parser", "_parts", "_tail", "done", "exact", "trailers")

    def __init__(self, *, max_overhead_bytes: int = 64 * 1024, max_trailers: int = 256) -> None:
        self.trailers: list[tuple[bytes, bytes]] = []
        self.done = False
        self.exact = True
        self._max_overhead = max_overhead_bytes
        self._max_fields = max_trailers
        self._overhead = 0
        self._parts: list[bytes] = []
        self._tail = b""
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._parser.feed_data(_PREAMBLE)
        self.trailers.clear()

    def feed(self, data: bytes) -> bytes:
        r"""Decode what one read brought.

        Args:
            data: Bytes as received.

        Returns:
            The body bytes in them, joined.

        Raises:
            ProtocolError: The coding is broken, or spends too much on anything but the body.

        Example:
            >>> decoder = ChunkedDecoder()
            >>> decoder.feed(b"2\r\nab\r\n3\r\ncde\r\n"), decoder.done
            (b'abcde', False)
            >>> decoder.feed(b"0\r\nX-Sum: 1\r\n\r\n"), decoder.done, decoder.trailers
            (b'', True, [(b'X-Sum', b'1')])
        """
        self._tail = data[-5:] if len(data) >= 5 else (self._tail + data)[-5:]
        try:
            if self._parser is not None:
                self._parser.feed_data(data)
        except HttpParserError as error:
            # After the end anything may follow: it is not part of this body, and never read.
            if not self.done:
                raise ProtocolError(f"bad chunked body: {error}") from None
            self.exact = False
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        if self.done:
            self._close()
        else:
            self._weigh(len(data), len(body))
        return body

    def _close(self) -> None:
        # The parser skips empty lines between messages without a word, so the end is checked by its bytes.
        self.exact = self.exact and self._tail[1:] == b"\r\n\r\n" and self._tail[0] not in b"\r\n"
        # The parser refers to this object: without this, each body would leave a cycle to the collector.
        self._parser = None

    def _weigh(self, received: int, body: int) -> None:
        overhead = self._overhead + received - _FAIR_BYTES_PER_BODY_BYTE * body
        self._overhead = max(overhead, 0)
        if overhead > self._max_overhead or len(self.trailers) > self._max_fields:
            raise ProtocolError("too much chunk framing or trailers")

    # Parser callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a trailer field."""
        self.trailers.append((name, value))

    def on_body(self, body: bytes) -> None:
        """Keep the data of a chunk."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Note the end."""
        self.done = True

    def on_message_begin(self) -> None:
        """Read no further than the end: fields and data of what follows it would pass for this body's."""
        if self.done:
            raise _BeyondTheEndError
