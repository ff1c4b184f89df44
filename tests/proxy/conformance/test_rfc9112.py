"""RFC 9112, HTTP/1.1, section by section: what a client's bytes become at the engine, and whether that is the end."""

# ruff: noqa: E501  # bytes on the wire read best on one line

import pytest

from tests.proxy.conformance.house import ask

GET = b"GET /files/x HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /files/x HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


async def expect_refused(data: bytes, *statuses: int) -> None:
    """The engine is asked nothing after it, and the connection ends: nothing is taken from bytes in doubt."""
    talk = await ask(data)
    assert talk.statuses in [[status] for status in statuses or (400,)], talk
    assert not talk.in_step
    assert b"\r\nconnection: close\r\n" in talk.raw


async def expect_taken(data: bytes, body: bytes = b"", target: bytes = b"/x") -> None:
    """It reaches the engine as one request, and the next one on its connection is read right."""
    talk = await ask(data)
    assert talk.statuses == [200], talk
    assert talk.in_step
    assert [(asked.line.split(b" ")[1], asked.body) for asked in talk.asked] == [(target, body)]


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n"], ids=["one", "two"])
async def test_rfc9112_2_2_empty_lines_before_a_request_are_ignored(before: bytes) -> None:
    await expect_taken(before + GET + b"\r\n")


LINE_ENDS = {
    "LF throughout": b"GET /files/x HTTP/1.1\nHost: a\n\n",
    "LF after the request line": b"GET /files/x HTTP/1.1\nHost: a\r\n\r\n",
    "LF after a field": GET + b"X: y\nZ: y\r\n\r\n",
    "LF as the end": GET + b"\n",
    "LF CRLF as the end": b"GET /files/x HTTP/1.1\r\nHost: a\n\r\n",
    "CR within a field": GET + b"X: y\rZ: y\r\n\r\n",
    "CR within the request line": b"GET /files/x\rHTTP/1.1\r\nHost: a\r\n\r\n",
    "CR CR LF": GET + b"X: y\r\r\n\r\n",
}


@pytest.mark.parametrize("data", LINE_ENDS.values(), ids=LINE_ENDS.keys())
async def test_rfc9112_2_2_b24_a_line_ends_with_crlf_and_nothing_else(data: bytes) -> None:
    await expect_refused(data)


async def test_rfc9112_2_2_white_space_before_the_first_field_is_refused() -> None:
    await expect_refused(b"GET /files/x HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n")


