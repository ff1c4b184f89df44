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
_EXTENDED: Final = 126
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
        # Of the frame that is open: its head while it is not whole, then the bytes of payload to come, and its kind
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
        at, message = self._left, self._left > 0 and self._message
        if self._head:
            data, self._head = self._head + data, b""
        end = len(data)
        while at < end:
            first = data[at]
            if not first & _CONTROL:
                message = self._message = True
            else:
                self._message = False
                self.closed = self.closed or first & _OPCODE == _CLOSE
            size = _frame_size(data, at)
            if not size:
                self._head = data[at:]
                at = end
            at += size
        self._left = at - end
        return message

    def rest_of_frame(self, data: bytes) -> int:
        """Take bytes only up to the end of the frame that is open; say how many these are."""
        head = self._head
        if head:
            whole = head + data
            size = _frame_size(whole, 0)
            if not size:
                self._head = whole
                return len(data)
            self._head, self._left = b"", size - len(head)
        taken = min(self._left, len(data))
        self._left -= taken
        return taken


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


def _frame_size(data: bytes, at: int) -> int:
    """The size of the frame that begins at a place, head included; 0 if that much of its head is not there."""
    start = at + 2
    if start > len(data):
        return 0
    second = data[at + 1]
    length = second & _LENGTH
    if length >= _EXTENDED:
        end = start + (2 if length == _EXTENDED else 8)
        length, start = int.from_bytes(data[start:end]), end
    if second & _MASKED:
        start += 4
    return start - at + length if start <= len(data) else 0
