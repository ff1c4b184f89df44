"""The byte ring against the plain way to do it: keep everything, and cut."""

from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.runtimes.process.ring import RING_BYTES, TAIL_LINES, ByteRing, Lines

PIECES = st.lists(st.binary(max_size=20), max_size=20)


@given(pieces=PIECES, capacity=st.integers(1, 16))
def test_holds_the_last_bytes(pieces: list[bytes], capacity: int) -> None:
    ring = ByteRing(capacity)
    for piece in pieces:
        ring.write(piece)
    everything = b"".join(pieces)
    assert ring.read(0) == (everything[-capacity:], len(everything))


@given(pieces=PIECES, capacity=st.integers(1, 16))
def test_a_reader_that_keeps_up_misses_nothing(pieces: list[bytes], capacity: int) -> None:
    ring, position, seen = ByteRing(capacity), 0, b""
    for piece in pieces:
        for start in range(0, len(piece), capacity):
            ring.write(piece[start : start + capacity])
            data, position = ring.read(position)
            seen += data
    assert seen == b"".join(pieces)


@given(pieces=PIECES)
def test_lines_are_those_of_the_whole_output_however_it_came(pieces: list[bytes]) -> None:
    ring = ByteRing()
    lines, seen = Lines(ring), []
    for piece in pieces:
        ring.write(piece)
        seen += lines.take()
    expected = b"".join(pieces).split(b"\n")
    assert [*seen, *lines.rest()] == [
        line.removesuffix(b"\r").decode(errors="replace") for line in (expected if expected[-1] else expected[:-1])
    ]


def test_a_reader_that_is_too_slow_goes_on_at_a_whole_line() -> None:
    ring = ByteRing(16)
    lines = Lines(ring)
    ring.write(b"begun")
    assert lines.take() == []
    ring.write(b" and lost\nalso lost\nkept\nalso kept\n")
    assert lines.take() == ["kept", "also kept"]


def test_a_line_without_end_stays_bounded() -> None:
    ring = ByteRing()
    lines = Lines(ring)
    for _ in range(4):
        ring.write(b"x" * (RING_BYTES // 2))
        lines.take()
    assert len(lines.rest()[0]) == RING_BYTES


def test_the_tail_is_bounded_in_lines_and_length() -> None:
    ring = ByteRing()
    for number in range(100):
        ring.write(b"%d %s\n" % (number, b"x" * 1000))
    ring.write(b"unfinished")
    tail = ring.tail()
    assert len(tail) == TAIL_LINES
    assert max(map(len, tail)) == 500
    assert tail[-1] == "unfinished"
