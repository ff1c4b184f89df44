"""The head of a response: status and raw fields, parsed strictly from exactly its own bytes. Pure.

The parser lives no longer than one head, so nothing of an earlier response can leak into a later one. Body
bytes never come here.
"""

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from ai_proxy.transport.errors import ProtocolError
from ai_proxy.transport.framing import Headers

VERSIONS = (b"HTTP/1.1", b"HTTP/1.0")


class _Fields:
    """What the parser reports of a head."""

    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


def parse_head(head: bytes, *, max_headers: int = 256) -> tuple[int, Headers]:
    r"""Parse a response head.

    Args:
        head: All bytes from the status line to the empty line, both included, and nothing after it.
        max_headers: How many fields are accepted.

    Returns:
        The status, and the fields: names as received, order and duplicates kept.

    Raises:
        ProtocolError: The bytes are not a response head that we accept.

    Example:
        >>> parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        (200, [(b'Content-Length', b'2')])
    """
    if head[:8] not in VERSIONS:
        raise ProtocolError("not an HTTP/1 response")
    fields = _Fields()
    parser = HttpResponseParser(fields)
    try:
        parser.feed_data(head)
    except HttpParserUpgrade:
        pass  # a 101, which is the caller's to judge
    except HttpParserError as error:
        raise ProtocolError(f"bad response head: {error}") from None
    status: int = parser.get_status_code()
    if not 100 <= status <= 599:
        raise ProtocolError(f"status {status} is outside 100-599")
    if len(fields.headers) > max_headers:
        raise ProtocolError(f"more than {max_headers} response header fields")
    return status, fields.headers


def reason_of(head: bytes) -> bytes:
    r"""Return the reason phrase of a head, without control bytes.

    Example:
        >>> reason_of(b"HTTP/1.1 404 Not Found\r\n\r\n"), reason_of(b"HTTP/1.1 200\r\n\r\n")
        (b'Not Found', b'')
    """
    phrase = head[13 : head.index(b"\r\n")]
    return bytes(byte for byte in phrase if byte >= 0x20 and byte != 0x7F)
