"""Clients that are slow on purpose, many at once: each is shown the door in time, and nobody else notices."""

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest

from tests.e2e.clients import asking, error_of
from tests.e2e.conftest import Serve
from tests.e2e.harness import GUARD_S, external
from tests.fakes.upstream import Peer, Upstream
from tests.proxy.serving import Client

pytestmark = pytest.mark.slow

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SETTINGS = {"head_timeout_s": 2, "body_idle_timeout_s": 2, "max_model_body_mb": 1, "max_buffered_mb": 8}
HEAD = b"GET /files/x HTTP/1.1\r\nHost: a\r\n"
BODY = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
)
UPLOAD = b"POST /files/up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
ENDLESS = b"GET /files/endless HTTP/1.1\r\nHost: a\r\n\r\n"


async def serve_or_never_end(peer: Peer) -> None:
    """An engine that answers, and floods whoever asks for `/endless`."""
    while request := await peer.read():
        if b"/endless" in request:
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                await peer.send(bytes(65536))
        elif b"/up " not in peer.received and b"\r\n\r\n" in peer.received:
            await peer.send(OK)


async def drip(client: Client) -> None:
    """Send a field now and then, and never the last one."""
    with suppress(ConnectionError):
        while True:
            await client.send(b"X: y\r\n")
            await asyncio.sleep(0.1)


async def last_words(client: Client, *, dripping: bool) -> bytes:
    """What a slow client hears before its connection ends."""
    async with asyncio.TaskGroup() as both:
        dripper = both.create_task(drip(client)) if dripping else None
        try:
            return await client.rest()
        except ConnectionResetError:
            return b""
        finally:
            if dripper is not None:
                dripper.cancel()


async def test_b05_b57_slow_heads_bodies_and_readers_cost_nobody_else_anything(serve: Serve) -> None:
    async with Upstream(serve_or_never_end) as upstream, AsyncExitStack() as stack:
        services = {"files": external(upstream.port), "chat": external(upstream.port)}
        proxy = await asyncio.to_thread(serve, {"server": SETTINGS, "services": services})

        async def slow(beginning: bytes) -> Client:
            client = await stack.enter_async_context(Client.to(proxy.port))
            await client.send(beginning)
            return client

        readers = [await slow(ENDLESS) for _ in range(5)]
        heads = [await slow(HEAD) for _ in range(40)]
        bodies = [await slow(beginning) for beginning in (BODY, UPLOAD) for _ in range(20)]
        async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as all_of_them, asking(proxy) as others:
            slow_ones = [
                all_of_them.create_task(last_words(client, dripping=client in heads)) for client in (*heads, *bodies)
            ]
            served = 0
            while served < 20 or not all(task.done() for task in slow_ones):
                answer = await others.get("/files/x")
                assert answer.text == "ok", error_of(answer)
                served += 1
        told = [task.result() for task in slow_ones]
        assert {words[:13] for words in told} <= {b"HTTP/1.1 408 ", b""}
        assert any(told)
        assert not any(reader.reader.at_eof() for reader in readers)
    await asyncio.to_thread(proxy.await_quiet)
