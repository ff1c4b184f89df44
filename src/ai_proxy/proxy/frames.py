"""WebSocket frames by their lengths alone: where one ends, whether it is part of a message, and our own last one. Pure.

Payloads are neither unmasked nor read, and nothing is judged: whether frames make sense is the endpoints' business.
(RFC 6455 §5.2)
"""

from typing import Final

_CONTROL: Final = 0x08
_CLOSE: Final = 0x08
_OPCODE: Final = 0x0F
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_LENGTH_SIZES: Final = {126: 2, 127: 8}
_NO_MASK: Final = bytes(4)  # leaves what it is applied to as it is
_MAX_CONTROL_BYTES: Final = 125


class FrameScanner:
    r"""Follows the frames of one direction, however they are cut into reads.

    Attributes:
        closed: The head of a close frame was seen: no other may follow it.

    Example:
        >>> scanner = FrameScanner()
        >>> scanner.feed(b"\x81\x05hel"), scanner.at_boundary
        (True, False)
        >>> scanner.rest_of_frame(b"lo\x89\x00"), scanner.at_boundary
        (2, True)
        >>> scanner.feed(b"\x89\x00"), scanner.closed
        (False, False)
    """

    __slots__ = ("_head", "_left", "_message", "closed")

    def __init__(self) -> None:
        self.closed = False
        # Of the frame that is open: its head as far as it came, the bytes of payload to come, and its kind
        self._head = b""
        self._left = 0
        self._message = False

    def __repr__(self) -> str:
        where = "between frames" if self.at_boundary else f"{self._left} bytes to go"
        return f"<FrameScanner: {where}{', closed' if self.closed else ''}>"

    @property
    def at_boundary(self) -> bool:
        """Whether a frame may begin here."""
        return not self._left and not self._head

    def feed(self, data: bytes) -> bool:
        """Take bytes; say whether any of them are a message's, and not a ping's, a pong's or a close frame's."""
        at, size, message = 0, len(data), False
        while at < size:
            at = self._step(data, at)
            message = message or self._message
        return message

    def rest_of_frame(self, data: bytes) -> int:
        """Take bytes only up to the end of the frame that is open; say how many these are."""
        at, size = 0, len(data)
        while at < size and not self.at_boundary:
            at = self._step(data, at)
        return at

    def _step(self, data: bytes, at: int) -> int:
        """Take a piece of payload, or of a head; return where it ends."""
        if self._left:
            taken = min(self._left, len(data) - at)
            self._left -= taken
            return at + taken
        head = self._head
        if not head:
            opcode = data[at] & _OPCODE
            self._message = not opcode & _CONTROL
            self.closed = self.closed or opcode == _CLOSE
        missing = _head_size(head) - len(head)
        piece = data[at : at + missing]
        self._head = head = head + piece
        if len(head) >= 2 and len(head) == _head_size(head):
            self._left, self._head = _payload_size(head), b""
        return at + len(piece)


def close_frame(code: int, reason: str = "", *, masked: bool = False) -> bytes:
    r"""Write a close frame; the reason is cut to what fits.

    Args:
        code: Why, as RFC 6455 §7.4.1 lists it.
        reason: Why, in words.
        masked: As a client sends it.

    Example:
        >>> close_frame(1001, "bye"), close_frame(1001, masked=True)
        (b'\x88\x05\x03\xe9bye', b'\x88\x82\x00\x00\x00\x00\x03\xe9')
    """
    payload = code.to_bytes(2) + reason.encode()[: _MAX_CONTROL_BYTES - 2].decode(errors="ignore").encode()
    if masked:
        return bytes((0x80 | _CLOSE, _MASKED | len(payload))) + _NO_MASK + payload
    return bytes((0x80 | _CLOSE, len(payload))) + payload


def _head_size(head: bytes) -> int:
    if len(head) < 2:
        return 2
    second = head[1]
    return 2 + _LENGTH_SIZES.get(second & _LENGTH, 0) + (4 if second & _MASKED else 0)


def _payload_size(head: bytes) -> int:
    length = head[1] & _LENGTH
    size = _LENGTH_SIZES.get(length)
    return length if size is None else int.from_bytes(head[2 : 2 + size])
