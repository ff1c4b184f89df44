"""One response read from bytes, however they are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.transport.errors import ProtocolError
from ai_proxy.transport.limits import Limits
from ai_proxy.transport.reader import Phase, ResponseReader

LENGTH = b"HTTP/1.1 200 OK\r\nX-Raw-Name: a\r\nx-raw-name: b\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\nX-Sum: 1\r\nX-End: 2\r\n\r\n"
)
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nServer: old\r\n\r\nhello"
INFORMED = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + LENGTH
EMPTY = b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"


def read(*reads: bytes, bodiless: bool = False, limits: Limits | None = None) -> tuple[ResponseReader, bytes]:
    reader = ResponseReader(limits or Limits(), bodiless=bodiless)
    return reader, b"".join([reader.feed(data) for data in reads])


def feed_endlessly(reader: ResponseReader, data: bytes) -> None:
    for _ in range(1000):
        reader.feed(data)


def test_b38_b39_names_order_and_duplicates_stay_as_received() -> None:
    reader, _ = read(LENGTH)
    assert reader.headers == [(b"X-Raw-Name", b"a"), (b"x-raw-name", b"b"), (b"Content-Length", b"5")]


def test_a_body_framed_by_length_is_handed_on_without_a_copy() -> None:
    reader, _ = read(LENGTH[:-5])
    body = b"hel"
    assert reader.feed(body) is body


def test_b29_b50_trailers_are_kept_apart_from_headers() -> None:
    reader, body = read(CHUNKED)
    assert (body, reader.trailers) == (b"hello", [(b"X-Sum", b"1"), (b"X-End", b"2")])
    assert reader.headers == [(b"Transfer-Encoding", b"chunked")]


def test_b11_a_body_until_close_is_complete_at_the_end_of_the_stream() -> None:
    reader, body = read(UNTIL_CLOSE)
    assert (body, reader.phase) == (b"hello", Phase.UNTIL_CLOSE)
    assert reader.eof()


@pytest.mark.parametrize("response", [LENGTH[:-1], CHUNKED[:-1], LENGTH[:20], b""])
def test_any_other_response_is_not_complete_by_it(response: bytes) -> None:
    reader, _ = read(*([response] if response else []))
    assert not reader.eof()


def test_b31_the_answer_to_head_ends_at_its_headers() -> None:
    reader, body = read(LENGTH[:-5], bodiless=True)
    assert (reader.phase, reader.leftover, body) == (Phase.DONE, False, b"")


def test_b47_informational_responses_go_to_the_hook_and_never_end_the_exchange() -> None:
    heard: list[tuple[int, list[tuple[bytes, bytes]]]] = []
    reader = ResponseReader(Limits(), on_informational=lambda status, headers: heard.append((status, headers)))
    assert reader.feed(INFORMED) == b"hello"
    assert (reader.status, heard) == (200, [(103, [(b"Link", b"</a>")]), (100, [])])


@pytest.mark.parametrize(
    ("response", "bodiless"),
    [
        (LENGTH, False),
        (CHUNKED, False),
        (CHUNKED.replace(b"X-Sum: 1\r\nX-End: 2\r\n", b""), False),
        (EMPTY, False),
        (LENGTH[:-5], True),
    ],
)
@pytest.mark.parametrize(
    "extra",
    [
        b"\r\n",
        b"\r",
        b"H",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nContent-Length: 3\r\n\r\nabc",
        b"0\r\n\r\n",
        b"\x00",
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_b34_a_single_byte_after_the_end_is_leftover_and_not_body(
    response: bytes, bodiless: bool, extra: bytes, together: bool
) -> None:
    alone, expected = read(response, bodiless=bodiless)
    assert (alone.phase, alone.leftover) == (Phase.DONE, False)
    reader, body = read(*([response + extra] if together else [response, extra]), bodiless=bodiless)
    assert (reader.leftover, body, reader.trailers) == (True, expected, alone.trailers)


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"<html>",
        b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 600 High\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA\xff: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n",
    ],
)
def test_b33_what_is_not_strict_http_is_refused(response: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(response)


def test_b48_a_flood_of_informational_responses_is_capped() -> None:
    with pytest.raises(ProtocolError, match="more than 16 informational"):
        read(b"HTTP/1.1 102 Processing\r\n\r\n" * 17)


def test_b35_a_head_that_never_ends_is_refused_at_the_limit() -> None:
    reader, _ = read(b"HTTP/1.1 200 OK\r\nA: ")
    with pytest.raises(ProtocolError, match="over 65536 bytes"):
        feed_endlessly(reader, b"a" * 1000)


def test_b35_a_whole_head_over_the_limit_is_refused() -> None:
    with pytest.raises(ProtocolError, match="over 100 bytes"):
        read(b"HTTP/1.1 200 OK\r\nA: %b\r\n\r\n" % (b"a" * 100), limits=Limits(max_head_bytes=100))


def test_b36_too_many_fields_are_refused() -> None:
    with pytest.raises(ProtocolError, match="more than 256"):
        read(b"HTTP/1.1 200 OK\r\n%b\r\n" % (b"A: b\r\n" * 257))


@pytest.mark.parametrize(
    ("start", "endless"), [(b"1;", b"x" * 999), (b"0\r\n", b"A: b\r\n")], ids=["extension", "trailers"]
)
def test_framing_without_body_is_refused_at_the_limit(start: bytes, endless: bytes) -> None:
    reader, _ = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", start)
    with pytest.raises(ProtocolError, match="too much chunk framing"):
        feed_endlessly(reader, endless)


def test_chunks_of_one_byte_are_no_attack() -> None:
    _, body = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 50_000)
    assert body == b"x" * 50_000


cuts = st.lists(st.integers(0, 200), max_size=20)


@given(response=st.sampled_from([LENGTH, CHUNKED, INFORMED, UNTIL_CLOSE, EMPTY]), at=cuts)
def test_any_cut_into_reads_gives_the_same_response(response: bytes, at: list[int]) -> None:
    bounds = [0, *sorted({cut for cut in at if 0 < cut < len(response)}), len(response)]
    reads = [response[start:end] for start, end in pairwise(bounds)]
    whole, body = read(response)
    reader, pieces = read(*reads)
    assert pieces == body
    assert (reader.status, reader.headers, reader.trailers) == (whole.status, whole.headers, whole.trailers)
    assert (reader.phase, reader.leftover, reader.persistent) == (whole.phase, False, whole.persistent)


@given(st.lists(st.binary(min_size=1), max_size=10), st.sampled_from([b"", LENGTH, CHUNKED, CHUNKED[:60]]))
def test_garbage_is_refused_or_leftover_but_never_a_clean_end(garbage: list[bytes], before: bytes) -> None:
    reader = ResponseReader(Limits())
    try:
        for data in [before, *garbage] if before else garbage:
            reader.feed(data)
    except ProtocolError:
        return
    if garbage and reader.phase is Phase.DONE and reader.persistent:
        assert reader.leftover
