"""What was once worth keeping, run again: seeds, what taught the fuzzer something, and whatever it has found."""

from importlib import import_module
from pathlib import Path

import pytest

from tests.fuzz import kept as corpus
from tests.fuzz.__main__ import DOORS
from tests.fuzz.cutting import cuts
from tests.fuzz.judges import Finding, Message, check_heads, check_is_among, read_by_h11, read_by_httptools
from tests.fuzz.requests import world


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_nothing_that_is_kept_is_a_finding(door: str) -> None:
    check = import_module(f"tests.fuzz.{door}").check
    inputs = corpus.kept(door)
    assert inputs
    for data in inputs:
        try:
            check(data)
        except Finding as finding:
            raise AssertionError(f"{data!r}: {finding}") from finding


def test_what_is_kept_stays_small_and_what_was_written_by_hand_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "FOLDER", tmp_path)
    (tmp_path / "frames.txt").write_text("# by hand\nb'\\x81'\n# learnt\nb'old'\n")
    corpus.keep("frames", [b"\x81", b"new", bytes(corpus.MOST_BYTES)])
    assert corpus.kept("frames") == [b"\x81", b"new"]


# The harness itself: it can find something, and finds it again


@pytest.mark.parametrize("size", [1, 2, 40, 700])
def test_pieces_make_up_the_whole_and_are_cut_alike_each_time(size: int) -> None:
    data = bytes(size)
    assert b"".join(cuts(data)) == data
    assert cuts(data) == cuts(data)


def test_a_request_that_a_judge_does_not_see_is_a_finding() -> None:
    asked = [Message(b"GET", b"/x"), Message(b"GET", b"/admin")]
    with pytest.raises(Finding, match="admin"):
        check_is_among(asked, asked[:1], "h11")


HEADS = {
    "a line end in a field": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nb\r\n\r\n",
    "two framings": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no length": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_a_head_that_two_readers_may_read_in_two_ways_is_a_finding(head: bytes) -> None:
    with pytest.raises(Finding):
        check_heads(head)


def test_both_readers_see_each_request_of_a_connection() -> None:
    data = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\nGET /"
    assert read_by_h11(data) == read_by_httptools(data) == [Message(b"POST", b"/a", b"x"), Message(b"GET", b"/b")]


def test_a_talk_passes_through_the_whole_data_plane() -> None:
    talk = world().talk([b"GET /files/x HTTP/1.1\r\nHo", b"st: a\r\n\r\n"])
    assert talk.asked == [Message(b"GET", b"/x")]
    assert talk.answered.endswith(b"\r\n\r\n/x")
