"""A container's output as lines: the engine's frames taken apart, memory bounded whatever the engine prints. Pure."""

import struct
from collections.abc import Iterator

_FRAME = struct.Struct(">BxxxL")
_MAX_LINE_BYTES = 64 * 1024


class LogLines:
    r"""Turns the bytes of a log stream into lines, one buffer for each of the two outputs.

    A line is cut where it would exceed 64 KiB, so that a program that never ends a line costs no memory.

    Example:
        >>> lines = LogLines()
        >>> list(lines.feed(bytes([1, 0, 0, 0, 0, 0, 0, 6]) + b"one"))
        []
        >>> list(lines.feed(b"\ntw" + bytes([2, 0, 0, 0, 0, 0, 0, 4]) + b"err\n"))
        ['one', 'err']
        >>> list(lines.end())
        ['tw']
    """

    def __init__(self) -> None:
        # Of the frame at hand
        self._head = bytearray()
        self._output = 1
        self._left = 0
        # Of the line at hand, by output
        self._pending: dict[int, bytearray] = {}

    def __repr__(self) -> str:
        return f"LogLines(pending={ {output: len(line) for output, line in self._pending.items()} })"

    def feed(self, data: bytes) -> Iterator[str]:
        """Take bytes as they came; yield the lines that they complete."""
        view = memoryview(data)
        while view:
            if not self._left:
                missing = _FRAME.size - len(self._head)
                self._head += view[:missing]
                view = view[missing:]
                if len(self._head) == _FRAME.size:
                    self._output, self._left = _FRAME.unpack(self._head)
                    self._head.clear()
                continue
            part, view = view[: self._left], view[self._left :]
            self._left -= len(part)
            yield from self._split(bytes(part))

    def end(self) -> Iterator[str]:
        """Yield what no newline ended."""
        for line in self._pending.values():
            if line:
                yield _text(line)
        self._pending.clear()

    def _split(self, part: bytes) -> Iterator[str]:
        line = self._pending.setdefault(self._output, bytearray())
        *complete, rest = part.split(b"\n")
        for piece in complete:
            yield _text(line + piece)
            line.clear()
        line += rest
        while len(line) > _MAX_LINE_BYTES:
            yield _text(line[:_MAX_LINE_BYTES])
            del line[:_MAX_LINE_BYTES]


def _text(line: bytes | bytearray) -> str:
    return line.decode("utf-8", "replace").removesuffix("\r")
