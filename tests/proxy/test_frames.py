"""Frames found by their lengths: the same, however a stream of them is cut. RFC 6455 §5.2."""

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.proxy.frames import FrameScanner, close_frame

SIZES = st.sampled_from([0, 1, 125, 126, 127, 300, 65535, 65536])


@dataclass(frozen=True)
class Frame:
    """A frame, its bytes, and what it is."""

    data: bytes
    is_message: bool
    is_close: bool


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    opcode, size, masked = draw(st.sampled_from([0, 1, 2, 8, 9, 10])), draw(SIZES), draw(st.booleans())
    if opcode >= 8:
        size = min(size, 125)
    mask = 0x80 if masked else 0
    if size < 126:
        length = bytes([mask | size])
    elif size < 65536:
        length = struct.pack(">BH", mask | 126, size)
    else:
        length = struct.pack(">BQ", mask | 127, size)
    head = bytes([draw(st.sampled_from([0, 0x40, 0x80])) | opcode]) + length + (b"mask" if masked else b"")
    return Frame(head + b"\x88" * size, opcode < 8, opcode == 8)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    starts = [0, *ends[:-1]]
    return [data[start:end] for start, end in zip(starts, ends, strict=True) if start < end]


PLACES = st.lists(st.integers(0, 1 << 20), max_size=12)


@given(st.lists(frames(), max_size=6), PLACES)
def test_b63_any_cut_of_whole_frames_ends_between_frames(stream: list[Frame], places: list[int]) -> None:
    scanner, taken = FrameScanner(), 0
    boundaries, total = {0}, 0
    for frame in stream:
        total += len(frame.data)
        boundaries.add(total)

    for piece in cut(b"".join(frame.data for frame in stream), places):
        touched, at = False, 0
        for frame in stream:
            overlaps = at < taken + len(piece) and at + len(frame.data) > taken
            touched, at = touched or (overlaps and frame.is_message), at + len(frame.data)
        assert scanner.feed(piece) is touched
        taken += len(piece)
        assert scanner.at_boundary is (taken in boundaries)

    assert scanner.at_boundary
    assert scanner.closed is any(frame.is_close for frame in stream)


@given(frames(), frames(), st.integers(1, 70_000), PLACES)
def test_b63_the_rest_of_an_open_frame_ends_where_the_frame_ends(
    first: Frame, second: Frame, begun: int, places: list[int]
) -> None:
    begun = 1 + begun % (len(first.data) - 1)
    scanner = FrameScanner()
    scanner.feed(first.data[:begun])
    rest = b""
    for piece in cut(first.data[begun:] + second.data, places):
        rest += piece[: scanner.rest_of_frame(piece)]

    assert begun == len(first.data) or rest == first.data[begun:]
    assert scanner.at_boundary


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_whatever_comes_is_followed_without_a_fault(pieces: list[bytes]) -> None:
    scanner = FrameScanner()
    for piece in pieces:
        scanner.feed(piece)
        assert 0 <= scanner.rest_of_frame(piece) <= len(piece)


@pytest.mark.parametrize("masked", [True, False])
@given(reason=st.text(max_size=200))
def test_b63_a_close_frame_is_one_whole_frame_with_a_readable_reason(masked: bool, reason: str) -> None:
    """RFC 6455 §5.5: no control frame is longer than 125 bytes; §5.5.1: the reason is UTF-8."""
    frame, scanner = close_frame(1001, reason, masked=masked), FrameScanner()
    assert not scanner.feed(frame)
    assert (scanner.at_boundary, scanner.closed) == (True, True)
    size = frame[1] & 0x7F
    assert size <= 125
    payload = frame[-size:]
    assert payload[:2] == b"\x03\xe9"
    assert reason.startswith(payload[2:].decode())
