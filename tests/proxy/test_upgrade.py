"""Requests for another protocol: who is asked, what both sides agree to, and what becomes of them if they do not."""

import asyncio
import json
from contextlib import suppress

import pytest

from ai_proxy.metrics import Ending
from tests.fakes.upstream import Peer, Upstream, answering, answering_once
from tests.proxy.plane import OK, chat, ended, get, plane
from tests.proxy.serving import Client, until
from tests.proxy.sockets import AGREED, ASK, HELLO, MASKED_HELLO, UPGRADE, agreeing, echoing, take, upgraded


async def test_b63_an_agreed_upgrade_is_passed_on_with_its_fields_as_they_were_spelled() -> None:
    """RFC 9110 §7.8, RFC 6455 §4."""
    async with Upstream(agreeing()) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        fields = await upgraded(client)

        names = [name for name, _ in fields]
        assert names == [b"Sec-WebSocket-Accept", b"x-request-id", b"x-ai-proxy-service", b"Upgrade", b"connection"]
        head = upstream.peers[0].received
        assert head.startswith(b"GET /ws HTTP/1.1\r\n")
        for line in (
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Key: x",
            b"Sec-WebSocket-Version: 13",
        ):
            assert head.count(b"\r\n" + line + b"\r\n") == 1


async def test_b65_an_engine_sees_the_origin_and_the_host_of_a_socket_and_can_refuse_it() -> None:
    """RFC 6455 §10.2. The proxy has no sockets of its own: whose page may open one is the engine's to say."""
    refusing = answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    async with Upstream(refusing) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        assert (await client.ask(get("/files/ws", *UPGRADE, "Origin: https://evil.example"))).status == 403
        head = upstream.peers[0].received
        assert b"\r\nOrigin: https://evil.example\r\n" in head
        assert b"\r\nHost: ai.local\r\n" in head


async def test_b63_bytes_that_came_with_either_head_are_kept() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(AGREED + HELLO)
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(ASK + MASKED_HELLO)
        assert (await client.head())[0] == 101
        assert await take(client, len(HELLO)) == HELLO
        await until(lambda: upstream.peers[0].received.endswith(b"\r\n\r\n" + MASKED_HELLO))


async def test_b63_any_protocol_that_both_speak_is_relayed() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: chat/2\r\nContent-Length: 3\r\n\r\nhi")
        await peer.read_until(b"you too")
        peer.close()

    ask = get("/files/ws", "Connection: Upgrade", "Upgrade: chat/1, chat/2")
    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        fields = dict(await upgraded(client, ask))
        assert fields[b"Upgrade"] == b"chat/2"
        assert b"Content-Length" not in fields
        assert await take(client, 2) == b"hi"
        await client.send(b"you too")
        assert await client.rest() == b""
        assert b"Upgrade: chat/1, chat/2" in upstream.peers[0].received


