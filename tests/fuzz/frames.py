"""WebSocket frames, whatever they are: the same boundaries as by the book, whole or cut."""

from ai_proxy.proxy.frames import FrameScanner
from tests.fuzz.cutting import cuts
from tests.fuzz.judges import Finding


def check(data: bytes) -> None:
    """Check what must hold of a socket's bytes.

    Raises:
        Finding: It does not.
    """
    at_boundary, closed, message = by_the_book(data)
    for pieces in ([data], cuts(data)) if data else ():
        scanner = FrameScanner()
        seen = [scanner.feed(piece) for piece in pieces]
        if (scanner.at_boundary, scanner.closed, any(seen)) != (at_boundary, closed, message):
            raise Finding(f"{scanner!r}, by the book at a boundary: {at_boundary}, closed: {closed}, {message}")
        _check_rest(scanner, data)


def _check_rest(scanner: FrameScanner, data: bytes) -> None:
    """Whatever follows, what ends the open frame leaves it at a boundary, and takes no more."""
    follows = bytes(300)
    taken = scanner.rest_of_frame(follows)
    if taken < len(follows) and not scanner.at_boundary:
        raise Finding(f"{scanner!r} took {taken} bytes")
    if by_the_book(data + follows[:taken])[0] != scanner.at_boundary:
        raise Finding(f"{scanner!r} took {taken} bytes, and is elsewhere")


def by_the_book(data: bytes) -> tuple[bool, bool, bool]:
    """RFC 6455 §5.2, read one frame after another: ends at a boundary, has a close frame, has some of a message."""
    at, closed, message = 0, False, False
    while at < len(data):
        opcode = data[at] & 0x0F
        message = message or opcode < 8
        closed = closed or opcode == 8
        if len(data) < at + 2:
            return False, closed, message
        size = data[at + 1] & 0x7F
        extra = {126: 2, 127: 8}.get(size, 0)
        payload_at = at + 2 + extra + (4 if data[at + 1] & 0x80 else 0)
        if len(data) < payload_at:
            return False, closed, message
        at = payload_at + (int.from_bytes(data[at + 2 : at + 2 + extra]) if extra else size)
    return at == len(data), closed, message
