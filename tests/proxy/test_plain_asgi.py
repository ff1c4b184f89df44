"""The same app on a server that offers plain ASGI only."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from uvicorn import Config, Server

from ai_proxy.metrics import Ending
from tests.fakes.upstream import Peer, Upstream, answering, answering_once
from tests.proxy.plane import EVENTS, OK, Plane, chat, get, make, post
from tests.proxy.serving import Client, until


@asynccontextmanager
async def plain(upstream: Upstream, **config: Any) -> AsyncIterator[tuple[Plane, int]]:
    """Run the app under uvicorn's own protocol; gives the port."""
    made = make(**config)
    made.gate.ready = {"chat": upstream.origin, "files": upstream.origin}
    settings = Config(made.app, port=0, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
    server = Server(settings)
    serving = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    try:
        yield made, server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await serving
        await made.pool.aclose()


async def test_requests_are_routed_and_relayed() -> None:
    async with Upstream(answering(OK)) as upstream, plain(upstream) as (proxy, port), Client.to(port) as client:
        for request in (chat("gpt"), get("/files/a"), post("/files/a", b"x" * 200_000)):
            assert (await client.ask(request)).status == 200
        assert (await client.ask(chat("nobody"))).status == 404

    assert b"Qwen/Qwen3" in upstream.peers[0].received
    assert [entry.status for entry in proxy.entries] == [200, 200, 200, 404]


@pytest.mark.parametrize("phase", ["queued", "before_head", "in_stream"])
async def test_a_client_that_leaves_ends_its_request(phase: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        if phase == "in_stream":
            await peer.send(EVENTS, b"2\r\n\n\n\r\n")
        await peer.wait_eof()

    async with Upstream(script) as upstream, plain(upstream) as (proxy, port), Client.to(port) as client:
        await client.send(chat("cold" if phase == "queued" else "chat"))
        if phase == "queued":
            await until(lambda: proxy.gate.waiting)
        else:
            peer = await upstream.accepted(1)
            await until(lambda: peer.received)
        client.reset()
        await until(lambda: proxy.entries)
        assert proxy.entries[0].ending is Ending.CLIENT_GONE
        if phase != "queued":
            await upstream.peers[0].gone()
        assert proxy.gate.open == []


async def test_an_upstream_that_dies_breaks_the_client_s_connection_off() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    async with Upstream(answering_once(head)) as upstream, plain(upstream) as (proxy, port), Client.to(port) as client:
        await client.send(get("/files/a"))
        await client.head()
        assert not (await client.rest()).endswith(b"0\r\n\r\n")
        assert proxy.entries[0].ending is Ending.UPSTREAM_BROKE


async def test_httpx_can_call_the_app_without_a_socket() -> None:
    async with Upstream(answering(OK)) as upstream:
        made = make()
        made.gate.ready = {"chat": upstream.origin}
        transport = httpx.ASGITransport(app=made.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://ai.local") as client:
            assert (await client.get("/v1/models")).json()["object"] == "list"
            answer = await client.post("/v1/chat/completions", content=json.dumps({"model": "chat"}))
            assert (answer.status_code, answer.text) == (200, "{}")
        await made.pool.aclose()


async def test_a_websocket_is_turned_away() -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    await make().app({"type": "websocket", "path": "/"}, receive, send)

    assert sent == [{"type": "websocket.close"}]


async def test_b12_a_stream_that_waits_is_kept_alive_and_told_why_its_start_fails() -> None:
    server = {"heartbeat_after_s": 0.01}
    async with Upstream() as upstream, plain(upstream, server=server) as (proxy, port), Client.to(port) as client:
        await client.send(chat("cold", stream=True))
        assert (await client.head())[0] == 200
        assert await client.chunk() == b": waiting for cold\n\n"
        proxy.gate.fail("no such image")
        rest = await client.rest()

    assert b'data: {"error":{"message":"no such image"' in rest
    assert not rest.endswith(b"0\r\n\r\n")
