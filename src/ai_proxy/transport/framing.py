"""Where a response's body ends, read from its head alone. Pure.

The one place that decides framing. It must agree with what any other HTTP implementation on the way would
decide, so whatever RFC 9112 §6.3 calls ambiguous is refused, never repaired.
"""

from collections.abc import Iterable
from enum import Enum, auto

from ai_proxy.transport.errors import ProtocolError

type Headers = list[tuple[bytes, bytes]]

_OWS = b" \t"


class Framing(Enum):
    """How the end of a body is found."""

    EMPTY = auto()
    LENGTH = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()


def frame(
    status: int, headers: Iterable[tuple[bytes, bytes]], *, bodiless: bool = False, http10: bool = False
) -> tuple[Framing, int, bool]:
    """Decide framing, length and persistence of a response.

    After an event stream a connection is not used again: llama.cpp's server closes it then, whatever its head has
    said, and a request that meets the end is lost. Beside a stream, a new connection costs nothing.

    Args:
        status: The final status.
        headers: Raw fields in the order received.
        bodiless: The request was a HEAD.
        http10: The response says HTTP/1.0.

    Returns:
        The framing, the length (0 unless framed by length), and whether the connection may persist.

    Raises:
        ProtocolError: The framing is ambiguous or unsupported.

    Example:
        >>> frame(200, [(b"Content-Length", b"5")])
        (<Framing.LENGTH: 2>, 5, True)
        >>> frame(200, [(b"Transfer-Encoding", b"chunked"), (b"Connection", b"close")])
        (<Framing.CHUNKED: 3>, 0, False)
        >>> frame(200, [])
        (<Framing.UNTIL_CLOSE: 4>, 0, False)
    """
    length: int | None = None
    chunked = False
    persistent = not http10
    for name, value in headers:
        # Names are compared by size first: most fields are none of these four.
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            if length is not None:
                raise ProtocolError("two Content-Length fields")
            length = _content_length(value)
        elif size == 17 and name.lower() == b"transfer-encoding":
            if chunked or http10 or value.strip(_OWS).lower() != b"chunked":
                raise ProtocolError("Transfer-Encoding is not exactly one `chunked`")
            chunked = True
        elif size == 10 and name.lower() == b"connection":
            persistent = persistent and b"close" not in [token.strip() for token in value.lower().split(b",")]
        elif size == 12 and name.lower() == b"content-type":
            persistent = persistent and not value.lower().startswith(b"text/event-stream")
    if chunked and length is not None:
        raise ProtocolError("Content-Length and Transfer-Encoding")
    if bodiless or status in {204, 304} or length == 0:
        return Framing.EMPTY, 0, persistent
    if chunked:
        return Framing.CHUNKED, 0, persistent
    if length is not None:
        return Framing.LENGTH, length, persistent
    return Framing.UNTIL_CLOSE, 0, False


def _content_length(value: bytes) -> int:
    digits = value.strip(_OWS)
    # `int` alone would take a sign, spaces and underscores; with more digits, others might count in 63 bits.
    if not digits.isdigit() or len(digits) > 18:
        raise ProtocolError("Content-Length is not a number")
    return int(digits)
