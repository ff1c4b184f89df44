"""Clients that leave, and requests that an operator ends: whatever the phase, nothing stays behind."""

import asyncio

import pytest

from ai_proxy.metrics import Ending
from ai_proxy.proxy.limits import ConnectionLimits
from tests.fakes.upstream import Peer, Upstream
from tests.proxy.plane import EVENTS, UPLOAD, chat, ended, event, make, plane
from tests.proxy.serving import Client, connections, serving, until

MIB = 1024 * 1024


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_b01_a_client_that_leaves_before_the_head_closes_the_upstream(how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat())
        peer = await upstream.accepted(1)
        await until(lambda: peer.received.endswith(b"}"))
        client.reset() if how == "reset" else client.writer.close()
        await peer.gone()
        await ended(proxy, Ending.CLIENT_GONE)
        assert proxy.entries[0].status == 499


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
async def test_b02_a_client_that_leaves_a_stream_closes_the_upstream(how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(EVENTS, event(1))
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat(stream=True))
        await client.head()
        await client.chunk()
        if how == "reset":
            client.reset()
        elif how == "half_close":
            client.writer.write_eof()
        else:
            client.writer.close()
        await upstream.peers[0].gone()
        await ended(proxy, Ending.CLIENT_GONE)
        assert proxy.entries[0].status == 200


@pytest.mark.parametrize("paused", [True, False])
async def test_b02_a_client_that_leaves_during_its_upload_closes_the_upstream(paused: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        if paused:
            await asyncio.sleep(3600)
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(UPLOAD + b"5\r\nhello\r\n")
        peer = await upstream.accepted(1)
        await until(lambda: peer.received.endswith(b"\r\n"))
        if paused:
            client.writer.write(b"%x\r\n" % (64 * MIB) + b"x" * 32 * MIB)
            state = proxy.serving.state
            await until(lambda: any(c.flow.read_paused for c in state.connections))  # type: ignore[union-attr]
            client.reset()
        else:
            client.writer.close()
            await peer.gone()
        await ended(proxy, Ending.CLIENT_GONE)
        await until(lambda: not proxy.pool.active)


async def test_b02_a_client_that_leaves_before_it_took_the_last_piece_has_left() -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(EVENTS, event(1))
        await go_on.wait()
        await peer.send(event(2) + b"0\r\n\r\n")
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat(stream=True))
        await client.head()
        (connection,) = await connections(proxy.serving.state)
        connection.pause_writing()
        go_on.set()
        await until(lambda: not proxy.pool.active)
        client.reset()
        await ended(proxy, Ending.CLIENT_GONE)


async def test_b03_a_client_that_leaves_the_queue_is_forgotten() -> None:
    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat("cold"))
        await until(lambda: proxy.gate.waiting)
        client.writer.close()
        await until(lambda: proxy.gate.left)
        await ended(proxy, Ending.CLIENT_GONE)

    assert proxy.gate.granted == 0


async def test_a_client_that_leaves_in_the_middle_of_a_body_for_a_model_is_forgotten() -> None:
    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat()[:-5])
        await until(lambda: proxy.app._budget.taken)
        client.writer.close()
        await until(lambda: proxy.entries)

    assert proxy.entries[0].ending is Ending.CLIENT_GONE
    assert proxy.app._budget.taken == 0
    assert upstream.peers == []


async def test_an_operator_s_cancel_closes_both_sides() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(EVENTS, event(1))
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat(stream=True))
        await client.head()
        await client.chunk()
        proxy.gate.open[0].request.cancel()
        assert await client.rest() == b""
        await upstream.peers[0].gone()
        await ended(proxy, Ending.CANCELLED)


async def test_b57_an_upload_that_stops_while_its_answer_streams_is_not_the_engine_s_fault() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_until(b"hello\r\n")
        await peer.send(EVENTS, event(1))
        await peer.wait_eof()

    made = make()
    async with Upstream(script) as upstream, serving(made.app, ConnectionLimits(body_idle_s=0.05)) as served:
        made.gate.ready["files"] = upstream.origin
        async with Client.to(served.port) as client:
            await client.send(UPLOAD + b"5\r\nhello\r\n")
            await client.head()
            assert b"client_too_slow" in await client.rest()
            await ended(made, Ending.REFUSED)
        await made.pool.aclose()
