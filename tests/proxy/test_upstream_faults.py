"""Upstreams that misbehave: an error reply before the response has begun, a connection broken off afterwards."""

import json
import re

import pytest

from ai_proxy.metrics import Ending
from ai_proxy.proxy.limits import ConnectionLimits
from ai_proxy.transport.origin import Origin
from tests.fakes.upstream import Peer, Upstream, answering, answering_once
from tests.proxy.plane import EVENTS, OK, UPLOAD, chat, ended, get, make, plane, post
from tests.proxy.serving import Client, serving

MIB = 1024 * 1024


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
async def test_b33_b49_a_response_that_is_no_http_is_a_502(response: bytes) -> None:
    async with Upstream(answering(response)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(get("/files/a"))

    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (502, "upstream_broken")


async def test_b34_what_follows_a_response_reaches_nobody() -> None:
    poisoned = answering_once(OK + b"HTTP/1.1 200 OK\r\n\r\nstolen")
    async with Upstream(poisoned, answering(OK)) as up, plane(up) as proxy, Client.to(proxy.port) as client:
        assert [(await client.ask(get("/files/a"))).body for _ in range(2)] == [b"{}", b"{}"]
        assert len(up.peers) == 2


async def test_b09_an_upstream_that_dies_in_a_chunked_body_breaks_the_client_s_connection_off() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    async with Upstream(answering_once(head)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(get("/files/a"))
        await client.head()
        assert await client.rest() in (b"1\r\na\r\n", b"")
        await ended(proxy, Ending.UPSTREAM_BROKE)


async def test_b10_an_upstream_that_dies_short_of_its_length_breaks_the_client_s_connection_off() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"
    async with Upstream(answering_once(head)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(get("/files/a"))
        await client.head()
        assert len(await client.rest()) < 5
        await ended(proxy, Ending.UPSTREAM_BROKE)


async def test_b11_a_reset_is_no_end_of_a_body_that_ends_by_close() -> None:
    script = answering_once(b"HTTP/1.0 200 OK\r\n\r\nabc", then=Peer.rst)
    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(get("/files/a"))
        assert b"0\r\n\r\n" not in await client.rest()


@pytest.mark.parametrize("cut", [b"9\r\ndata: 1\n\n\r\n", b"7\r\ndata: 1\r\n"])
async def test_b12_a_broken_event_stream_ends_with_an_error_event_and_no_end_mark(cut: bytes) -> None:
    script = answering_once(EVENTS + cut)
    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat(stream=True))
        await client.head()
        wire = await client.rest()

    assert not wire.endswith(b"0\r\n\r\n")
    text = b"".join(re.findall(rb"[0-9a-f]+\r\n(.+?)\r\n", wire, re.DOTALL))
    *_, last, rest = text.split(b"\n\n")
    assert rest == b""
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "upstream_broken"


async def test_b54_a_service_that_takes_no_connections_is_a_502_without_its_address() -> None:
    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        proxy.gate.ready["chat"] = Origin("http", "127.0.0.1", 1)
        answer = await client.ask(chat())

    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"], error["service"]) == (502, "upstream_unreachable", "chat")
    assert b"127.0.0.1" not in answer.body


async def test_b55_a_response_that_does_not_begin_is_a_504_naming_the_deadline() -> None:
    services = {"chat": {"image": "i", "timeouts": {"first_byte_s": 0.05}}}

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.wait_eof()

    async with Upstream(script) as up, plane(up, services=services) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(chat())

    assert answer.status == 504
    assert "first_byte_s" in json.loads(answer.body)["error"]["message"]


async def test_b56_a_response_that_stalls_breaks_off() -> None:
    services = {"chat": {"image": "i", "timeouts": {"idle_s": 0.05}}}

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
        await peer.wait_eof()

    async with Upstream(script) as up, plane(up, services=services) as proxy, Client.to(proxy.port) as client:
        await client.send(chat())
        await client.head()
        assert await client.rest() == b"ab"
        await ended(proxy, Ending.UPSTREAM_SLOW)


@pytest.mark.parametrize(("request_bytes", "statuses"), [(get("/files/a"), [200, 200]), (chat(), [200, 502])])
async def test_b52_a_get_on_a_stale_connection_is_sent_again_and_a_post_never(
    request_bytes: bytes, statuses: list[int]
) -> None:
    async def stale(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        await peer.read_request()
        peer.close()

    async with Upstream(stale, answering(OK)) as up, plane(up) as proxy, Client.to(proxy.port) as client:
        assert [(await client.ask(request_bytes)).status for _ in range(2)] == statuses
        assert len(up.peers) == statuses.count(200)


async def test_b58_a_restarted_replica_is_not_asked_on_a_connection_of_its_former_life() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.ask(chat())
        proxy.gate.ready["chat"] = Origin("http", "127.0.0.1", upstream.port, generation=2)
        await client.ask(chat())

    assert len(upstream.peers) == 2


async def test_b13_b46_a_refusal_during_an_upload_reaches_the_client() -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        client.writer.write(UPLOAD + b"%x\r\n" % (8 * MIB) + b"x" * MIB)
        answer = await client.answer()

    assert (answer.status, answer.body) == (413, b"no")


async def test_b57_an_upload_that_stops_is_a_408_and_ends_both_connections() -> None:
    async def script(peer: Peer) -> None:
        await peer.wait_eof()

    made = make()
    async with Upstream(script) as upstream, serving(made.app, ConnectionLimits(body_idle_s=0.05)) as served:
        made.gate.ready["files"] = upstream.origin
        async with Client.to(served.port) as client:
            answer = await client.ask(UPLOAD + b"5\r\nhello\r\n")
            assert (answer.status, json.loads(answer.body)["error"]["code"]) == (408, "client_too_slow")
            await (await upstream.accepted(1)).gone()
        await made.pool.aclose()


async def test_b46_continue_is_answered_by_the_proxy_and_not_passed_on() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        request = post("/files/a", b"hello", "Expect: 100-continue")
        await client.send(request[:-5])
        assert (await client.head())[0] == 100
        assert (await client.ask(b"hello")).status == 200

    assert b"expect" not in upstream.peers[0].received.lower()
