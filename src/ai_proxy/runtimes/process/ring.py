"""What a replica wrote last: a ring of raw bytes, split into lines only when somebody reads.

Writing costs a copy however fast the engine talks; memory is fixed. Knows nothing of processes or of asyncio.
"""

RING_BYTES = 256 * 1024
TAIL_LINES = 20
_TAIL_LINE_CHARS = 500


class ByteRing:
    r"""The last bytes of an endless output.

    Example:
        >>> ring = ByteRing(8)
        >>> ring.write(b"one\ntwo\nthree\n")
        >>> ring.read(0)
        (b'o\nthree\n', 14)
        >>> ring.read(12)
        (b'e\n', 14)
    """

    def __init__(self, capacity: int = RING_BYTES) -> None:
        self._buffer = bytearray(capacity)
        self.total = 0

    def __repr__(self) -> str:
        return f"ByteRing(capacity={len(self._buffer)}, total={self.total})"

    def write(self, data: bytes) -> None:
        """Append, forgetting the oldest."""
        capacity = len(self._buffer)
        self.total += len(data)
        kept = data[-capacity:]
        start = (self.total - len(kept)) % capacity
        first = kept[: capacity - start]
        self._buffer[start : start + len(first)] = first
        self._buffer[: len(kept) - len(first)] = kept[len(first) :]

    def read(self, since: int) -> tuple[bytes, int]:
        """Copy what came after `since` bytes in all and is still held; also returns where to go on."""
        capacity = len(self._buffer)
        size = min(self.total - since, capacity, self.total)
        start = (self.total - size) % capacity
        first = self._buffer[start : start + size]
        return bytes(first + self._buffer[: size - len(first)]), self.total

    def tail(self) -> tuple[str, ...]:
        """The last lines, for an error message: bounded in number and length."""
        lines = Lines(self)
        return tuple(line[:_TAIL_LINE_CHARS] for line in [*lines.take(), *lines.rest()][-TAIL_LINES:])


class Lines:
    r"""One reader of a ring: each line once; a reader that is too slow misses the oldest.

    Example:
        >>> ring = ByteRing()
        >>> lines = Lines(ring)
        >>> ring.write(b"one\r\ntw")
        >>> lines.take()
        ['one']
        >>> lines.rest()
        ['tw']
        >>> ring.write(b"o\n")
        >>> lines.take()
        ['two']
    """

    def __init__(self, ring: ByteRing) -> None:
        self._ring = ring
        self.position = 0
        self._unfinished = b""

    def __repr__(self) -> str:
        return f"Lines(position={self.position}, behind={self._ring.total - self.position})"

    def take(self) -> list[str]:
        """The lines that were finished since the last call."""
        behind = self._ring.total - self.position
        data, self.position = self._ring.read(self.position)
        if len(data) < behind:  # some was lost, so the first line held is not whole
            self._unfinished, data = b"", data.partition(b"\n")[2]
        *done, rest = (self._unfinished + data).split(b"\n")
        self._unfinished = rest[-RING_BYTES:]
        return [_text(line) for line in done]

    def rest(self) -> list[str]:
        """The line that has no end yet, if there is one."""
        return [_text(self._unfinished)] if self._unfinished else []


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode(errors="replace")
