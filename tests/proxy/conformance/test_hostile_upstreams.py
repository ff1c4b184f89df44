"""Engines that say what they should not: each wrong byte is told as a 502 or breaks off, and reaches nobody else.

After each of them a canary asks the same service: it must come out whole, and on the same connection only if that was
clean to its last byte.
"""

# ruff: noqa: E501  # bytes on the wire read best on one line

import pytest

from tests.proxy.conformance.house import answer

OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n\r\nok"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


async def expect_bad_gateway(response: bytes, *, closes: bool = True) -> None:
    relayed = await answer(response, closes=closes)
    assert (relayed.answer.status, relayed.reused) == (502, False), relayed
    assert b"upstream_broken" in relayed.answer.body


STATUS_LINES = [
    b"HTTP/1.1  200 OK\r\n", b"HTTP/1.1\t200 OK\r\n", b"HTTP/1.2 200 OK\r\n", b"HTTP/2 200 OK\r\n", b"HTTP/2.0 200 OK\r\n", b"http/1.1 200 OK\r\n",
    b"HTTP/1.1 20 OK\r\n", b"HTTP/1.1 2000 OK\r\n", b"HTTP/1.1 099 OK\r\n", b"HTTP/1.1 600 OK\r\n", b"HTTP/1.1 +20 OK\r\n", b"HTTP/1.1 abc OK\r\n",
    b"HTTP/1.1 200OK\r\n", b"HTTP/1.1 200 O\rK\r\n", b"HTTP/1.1 200 OK\n", b"ICY 200 OK\r\n", b" HTTP/1.1 200 OK\r\n", b"\r\nHTTP/1.1 200 OK\r\n",
]  # fmt: skip


@pytest.mark.parametrize("line", STATUS_LINES, ids=repr)
async def test_rfc9112_4_b33_a_broken_status_line_is_a_502(line: bytes) -> None:
    await expect_bad_gateway(line + TWO)


@pytest.mark.parametrize("line", [b"HTTP/1.1 200\r\n", b"HTTP/1.1 200 \r\n", b"HTTP/1.1 200 O\xffK\r\n"], ids=repr)
async def test_rfc9112_4_a_reason_is_not_needed(line: bytes) -> None:
    relayed = await answer(line + TWO)
    assert (relayed.answer.status, relayed.answer.body, relayed.reused) == (200, b"ok", True)


FIELDS = [
    b"X: a\0b", b"X: a\x01b", b"X: a\x7fb", b"X : a", b" X: a", b"X: a\r\n b", b"X", b": a", b"X Y: a", b"X\xff: a", b"X: a\rb", b"X: a\nY: b",
    b"Transfer-Encoding : chunked",
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS, ids=repr)
async def test_rfc9112_5_b33_a_broken_field_is_a_502(field: bytes) -> None:
    await expect_bad_gateway(OK + field + b"\r\n" + TWO)


FRAMINGS = [
    b"Content-Length: 2\r\nContent-Length: 2", b"Content-Length: 2\r\ncontent-length: 3", b"Content-Length: 2, 2", b"Content-Length: +2",
    b"Content-Length: -2", b"Content-Length: 0x2", b"Content-Length: 2a", b"Content-Length: 2.0", b"Content-Length:", b"Content-Length: \x0b2",
    b"Content-Length: 99999999999999999999", b"Content-Length: 9223372036854775808", b"Content-Length: 2\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 2", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding:", b"Transfer-Encoding: chunked;a=b",
]  # fmt: skip


@pytest.mark.parametrize("fields", FRAMINGS, ids=repr)
async def test_rfc9112_6_3_b33_framing_in_doubt_is_a_502(fields: bytes) -> None:
    await expect_bad_gateway(OK + fields + b"\r\n\r\n2\r\nok\r\n0\r\n\r\n")


async def test_rfc9112_6_1_b33_chunks_in_http_1_0_are_a_502() -> None:
    await expect_bad_gateway(CHUNKED.replace(b"1.1", b"1.0") + b"2\r\nok\r\n0\r\n\r\n")


@pytest.mark.parametrize("value", [b"2 ", b"\t2\t", b"02"], ids=repr)
async def test_rfc9112_6_2_b30_white_space_around_a_length_is_no_part_of_it(value: bytes) -> None:
    relayed = await answer(OK + b"Content-Length:" + value + b"\r\n\r\nok")
    assert (relayed.answer.values(b"content-length"), relayed.answer.body, relayed.reused) == ([b"2"], b"ok", True)


