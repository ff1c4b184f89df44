"""RFC 9110, HTTP semantics, section by section: what a proxy owes to fields, methods and statuses."""

# ruff: noqa: E501  # bytes on the wire read best on one line

import pytest

from tests.fakes.upstream import Peer, Upstream, answering
from tests.proxy.conformance.house import answer, ask
from tests.proxy.plane import OK, get, plane
from tests.proxy.serving import Client

GET = b"GET /files/x HTTP/1.1\r\nHost: a\r\n"
TWO = b"Content-Length: 2\r\n\r\nok"


async def test_rfc9110_5_3_b38_fields_of_one_name_keep_their_order() -> None:
    talk = await ask(GET + b"Accept: a\r\nX-B: 1\r\nAccept: b\r\nX-B: 2\r\n\r\n")
    assert (talk.asked[0].values(b"accept"), talk.asked[0].values(b"x-b")) == ([b"a", b"b"], [b"1", b"2"])

    relayed = await answer(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX: 1\r\nset-cookie: b=2\r\nX: 2\r\n" + TWO)
    fields = [field for field in relayed.answer.fields if field[:1] in b"SsX"]
    assert fields[:4] == [b"Set-Cookie: a=1", b"X: 1", b"set-cookie: b=2", b"X: 2"]


async def test_rfc9110_5_5_b39_names_keep_their_spelling_and_values_their_bytes() -> None:
    talk = await ask(GET + b"X-oDD-name: caf\xe9 \xff\r\n\r\n")
    assert b"X-oDD-name: caf\xe9 \xff" in talk.asked[0].fields

    relayed = await answer(b"HTTP/1.1 200 OK\r\nX-oDD-name: caf\xe9 \xff\r\n" + TWO)
    assert b"X-oDD-name: caf\xe9 \xff" in relayed.answer.fields


TRAILERS = b"X-Sum: 1\r\nSet-Cookie: a\r\nHost: b\r\nAuthorization: c\r\nX-Took: 2\r\n"


async def test_rfc9110_6_5_1_b29_a_request_s_trailers_become_no_fields() -> None:
    talk = await ask(
        b"POST /files/x HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        + TRAILERS
        + b"\r\n"
    )
    (asked,) = talk.asked
    assert talk.in_step
    assert asked.values(b"host") == [b"a"]
    assert [asked.values(name) for name in (b"x-sum", b"set-cookie", b"authorization", b"trailer")] == [[], [], [], []]


@pytest.mark.parametrize("announced", [b"", b"Trailer: X-Sum, X-Took\r\n"], ids=["unannounced", "announced"])
async def test_rfc9110_6_5_1_b29_b50_a_response_s_trailers_pass_but_those_that_only_a_head_may_have(
    announced: bytes,
) -> None:
    body = b"2\r\nok\r\n0\r\n" + TRAILERS.replace(b"Authorization: c\r\n", b"") + b"\r\n"
    response = b"HTTP/1.1 200 OK\r\n" + announced + b"Transfer-Encoding: chunked\r\n\r\n" + body
    async with Upstream(answering(response)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        got = await client.ask(get("/files/x"))
    assert (got.body, got.trailers) == (b"ok", [(b"X-Sum", b"1"), (b"X-Took", b"2")])
    assert got.header(b"x-sum") is None


@pytest.mark.parametrize("host", [b"a", b"a:80", b"a:", b"A.b-c_d.", b"192.0.2.1", b"[2001:db8::1]:80"], ids=repr)
async def test_rfc9110_7_2_b44_an_engine_of_ours_is_asked_by_the_client_s_host(host: bytes) -> None:
    talk = await ask(b"GET /files/x HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert talk.asked[0].values(b"host") == [host]


HOSTS = [b"", b"a b", b"a,b", b"u@a", b"a/b", b"a:b", b"a:1:2", b"[::g]", b"::1", b"a\x80", b"a\\b", b"a?b", b"a#b", b"a:+80", b"a%0d", b"<a>"]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS, ids=repr)
async def test_rfc9110_7_2_b42_a_host_that_is_none_is_refused(host: bytes) -> None:
    talk = await ask(b"GET /files/x HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert (talk.statuses, talk.in_step) == ([400], False)


HOP_BY_HOP = [
    b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive", b"Proxy-Authorization: Basic x", b"Proxy-Authenticate: Basic", b"TE: gzip",
    b"Upgrade-Insecure-Requests: 1\r\nConnection: Upgrade-Insecure-Requests",
]  # fmt: skip


@pytest.mark.parametrize("field", HOP_BY_HOP, ids=repr)
async def test_rfc9110_7_6_1_b16_b17_fields_of_one_connection_end_here(field: bytes) -> None:
    name = field.partition(b":")[0].lower()
    talk = await ask(GET + field + b"\r\n\r\n")
    assert (talk.asked[0].values(name), talk.asked[0].values(b"connection"), talk.in_step) == ([], [], True)

    if not name.startswith(b"te"):
        relayed = await answer(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n" + TWO)
        assert (relayed.answer.values(name), relayed.answer.values(b"connection")) == ([], [])


@pytest.mark.parametrize("name", [b"Host", b"Authorization", b"X-Request-Id", b"Content-Type", b"Forwarded"], ids=repr)
async def test_rfc9110_7_6_1_b17_connection_can_not_strip_what_a_request_needs(name: bytes) -> None:
    fields = b"Authorization: Bearer x\r\nContent-Type: text/plain\r\nConnection: close, " + name + b"\r\n\r\n"
    talk = await ask(GET + fields)
    assert len(talk.asked[0].values(name.lower())) == 1


async def test_rfc9110_7_6_3_b43_via_names_us_once() -> None:
    talk = await ask(GET + b"Via: 1.0 forged\r\nVia: 1.1 more\r\n\r\n")
    assert talk.asked[0].values(b"via") == [b"1.1 ai-proxy"]


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"zstd", b"odd"], ids=repr)
async def test_rfc9110_8_4_b51_coded_content_passes_as_it_is(coding: bytes) -> None:
    content = b"\x1f\x8b\x08\0 no real gzip: whoever looked into it would fail"
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nETag: W/x\r\nContent-Length: %d\r\n\r\n" % (
        coding,
        len(content),
    )
    relayed = await answer(head + content)
    assert relayed.answer.body == content
    assert (relayed.answer.values(b"content-encoding"), relayed.answer.values(b"etag")) == ([coding], [b"W/x"])

    upload = b"POST /files/x HTTP/1.1\r\nHost: a\r\nAccept-Encoding: %b\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n"
    talk = await ask(upload % (coding, coding, len(content)) + content)
    (asked,) = talk.asked
    assert (asked.body, asked.values(b"accept-encoding"), asked.values(b"content-encoding")) == (
        content,
        [coding],
        [coding],
    )


async def test_rfc9110_8_4_b51_nothing_is_asked_to_be_coded_that_the_client_did_not() -> None:
    assert (await ask(GET + b"\r\n")).asked[0].values(b"accept-encoding") == []


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS"], ids=repr)
async def test_rfc9110_9_3_b30_content_of_any_method_is_framed_and_passed_on(method: bytes) -> None:
    talk = await ask(method + b" /files/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
    assert [asked.body for asked in talk.asked] == [b"abc"]


async def test_rfc9110_10_1_1_b46_the_proxy_answers_an_expectation_and_passes_none_on() -> None:
    upload = b"POST /files/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(upload)
        assert (await client.head())[0] == 100
        assert (await client.ask(b"abc")).status == 200
        assert b"expect" not in upstream.peers[0].received.lower()


async def test_rfc9110_10_1_1_b46_a_final_status_comes_instead_where_the_body_is_not_wanted() -> None:
    upload = b"POST /v1/nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n"
    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        got = await client.ask(upload)
        assert (got.status, got.header(b"connection")) == (413, b"close")
        assert await client.rest() == b""


async def test_rfc9110_10_1_1_b46_b47_an_engine_that_says_continue_too_confuses_nobody() -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.read_until(b"abc")
        await peer.send(OK)

    upload = b"POST /files/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(upload)
        assert (await client.head())[0] == 100
        assert (await client.ask(b"abc")).status == 200


@pytest.mark.parametrize(
    ("te", "passed"), [(b"trailers", [b"trailers"]), (b"gzip, trailers", [b"trailers"]), (b"gzip", [])], ids=repr
)
async def test_rfc9110_10_1_4_b19_of_te_only_trailers_passes(te: bytes, passed: list[bytes]) -> None:
    talk = await ask(GET + b"TE: " + te + b"\r\nConnection: TE\r\n\r\n")
    assert talk.asked[0].values(b"te") == passed


async def test_rfc9110_10_1_5_b45_no_user_agent_is_invented() -> None:
    assert (await ask(GET + b"\r\n")).asked[0].values(b"user-agent") == []


@pytest.mark.parametrize("status", [200, 206, 226, 299, 301, 308, 400, 402, 418, 429, 451, 500, 503, 511, 599])
async def test_rfc9110_15_every_final_status_passes_with_its_body(status: int) -> None:
    relayed = await answer(b"HTTP/1.1 %d Odd\r\nRetry-After: 7\r\n" % status + TWO)
    assert (relayed.answer.status, relayed.answer.body, relayed.answer.values(b"retry-after")) == (
        status,
        b"ok",
        [b"7"],
    )


async def test_rfc9110_15_5_15_b37_a_target_that_is_too_long_is_a_414() -> None:
    assert (await ask(b"GET /files/" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")).statuses == [414]


async def test_rfc6585_5_b35_b36_so_much_of_a_head_is_a_431() -> None:
    assert (await ask(GET + b"X: " + b"y" * 70_000 + b"\r\n\r\n")).statuses == [431]
    assert (await ask(GET + b"X: y\r\n" * 150 + b"\r\n")).statuses == [431]