@pytest.mark.parametrize(
    "body", ["Content-Length: 4\r\n\r\nbody", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
async def test_b63_an_upgrade_with_a_body_is_passed_over_so_that_no_body_is_taken_for_what_follows(
    protocol: str, body: str
) -> None:
    """RFC 9110 §7.8: a server may ignore it."""
    asked = get("/files/ws", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABk")
    asked = asked.replace(b"GET", b"POST").removesuffix(b"\r\n") + body.encode()
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        for _ in range(2):
            assert (await client.ask(asked)).status == 200
        received = upstream.peers[0].received
        assert received.count(b"POST") == 2
        assert received.count(b"body") == 2
        assert b"upgrade" not in received.lower()


async def test_b15_b63_upgrades_that_are_passed_over_may_come_by_the_thousand_at_once() -> None:
    asked = get("/files/a", "Connection: Upgrade", "Upgrade: h2c") * 1200
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(asked)
        for _ in range(1200):
            assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/realtime?model=chat", b"GET /v1/realtime?model=chat "),
        ("/v1/realtime?model=gpt", b"GET /v1/realtime?model=Qwen%2FQwen3 "),
        ("/services/chat/ws", b"GET /ws "),
        ("/queue/ws", b"GET /queue/ws "),
    ],
    ids=["model", "renamed model", "prefix", "default service"],
)
async def test_b63_an_upgrade_is_routed_like_any_request(path: str, asked: bytes) -> None:
    async with Upstream(agreeing()) as upstream, plane(upstream, default_service="chat") as proxy:
        async with Client.to(proxy.port) as client:
            await upgraded(client, get(path, *UPGRADE))
            assert upstream.peers[0].received.startswith(asked)
            assert [grant.request.service for grant in proxy.gate.open] == ["chat"]
        await ended(proxy, Ending.CLIENT_GONE)


async def test_b63_an_upgrade_waits_for_its_grant_and_leaves_with_its_client() -> None:
    async with Upstream(agreeing()) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(get("/cold/ws", *UPGRADE) + MASKED_HELLO)
        await until(lambda: proxy.gate.waiting)
        async with Client.to(proxy.port) as other:
            await other.send(get("/cold/ws", *UPGRADE))
            await until(lambda: len(proxy.gate.waiting) == 2)
        await until(lambda: len(proxy.gate.waiting) == 1)
        proxy.gate.serve("cold", upstream.origin)
        assert (await client.head())[0] == 101
        await until(lambda: upstream.peers[0].received.endswith(MASKED_HELLO))
    assert len(proxy.gate.left) == 1


async def test_b04_b63_an_upgrade_that_nobody_waits_for_any_more_is_not_served_to_its_end() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await go.wait()
        await peer.send(AGREED)
        await peer.wait_eof()

    services = {"files": {"image": "i", "on_disconnect": "drain"}}
    async with Upstream(script) as upstream, plane(upstream, services=services) as proxy:
        async with Client.to(proxy.port) as client:
            await client.send(ASK)
            peer = await upstream.accepted(1)
            await until(lambda: peer.received)
        await until(lambda: not proxy.serving.state.connections)
        go.set()
        await peer.gone()
        await ended(proxy, Ending.CLIENT_GONE)


async def test_b63_it_has_a_connection_of_its_own() -> None:
    async with Upstream(answering(OK), agreeing(), answering(OK)) as upstream, plane(upstream) as proxy:
        async with Client.to(proxy.port) as client:
            await client.ask(chat())
            assert proxy.pool.idle == 1
            await upgraded(client)
        await until(lambda: len(proxy.entries) == 2)
        assert (len(upstream.peers), proxy.pool.idle, proxy.pool.active) == (2, 1, 0)


@pytest.mark.parametrize("status", [b"401 No", b"404 No", b"426 Upgrade Required", b"200 OK"])
async def test_b64_another_answer_passes_as_it_is_and_its_connection_serves_no_other(status: bytes) -> None:
    answer = b"HTTP/1.1 %b\r\nUpgrade: websocket\r\nWWW-Authenticate: x\r\nContent-Length: 4\r\n\r\nbody" % status
    async with Upstream(answering(answer)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        got = await client.ask(ASK + MASKED_HELLO)
        assert (got.status, got.body, got.header(b"www-authenticate")) == (int(status[:3]), b"body", b"x")
        assert await client.rest() == b""
        await upstream.peers[0].gone()
        assert upstream.peers[0].received.endswith(b"\r\n\r\n")
        await ended(proxy, Ending.DONE)
        assert proxy.pool.idle == 0


@pytest.mark.parametrize(
    "head",
    [
        b"Upgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"Upgrade: websocket, h2c\r\nConnection: upgrade\r\n\r\n",
        b"Upgrade: websocket\r\n\r\n",
        b"Connection: upgrade\r\n\r\n",
    ],
)
async def test_b49_b63_a_101_to_what_was_not_asked_for_is_a_502(head: bytes) -> None:
    script = answering_once(b"HTTP/1.1 101 Switching Protocols\r\n" + head + HELLO, then=lambda peer: None)
    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(ASK)
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (502, "upstream_broken")
        await ended(proxy, Ending.REFUSED)
        assert proxy.pool.active == 0


async def test_b49_an_unasked_101_is_a_502() -> None:
    async with Upstream(answering_once(AGREED)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        assert (await client.ask(chat())).status == 502


async def test_b63_an_engine_that_agrees_and_is_gone_ends_the_client_too() -> None:
    async with Upstream(answering_once(AGREED, then=Peer.rst)) as upstream, plane(upstream) as proxy:
        async with Client.to(proxy.port) as client:
            await client.send(ASK)
            with suppress(ConnectionError):
                assert (await client.rest())[:12] in (b"HTTP/1.1 101", b"HTTP/1.1 502", b"")
        await until(lambda: proxy.entries)
        assert proxy.entries[0].ending in (Ending.UPSTREAM_BROKE, Ending.REFUSED)


@pytest.mark.parametrize(
    "ask",
    [get("/files/ws", "Upgrade: websocket"), get("/files/ws", *UPGRADE).replace(b"HTTP/1.1", b"HTTP/1.0")],
    ids=["not listed in Connection", "HTTP/1.0"],
)
async def test_b63_an_upgrade_that_is_not_for_the_next_hop_is_ignored(ask: bytes) -> None:
    """RFC 9110 §7.8."""
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        assert (await client.ask(ask)).status == 200
        assert b"upgrade" not in upstream.peers[0].received.lower()


async def test_b63_http2_is_not_offered_and_its_client_served_as_before() -> None:
    """RFC 9110 §7.8: Java's default client asks every server for it."""
    ask = get("/files/a", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        for _ in range(2):
            assert (await client.ask(ask)).status == 200
        assert b"h2" not in upstream.peers[0].received.lower()


async def test_b15_b63_a_request_before_the_upgrade_is_answered_first() -> None:
    async with Upstream(answering(OK), echoing) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(get("/files/a") + ASK + MASKED_HELLO)
        assert (await client.answer()).body == b"{}"
        assert (await client.head())[0] == 101
        assert await take(client, len(MASKED_HELLO)) == MASKED_HELLO