BROKEN_CHUNKS = [
    b"zz\r\n", b"0x2\r\nok\r\n0\r\n\r\n", b"-2\r\nok\r\n0\r\n\r\n", b" 2\r\nok\r\n0\r\n\r\n", b"2\nok\r\n0\r\n\r\n", b"2\r\nokk\r\n0\r\n\r\n",
    b"2\r\nok0\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\nok", b"2;a\nb\r\nok\r\n0\r\n\r\n", b"2\r\nok\r\n0\r\n\n", b"2\r\nok\r\n0\r\nX : y\r\n\r\n",
    b"2\r\nok\r\n0\r\nX: y\0\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("body", BROKEN_CHUNKS, ids=repr)
async def test_rfc9112_7_1_b09_broken_chunks_are_no_whole_body(body: bytes) -> None:
    relayed = await answer(CHUNKED + body, closes=True)
    assert not relayed.reused
    assert relayed.answer.status == 502 or not relayed.answer.whole


CUT = {
    "nothing": b"",
    "half a head": OK + b"X: y",
    "a head without its end": OK + b"X: y\r\n\r",
    "garbage": bytes(range(256)),
    "HTML": b"<html>hello</html>",
    "a head without end": OK + b"X: " + b"y" * 100_000,
    "a head too large": OK + b"X: " + b"y" * 100_000 + b"\r\n" + TWO,
    "too many fields": OK + b"X: y\r\n" * 400 + TWO,
    "1xx without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    "a 101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "an informational head cut off": b"HTTP/1.1 103 Early Hints\r\nLink: x",
}


@pytest.mark.parametrize("response", CUT.values(), ids=CUT.keys())
async def test_rfc9112_8_b33_b35_b36_b48_b49_what_is_no_response_is_a_502(response: bytes) -> None:
    await expect_bad_gateway(response)


BODIES_CUT = [
    CHUNKED + b"2\r\nok\r\n", CHUNKED + b"2\r\nok\r\n0\r\n", CHUNKED + b"2\r\no", CHUNKED + b"2\r\nok\r\n0\r\nX: y\r\n", OK + b"Content-Length: 5\r\n\r\nok",
]  # fmt: skip


@pytest.mark.parametrize("response", BODIES_CUT, ids=repr)
async def test_rfc9112_8_b09_b10_a_body_that_was_cut_is_not_completed(response: bytes) -> None:
    relayed = await answer(response, closes=True)
    assert (relayed.answer.status, relayed.answer.whole, relayed.reused) == (200, False, False)


EXTRA = {
    "bytes after a length": OK + TWO + b"EXTRA",
    "a line end after a length": OK + TWO + b"\r\n",
    "a second response": OK + TWO + OK + b"Content-Length: 4\r\n\r\nevil",
    "bytes after chunks": CHUNKED + b"2\r\nok\r\n0\r\n\r\nEXTRA",
    "an empty line after chunks": CHUNKED + b"2\r\nok\r\n0\r\n\r\n\r\n",
}


@pytest.mark.parametrize("response", EXTRA.values(), ids=EXTRA.keys())
async def test_rfc9112_9_2_b34_what_follows_a_response_reaches_nobody(response: bytes) -> None:
    relayed = await answer(response)
    assert (relayed.answer.body, relayed.answer.whole, relayed.reused) == (b"ok", True, False)


BODILESS = {
    "204": (b"HTTP/1.1 204 No Content\r\n", b""),
    "204 with a length": (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n", b"ok"),
    "204 with chunks": (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n", b"2\r\nok\r\n0\r\n\r\n"),
    "304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n", b""),
    "304 with a body": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n", b"ok"),
}


@pytest.mark.parametrize(("head", "body"), BODILESS.values(), ids=BODILESS.keys())
async def test_rfc9112_6_3_b32_a_status_without_a_body_has_none_and_bytes_after_it_close(
    head: bytes, body: bytes
) -> None:
    relayed = await answer(head + b"\r\n" + body)
    assert relayed.answer.values(b"transfer-encoding") == []
    assert relayed.reused is not bool(body)


@pytest.mark.parametrize("body", [b"", b"ok"], ids=["no body", "a body"])
async def test_rfc9110_9_3_2_b31_the_answer_to_head_has_a_length_and_no_body(body: bytes) -> None:
    relayed = await answer(OK + b"Content-Length: 2\r\n\r\n" + body, method="HEAD")
    assert (relayed.answer.values(b"content-length"), relayed.reused) == ([b"2"], not body)


async def test_rfc9112_6_3_b11_a_body_until_the_end_of_the_connection_is_whole_at_its_fin() -> None:
    relayed = await answer(OK + b"\r\nok", closes=True)
    assert (relayed.answer.body, relayed.answer.whole) == (b"ok", True)


@pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints", b"199 Odd"], ids=repr)
async def test_rfc9110_15_2_b47_an_informational_response_is_not_the_end(status: bytes) -> None:
    hint = b"HTTP/1.1 " + status + b"\r\nLink: </x>\r\nContent-Length: 7\r\n\r\n"
    relayed = await answer(hint * 3 + OK + TWO)
    assert (relayed.answer.status, relayed.answer.body, relayed.reused) == (200, b"ok", True)
    assert relayed.answer.values(b"link") == []


async def test_rfc9112_9_3_a_connection_that_says_close_serves_no_other() -> None:
    relayed = await answer(OK + b"Connection: close\r\n" + TWO)
    assert (relayed.answer.body, relayed.reused) == (b"ok", False)


async def test_rfc9112_9_3_nor_does_one_of_http_1_0() -> None:
    relayed = await answer(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + TWO)
    assert (relayed.answer.body, relayed.reused) == (b"ok", False)
