"""Frames of a log stream, however they are cut."""

from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.runtimes.docker.logs import LogLines

KIB = 1024


def frame(output: int, content: bytes) -> bytes:
    return bytes([output, 0, 0, 0]) + len(content).to_bytes(4, "big") + content


def lines_of(*chunks: bytes) -> list[str]:
    lines = LogLines()
    return [*(line for chunk in chunks for line in lines.feed(chunk)), *lines.end()]


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=20))), st.integers(1, 30))
def test_the_cuts_of_the_network_do_not_show(frames: list[tuple[int, bytes]], size: int) -> None:
    data = b"".join(frame(output, content) for output, content in frames)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert lines_of(*pieces) == lines_of(data)


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=30)))
def test_lines_come_as_they_were_written(lines: list[str]) -> None:
    content = "".join(f"{line}\n" for line in lines).encode()
    assert lines_of(*(frame(1, bytes([byte])) for byte in content)) == lines


def test_two_outputs_do_not_mix_within_a_line() -> None:
    assert lines_of(frame(1, b"o"), frame(2, b"e"), frame(1, b"ut\r\n"), frame(2, b"rr\n")) == ["out", "err"]


def test_l19_a_line_without_end_is_cut_and_costs_bounded_memory() -> None:
    lines = LogLines()
    pieces = [piece for _ in range(100) for piece in lines.feed(frame(1, b"x" * 10 * KIB))]
    assert {len(piece) for piece in pieces} == {64 * KIB}
    assert len(lines._pending[1]) <= 64 * KIB


def test_what_is_not_text_is_shown_as_far_as_it_can_be() -> None:
    assert lines_of(frame(1, b"\xff ok\n")) == ["� ok"]
