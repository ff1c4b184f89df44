r"""The response's bytes on the wire: status line, fields as the app gave them, and how the body's end is told. Pure."""

from collections.abc import Iterable
from enum import Enum, auto
from http import HTTPStatus
from typing import Final, NamedTuple

type Fields = Iterable[tuple[bytes, bytes]]

_PHRASES: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
_STATUS_LINES: Final = {code: b"HTTP/1.1 %d %b" % (code, _PHRASES.get(code, b"")) for code in range(200, 600)}
_OURS: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_OUR_LENGTHS: Final = frozenset(map(len, _OURS))
# What says how a message is framed, routed, cached or believed is only so in its head (RFC 9110, 6.5.1).
_FORBIDDEN_TRAILERS: Final = _OURS | frozenset(
    b"age cache-control content-encoding content-range content-type date expires host keep-alive location "
    b"proxy-authenticate proxy-authorization proxy-connection retry-after set-cookie te trailer upgrade vary "
    b"www-authenticate".split()
)
_BODILESS: Final = frozenset({204, 304})
_line: Final = b": ".join


class Framing(Enum):
    """How a client knows where a response's body ends."""

    NONE = auto()
    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()


class Head(NamedTuple):
    """A response's head, ready to be sent.

    Attributes:
        data: Its bytes.
        framing: How the body follows.
        length: Bytes of that body, where they are declared.
        close: The connection ends after this response.
    """

    data: bytes
    framing: Framing
    length: int
    close: bool


def response_head(status: int, fields: Fields, *, to_head: bool, chunks: bool, close: bool) -> Head:
    r"""Write the head of a response.

    Args:
        status: Final status, 200 to 599.
        fields: Names and values, written as they are except for framing and `Connection`, which are ours.
        to_head: The request's method is HEAD.
        chunks: The client takes chunks.
        close: The connection ends after this response anyway.

    Raises:
        ValueError: A name or value would break out of its line, or the length is no number.

    Example:
        >>> response_head(200, [(b"X-Name", b"v")], to_head=False, chunks=True, close=False).data
        b'HTTP/1.1 200 OK\r\nX-Name: v\r\ntransfer-encoding: chunked\r\n\r\n'
    """
    kept, length = [], -1
    for field in fields:
        name = field[0]
        if len(name) in _OUR_LENGTHS and (kind := name.lower()) in _OURS:
            if kind == b"connection":
                close = close or b"close" in field[1].lower()
            elif kind == b"content-length" and length < 0:
                length = int(field[1])
        else:
            kept.append(field)
    framing = _framing(status, length, to_head=to_head, chunks=chunks)
    lines = [_STATUS_LINES[status], *map(_line, kept)]
    if length >= 0 and status != 204:
        lines.append(b"content-length: %d" % length)
    elif framing is Framing.CHUNKED:
        lines.append(b"transfer-encoding: chunked")
    if close or framing is Framing.CLOSE:
        close = True
        lines.append(b"connection: close")
    return Head(_joined(lines), framing, length, close)


def switching_head(fields: Fields) -> bytes:
    r"""Write the head of a 101.

    Args:
        fields: Names and values, written as they are; Upgrade among them, framing not.

    Raises:
        ValueError: A name or value would break out of its line.

    Example:
        >>> switching_head([(b"Upgrade", b"websocket"), (b"Content-Length", b"0")])
        b'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n'
    """
    kept = [_line(field) for field in fields if field[0].lower() not in _OURS]
    return _joined([b"HTTP/1.1 101 Switching Protocols", *kept, b"connection: upgrade"])


def trailer_section(fields: Fields) -> bytes:
    r"""Write the end of a chunked body: last chunk, and trailer fields that may be there.

    Example:
        >>> trailer_section([(b"X-Took", b"1"), (b"Content-Length", b"5")])
        b'0\r\nX-Took: 1\r\n\r\n'
    """
    kept = [field for field in fields if field[0].lower() not in _FORBIDDEN_TRAILERS]
    return _joined([b"0", *map(_line, kept)])


def _framing(status: int, length: int, *, to_head: bool, chunks: bool) -> Framing:
    if to_head or status in _BODILESS:
        return Framing.NONE
    if length >= 0:
        return Framing.LENGTH
    return Framing.CHUNKED if chunks else Framing.CLOSE


def _joined(lines: list[bytes]) -> bytes:
    """Join lines, of which none may hold a line end, and end them with an empty one."""
    lines += b"", b""
    data = b"\r\n".join(lines)
    ends = len(lines) - 1
    if data.count(b"\n") != ends or data.count(b"\r") != ends or b"\0" in data:
        raise ValueError("a header name or value holds a line end or NUL")
    return data