VERSIONS = [b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.01", b"HTTP/1", b"HTTP/11", b"http/1.1", b"HTTP/1.1 ", b""]


@pytest.mark.parametrize("version", VERSIONS, ids=repr)
async def test_rfc9112_2_3_other_versions_are_refused(version: bytes) -> None:
    await expect_refused(b"GET /files/x " + version + b"\r\nHost: a\r\n\r\n", 400, 505)


REQUEST_LINES = {
    "space before the method": b" GET /files/x HTTP/1.1",
    "tab for a space": b"GET\t/files/x HTTP/1.1",
    "space within the target": b"GET /files/x y HTTP/1.1",
    "NUL in the method": b"G\0T /files/x HTTP/1.1",
    "method in lower case": b"get /files/x HTTP/1.1",
    "no target": b"GET HTTP/1.1",
    "NUL in the target": b"GET /files/\0 HTTP/1.1",
    "DEL in the target": b"GET /files/\x7f HTTP/1.1",
    "no ASCII in the target": b"GET /files/\xc3\xa9 HTTP/1.1",
    "HTTP/0.9": b"GET /files/x",
    "a response": b"HTTP/1.1 200 OK",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2's preface": b"PRI * HTTP/2.0",
}


@pytest.mark.parametrize("line", REQUEST_LINES.values(), ids=REQUEST_LINES.keys())
async def test_rfc9112_3_b24_b26_a_broken_request_line_is_refused(line: bytes) -> None:
    await expect_refused(line + b"\r\nHost: a\r\n\r\n")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY"])
async def test_rfc9112_3_1_methods_pass_as_they_are(method: str) -> None:
    talk = await ask(f"{method} /files/x HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert [asked.line for asked in talk.asked] == [f"{method} /x HTTP/1.1".encode()]


@pytest.mark.parametrize(
    "host", [b"", b"Host: a\r\nHost: a\r\n", b"Host: a\r\nhost: b\r\n"], ids=["none", "2", "2 cases"]
)
async def test_rfc9112_3_2_not_exactly_one_host_is_refused(host: bytes) -> None:
    await expect_refused(b"GET /files/x HTTP/1.1\r\n" + host + b"\r\n")


TARGETS = [
    b"/files/a%2Fb",
    b"/files//a",
    b"/files/a/../b",
    b"/files/;a=1;b",
    b"/files/a?b=1;c=%2F&&d",
    b"/files/%zz",
]


@pytest.mark.parametrize("target", TARGETS, ids=repr)
async def test_rfc9112_3_2_1_b40_b41_an_origin_form_goes_on_byte_for_byte(target: bytes) -> None:
    await expect_taken(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n", target=target.removeprefix(b"/files"))


async def test_rfc9112_3_2_2_b42_an_absolute_form_decides_the_host_and_no_address() -> None:
    talk = await ask(b"GET http://192.0.2.1:81/files/x HTTP/1.1\r\nHost: a\r\n\r\n")
    (asked,) = talk.asked
    assert (asked.line, asked.values(b"host")) == (b"GET /x HTTP/1.1", [b"192.0.2.1:81"])


BAD_TARGETS = [
    b"http://u:p@b/files/x", b"http:///files/x", b"ftp://b/files/x", b"http://b:x/files/x", b"files/x", b"/files/x#y"
]  # fmt: skip


@pytest.mark.parametrize("target", BAD_TARGETS, ids=repr)
async def test_rfc9112_3_2_2_b42_a_target_that_names_no_resource_is_refused(target: bytes) -> None:
    await expect_refused(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")


async def test_rfc9112_3_2_3_b42_connect_is_refused() -> None:
    await expect_refused(b"CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n", 405)


async def test_rfc9112_3_2_4_b42_an_asterisk_is_answered_to_options_alone() -> None:
    assert (await ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")).statuses == [204]
    assert (await ask(b"GET * HTTP/1.1\r\nHost: a\r\n\r\n")).statuses == [400]


FIELDS = {
    "space before the colon": b"X : y",
    "tab before the colon": b"X\t: y",
    "space within the name": b"X Y: y",
    "no colon": b"XY",
    "no name": b": y",
    "NUL in the name": b"X\0: y",
    "parenthesis in the name": b"X(Y): y",
    "no ASCII in the name": b"X\xe9: y",
    "NUL in the value": b"X: a\0b",
    "control in the value": b"X: a\x01b",
    "DEL in the value": b"X: a\x7fb",
    "Host with a space before its colon": b"Host : b",
    "framing with a space before its colon": b"Transfer-Encoding : chunked",
}


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS.keys())
async def test_rfc9112_5_1_b26_a_broken_field_is_refused(field: bytes) -> None:
    await expect_refused(GET + field + b"\r\n\r\n")


@pytest.mark.parametrize("value", [b"y", b"  y", b"\ty \t", b"", b'"y', b"\xff"], ids=repr)
async def test_rfc9112_5_1_white_space_around_a_value_is_no_part_of_it(value: bytes) -> None:
    talk = await ask(GET + b"X-A:" + value + b"\r\n\r\n")
    assert talk.in_step
    assert talk.asked[0].values(b"x-a") == [value.strip()]


@pytest.mark.parametrize("fold", [b"X: a\r\n b", b"X: a\r\n\tb", b"X:\r\n b", b"Content-Length: 1\r\n 0"], ids=repr)
async def test_rfc9112_5_2_b25_folded_lines_are_refused(fold: bytes) -> None:
    await expect_refused(GET + fold + b"\r\n\r\n")


CODINGS = [
    b"identity", b"gzip", b"xchunked", b"chunkedx", b"chunk", b"gzip, chunked", b"chunked, gzip", b"chunked, identity", b"identity, chunked",
    b"chunked, chunked", b",chunked", b"chunked,", b"", b'"chunked"', b"chunked;q=1", b"chun ked", b"\x0bchunked", b"\xff", b"chunked\x00",
]  # fmt: skip


@pytest.mark.parametrize("coding", CODINGS, ids=repr)
async def test_rfc9112_6_1_b23_a_coding_other_than_chunked_is_refused(coding: bytes) -> None:
    await expect_refused(POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n1\r\na\r\n0\r\n\r\n", 400, 501)


AMBIGUOUS = {
    "both": b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "both, the other way": b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    "both, in other cases": b"content-lengtH: 5\r\ntransfer-encodinG: CHUNKED",
    "a coding twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
}


@pytest.mark.parametrize("fields", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
async def test_rfc9112_6_1_b20_b23_two_framings_are_refused(fields: bytes) -> None:
    await expect_refused(POST + fields + b"\r\n\r\n0\r\n\r\n")


async def test_rfc9112_6_1_chunks_in_http_1_0_are_refused() -> None:
    await expect_refused(b"POST /files/x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")


LENGTHS = [
    b"+3", b"-3", b"0x3", b"3,3", b"3, 3", b"3;3", b"3.0", b"3a", b"a3", b"", b"3 3", b"3_0", b"\xb23", b'"3"', b"1e1", b"\x0b3", b"3\x00",
    b"99999999999999999999", b"18446744073709551619",
]  # fmt: skip


@pytest.mark.parametrize("length", LENGTHS, ids=repr)
async def test_rfc9112_6_2_b22_a_length_that_is_not_only_digits_is_refused(length: bytes) -> None:
    await expect_refused(POST + b"Content-Length: " + length + b"\r\n\r\nabc")


@pytest.mark.parametrize("length", [b"9223372036854775808", b"1000000000000000000"], ids=repr)
async def test_rfc9112_6_2_b22_a_length_that_engines_could_not_count_is_refused(length: bytes) -> None:
    await expect_refused(POST + b"Content-Length: " + length + b"\r\n\r\nabc")


@pytest.mark.parametrize("length", [b"3", b"3 ", b"\t3", b"003"], ids=repr)
async def test_rfc9112_6_2_b30_a_length_frames_its_body(length: bytes) -> None:
    await expect_taken(POST + b"Content-Length: " + length + b"\r\n\r\nabc", b"abc")


@pytest.mark.parametrize("second", [b"3", b"4"], ids=["alike", "different"])
async def test_rfc9112_6_3_b21_two_lengths_are_refused(second: bytes) -> None:
    await expect_refused(POST + b"Content-Length: 3\r\nContent-Length: " + second + b"\r\n\r\nabc")


async def test_rfc9112_6_3_a_request_without_framing_has_no_body() -> None:
    talk = await ask(POST + b"\r\nGET /files/y HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [(asked.line, asked.body) for asked in talk.asked] == [(b"POST /x HTTP/1.1", b""), (b"GET /y HTTP/1.1", b"")]


@pytest.mark.parametrize("fields", [b"Transfer_Encoding: chunked", b"Transfer.Encoding: chunked"], ids=["_", "."])
async def test_rfc9112_6_3_b27_a_name_that_only_looks_like_framing_frames_nothing(fields: bytes) -> None:
    await expect_taken(POST + fields + b"\r\nContent-Length: 3\r\n\r\nabc", b"abc")


@pytest.mark.parametrize("name", [b"Content-Length", b"Transfer-Encoding"], ids=["length", "coding"])
async def test_rfc9112_6_3_b17_connection_can_not_take_the_framing_away(name: bytes) -> None:
    body = b"3\r\nabc\r\n0\r\n\r\n" if name.startswith(b"T") else b"abc"
    field = b"Transfer-Encoding: chunked" if name.startswith(b"T") else b"Content-Length: 3"
    await expect_taken(POST + field + b"\r\nConnection: " + name + b"\r\n\r\n" + body, b"abc")


CHUNKS = [
    b"3\r\nabc\r\n0\r\n\r\n", b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"003\r\nabc\r\n000\r\n\r\n", b"3;a=b\r\nabc\r\n0;c\r\n\r\n",
    b'3;a="b;c"\r\nabc\r\n0\r\n\r\n', b"3\r\nabc\r\n0\r\nX: y\r\nZ: z\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("body", CHUNKS, ids=repr)
async def test_rfc9112_7_1_b28_b29_chunks_arrive_as_what_is_in_them(body: bytes) -> None:
    talk = await ask(CHUNKED + body)
    assert (talk.in_step, [asked.body for asked in talk.asked]) == (True, [b"abc"])
    assert talk.asked[0].values(b"x") == []


BROKEN_CHUNKS = [
    b"\r\nabc\r\n0\r\n\r\n", b"g\r\nabc\r\n0\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n", b"+3\r\nabc\r\n0\r\n\r\n", b"-3\r\nabc\r\n0\r\n\r\n",
    b" 3\r\nabc\r\n0\r\n\r\n", b"3_0\r\nabc\r\n0\r\n\r\n", b"3\tabc\r\n0\r\n\r\n", b"3\x0b\r\nabc\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\nabc",
    b"10000000000000003\r\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"3\r\nabc0\r\n\r\n", b"3\r\nabc\r\n\r\n0\r\n\r\n", b"3\r\nabc\r\r\n0\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("body", BROKEN_CHUNKS, ids=repr)
async def test_rfc9112_7_1_a_broken_chunk_is_refused(body: bytes) -> None:
    await expect_refused(CHUNKED + body)


BROKEN_ENDS = [
    b"3\nabc\r\n0\r\n\r\n", b"3\r\nabc\n0\r\n\r\n", b"3;a\nb\r\nabc\r\n0\r\n\r\n", b"3;a\rb\r\nabc\r\n0\r\n\r\n", b"3;a=\0\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabc\r\n0\nX: y\r\n\r\n", b"3\r\nabc\r\n0\r\n\n",
]  # fmt: skip


@pytest.mark.parametrize("body", BROKEN_ENDS, ids=repr)
async def test_rfc9112_7_1_1_b24_a_line_of_chunks_ends_with_crlf_and_nothing_else(body: bytes) -> None:
    await expect_refused(CHUNKED + body)


TRAILERS = [b" X: y", b"X : y", b"X", b": y", b"X: y\0", b"X: y\n", b"Content-Length: 5", b"Transfer-Encoding: chunked"]


@pytest.mark.parametrize("trailer", TRAILERS, ids=repr)
async def test_rfc9112_7_1_2_b29_a_broken_trailer_or_one_that_frames_is_refused_or_dropped(trailer: bytes) -> None:
    talk = await ask(CHUNKED + b"3\r\nabc\r\n0\r\n" + trailer + b"\r\n\r\n")
    assert talk.statuses in ([400], [200])
    assert talk.in_step is (talk.statuses == [200])
    assert all(asked.values(b"content-length") == [] for asked in talk.asked)


async def test_rfc9112_9_3_http_1_0_is_closed_after_one_answer() -> None:
    talk = await ask(b"GET /files/x HTTP/1.0\r\n\r\n")
    assert (talk.statuses, talk.in_step) == ([200], False)


@pytest.mark.parametrize("value", [b"close", b"Close", b"x, close", b"close, keep-alive"], ids=repr)
async def test_rfc9112_9_6_b18_close_among_the_options_is_the_last_request(value: bytes) -> None:
    talk = await ask(GET + b"Connection: " + value + b"\r\n\r\n")
    assert (talk.statuses, talk.in_step) == ([200], False)


@pytest.mark.parametrize("value", [b"", b",", b"keep-alive", b", ,x"], ids=repr)
async def test_rfc9112_9_6_b18_other_options_are_not(value: bytes) -> None:
    await expect_taken(GET + b"Connection: " + value + b"\r\n\r\n")


async def test_rfc9112_9_3_2_b15_pipelined_requests_are_answered_in_order() -> None:
    bodies = POST + b"Content-Length: 3\r\n\r\nabc" + CHUNKED + b"3\r\ndef\r\n0\r\n\r\n" + GET + b"\r\n"
    talk = await ask(bodies)
    assert (talk.statuses, talk.in_step) == ([200, 200, 200], True)
    assert [asked.body for asked in talk.asked] == [b"abc", b"def", b""]


async def test_rfc9112_9_3_2_b15_what_came_before_a_broken_request_is_answered_first() -> None:
    talk = await ask(GET + b"\r\n" + POST + b"Content-Length: x\r\n\r\n")
    assert (talk.statuses, talk.in_step) == ([200, 400], False)
