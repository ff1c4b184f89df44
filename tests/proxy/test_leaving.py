"""Services that ask for another end: one whose engine is read to the end, one whose clients may close their side."""

import asyncio
from hashlib import sha256
from typing import Any

import pytest

from ai_proxy.metrics import Ending
from tests.fakes.upstream import Peer, Upstream
from tests.proxy.plane import OK, Plane, ended, get, plane, post
from tests.proxy.serving import Client, until

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GUARD_S = 5.0


def having(**keys: Any) -> dict[str, Any]:
    """A config whose service `files` has these keys."""
    return {"services": {"files": {"image": "i", **keys}, "chat": {"image": "i"}}}


DRAIN, KEEP = having(on_disconnect="drain"), having(half_close="keep")


class Gated:
    """A script that answers in two parts, the second when it is told to."""

    def __init__(self, first: bytes, second: bytes) -> None:
        self.go_on = asyncio.Event()
        self._first, self._second = first, second

    async def __call__(self, peer: Peer) -> None:
        while await peer.read_request():
            await peer.send(self._first)
            await asyncio.wait_for(self.go_on.wait(), GUARD_S)
            await peer.send(self._second)


async def left(proxy: Plane) -> None:
    """Wait until no client is connected."""
    await until(lambda: not proxy.serving.state.connections)


# Engines that are read to the end


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
async def test_b04_an_engine_is_read_to_the_end_after_its_client_has_left_a_stream(how: str) -> None:
    script = Gated(CHUNKED + b"3\r\none\r\n", b"3\r\ntwo\r\n0\r\n\r\n")
    async with Upstream(script) as upstream, plane(upstream, **DRAIN) as proxy:
        async with Client.to(proxy.port) as client:
            await client.send(get("/files/a"))
            await client.head()
            assert await client.chunk() == b"one"
            if how == "reset":
                client.reset()
            elif how == "half_close":
                client.writer.write_eof()
            else:
                client.writer.close()
            await left(proxy)
        assert len(proxy.gate.open) == 1
        script.go_on.set()
        await ended(proxy, Ending.CLIENT_GONE)
        assert (proxy.entries[0].status, proxy.entries[0].sent_bytes) == (200, 3)
        # Its connection was read clean, and serves the next one.
        async with Client.to(proxy.port) as client:
            assert (await client.ask(get("/files/b"))).body == b"onetwo"
        assert len(upstream.peers) == 1


async def test_b04_an_engine_is_read_to_the_end_after_its_client_left_before_the_head() -> None:
    script, key = Gated(b"", OK), {"name": "k", "hash": sha256(b"secret").hexdigest()}
    async with Upstream(script) as upstream, plane(upstream, **DRAIN, keys=[key]) as proxy:
        async with Client.to(proxy.port) as client:
            await client.send(post("/files/a", b"{}", "X-API-Key: secret"))
            peer = await upstream.accepted(1)
            await until(lambda: peer.received.endswith(b"{}"))
        await left(proxy)
        assert len(proxy.gate.open) == 1
        script.go_on.set()
        await ended(proxy, Ending.CLIENT_GONE)
        assert (proxy.entries[0].status, proxy.entries[0].sent_bytes) == (499, 0)
        assert proxy.app.key_uses()["k"].responses[499 // 100] == 1
        assert not peer.saw_eof.is_set()


async def test_b04_an_upload_that_its_client_leaves_can_not_be_drained() -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream, **DRAIN) as proxy, Client.to(proxy.port) as client:
        await client.send(b"POST /files/a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
        peer = await upstream.accepted(1)
        await until(lambda: b"12345" in peer.received)
        client.writer.close()
        await peer.gone()
        await ended(proxy, Ending.CLIENT_GONE)


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_b04_what_is_drained_can_be_cancelled(version: bytes) -> None:
    async with Upstream(Gated(CHUNKED, b"")) as upstream, plane(upstream, **DRAIN) as proxy:
        async with Client.to(proxy.port) as client:
            await client.send(get("/files/a").replace(b"HTTP/1.1", version))
            await client.head()
        await left(proxy)
        (grant,) = proxy.gate.open
        grant.request.cancel()
        await ended(proxy, Ending.CLIENT_GONE)


async def test_b04_what_is_drained_has_the_deadlines_of_every_answer() -> None:
    config = having(on_disconnect="drain", timeouts={"idle_s": 0.05})
    async with Upstream(Gated(CHUNKED, b"")) as upstream, plane(upstream, **config) as proxy:
        async with Client.to(proxy.port) as client:
            await client.send(get("/files/a"))
            await client.head()
        await ended(proxy, Ending.CLIENT_GONE)


# Clients that may close their side


async def test_b14_a_client_that_may_close_its_side_is_answered_and_then_closed() -> None:
    script = Gated(CHUNKED + b"3\r\none\r\n", b"3\r\ntwo\r\n0\r\n\r\n")
    async with Upstream(script) as upstream, plane(upstream, **KEEP) as proxy, Client.to(proxy.port) as client:
        await client.send(get("/files/a"))
        client.writer.write_eof()
        await client.head()
        assert await client.chunk() == b"one"
        script.go_on.set()
        assert (await client.rest()).endswith(b"0\r\n\r\n")
        await ended(proxy, Ending.DONE)


async def test_b14_b15_so_is_each_request_that_was_in_line() -> None:
    script = Gated(b"", OK)
    async with Upstream(script) as upstream, plane(upstream, **KEEP) as proxy, Client.to(proxy.port) as client:
        await client.send(get("/files/a") + post("/files/b", b"x" * 100_000) + get("/files/c"))
        client.writer.write_eof()
        peer = await upstream.accepted(1)
        await until(lambda: b"GET /a" in peer.received)
        script.go_on.set()
        answers = await client.rest()

        assert answers.count(b"HTTP/1.1 200") == 3
        assert [entry.target for entry in proxy.entries] == [b"/files/a", b"/files/b", b"/files/c"]


async def test_b14_a_reset_is_the_end_all_the_same() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream, **KEEP) as proxy, Client.to(proxy.port) as client:
        await client.send(get("/files/a"))
        client.writer.write_eof()
        peer = await upstream.accepted(1)
        await until(lambda: peer.received)
        client.reset()
        await peer.gone()
        await ended(proxy, Ending.CLIENT_GONE)


async def test_b14_half_a_request_is_none() -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream, **KEEP) as proxy, Client.to(proxy.port) as client:
        await client.send(b"POST /files/a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
        client.writer.write_eof()
        await (await upstream.accepted(1)).gone()
        await ended(proxy, Ending.CLIENT_GONE)
