"""An idle WebSocket keeps no replica busy, and is told when its replica leaves: close 1001, never inside a frame."""

import asyncio
import socket
import struct
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import pytest

from ai_proxy.metrics import Ending
from ai_proxy.proxy import tunnel
from ai_proxy.proxy.frames import close_frame
from tests.fakes.upstream import Peer, Upstream
from tests.proxy.plane import Plane, ended, get, plane
from tests.proxy.serving import Client, until
from tests.proxy.sockets import (
    AGREED,
    ASK,
    HELLO,
    MASKED_HELLO,
    PING,
    UPGRADE,
    agreeing,
    echoing,
    farewell,
    take,
    upgraded,
)

RESTLESS: dict[str, Any] = {"files": {"image": "i", "timeouts": {"upgrade_idle_s": 0.02}}, "chat": {"image": "i"}}
STOPPING = b"the service is stopping"


def restless(upstream: Upstream) -> AbstractAsyncContextManager[Plane]:
    """A plane in which `files` counts as idle almost at once."""
    return plane(upstream, services=RESTLESS)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "GOODBYE_S", 0.05)


async def test_an_idle_socket_gives_its_grant_back_and_takes_it_again_for_a_message() -> None:
    async with Upstream(echoing) as upstream, restless(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        await until(lambda: not proxy.gate.open)
        await client.send(MASKED_HELLO)
        assert await take(client, len(MASKED_HELLO)) == MASKED_HELLO
        await until(lambda: not proxy.gate.open)
        assert proxy.gate.granted == 1
        assert proxy.gate.renewed >= 1


async def test_a_message_of_the_engine_takes_the_grant_again() -> None:
    async with Upstream(agreeing()) as upstream, restless(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        await until(lambda: not proxy.gate.open)
        await upstream.peers[0].send(HELLO)
        assert await take(client, len(HELLO)) == HELLO
        assert proxy.gate.renewed == 1


async def test_pings_and_pongs_are_no_work() -> None:
    async with Upstream(echoing) as upstream, restless(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        await until(lambda: not proxy.gate.open)
        await client.send(PING)
        assert await take(client, len(PING)) == PING
        assert proxy.gate.renewed == 0


async def test_a_socket_that_is_used_keeps_its_grant() -> None:
    async with Upstream(echoing) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        await client.send(MASKED_HELLO)
        await take(client, len(MASKED_HELLO))
        assert len(proxy.gate.open) == 1


async def test_b63_a_message_to_a_replica_that_takes_nothing_new_ends_the_socket_with_1001() -> None:
    """RFC 6455 §7.4.1."""
    async with Upstream(echoing) as upstream, restless(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        await until(lambda: not proxy.gate.open)
        proxy.gate.ready.clear()
        await client.send(MASKED_HELLO)
        assert await farewell(client) == (1001, STOPPING)
        client.writer.close()
        await ended(proxy, Ending.CANCELLED)
        await upstream.peers[0].gone()
        assert upstream.peers[0].received.endswith(close_frame(1001, STOPPING.decode(), masked=True))
        assert MASKED_HELLO not in upstream.peers[0].received


async def test_b63_the_last_message_of_a_replica_that_leaves_arrives_before_the_close_frame() -> None:
    async with Upstream(agreeing()) as upstream, restless(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        await until(lambda: not proxy.gate.open)
        proxy.gate.ready.clear()
        await upstream.peers[0].send(HELLO)
        assert await take(client, len(HELLO)) == HELLO
        assert await farewell(client) == (1001, STOPPING)


async def test_b63_a_replica_that_leaves_closes_its_sockets_with_1001_and_no_other() -> None:
    async with Upstream(agreeing()) as one, Upstream(echoing) as other, plane(one) as proxy:
        proxy.gate.ready["chat"] = other.origin
        async with Client.to(proxy.port) as client, Client.to(proxy.port) as stays:
            await upgraded(client)
            await client.send(MASKED_HELLO[:3])
            await until(lambda: one.peers[0].received.endswith(MASKED_HELLO[:3]))
            await upgraded(stays, get("/services/chat/ws", *UPGRADE))
            proxy.app.drop(one.origin)
            assert await farewell(client) == (1001, STOPPING)
            client.writer.close()
            await one.peers[0].gone()
            # Its own frame was not at its end: no frame may follow.
            assert one.peers[0].received.endswith(MASKED_HELLO[:3])
            await stays.send(MASKED_HELLO)
            assert await take(stays, len(MASKED_HELLO)) == MASKED_HELLO
            assert repr(proxy.app._upgrades) == "<Upgrades: 1 tunnels to 1 origins>"


async def test_b63_the_close_frame_waits_for_the_end_of_the_frame_under_way_and_is_the_last() -> None:
    async with Upstream(agreeing(HELLO[:3])) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        assert await take(client, 3) == HELLO[:3]
        proxy.app.drop(upstream.origin)
        await upstream.peers[0].send(HELLO[3:5])
        assert await take(client, 2) == HELLO[3:5]
        await upstream.peers[0].send(HELLO[5:] + HELLO)
        assert await take(client, 2) == HELLO[5:]
        assert await farewell(client) == (1001, STOPPING)


async def test_b63_a_frame_that_never_ends_is_broken_off(hasty: None) -> None:
    async with Upstream(agreeing(HELLO[:3])) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        assert await take(client, 3) == HELLO[:3]
        proxy.app.drop(upstream.origin)
        with suppress(ConnectionResetError):
            assert await client.rest() == b""
        await ended(proxy, Ending.CANCELLED)


async def test_b63_a_client_that_does_not_close_is_cut_off(hasty: None) -> None:
    async with Upstream(agreeing()) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        proxy.app.drop(upstream.origin)
        assert (await farewell(client))[0] == 1001
        await ended(proxy, Ending.CANCELLED)


async def test_b63_after_the_engines_own_close_frame_none_of_ours_follows() -> None:
    closing = close_frame(1000, "done")
    async with Upstream(agreeing(closing)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        assert await take(client, len(closing)) == closing
        proxy.app.drop(upstream.origin)
        assert await client.rest() == b""


async def test_b63_a_client_that_sends_no_more_hears_that_its_replica_leaves() -> None:
    engine_left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(AGREED)
        await peer.wait_eof()
        await engine_left.wait()
        peer.close()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        client.writer.write_eof()
        await upstream.peers[0].saw_eof.wait()
        proxy.app.drop(upstream.origin)
        assert await farewell(client) == (1001, STOPPING)
        engine_left.set()
        await ended(proxy, Ending.CANCELLED)


async def test_b63_a_client_whose_engine_has_said_all_is_told_no_more() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(AGREED, HELLO)
        peer.fin()
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        assert await client.rest() == HELLO
        proxy.app.drop(upstream.origin)
        await upstream.peers[0].gone()
        client.writer.close()
        await ended(proxy, Ending.CANCELLED)


async def test_another_protocol_than_websocket_just_ends() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(AGREED.replace(b"websocket", b"chat"), b"hi")
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client, ASK.replace(b"websocket", b"chat"))
        assert await take(client, 2) == b"hi"
        proxy.app.drop(upstream.origin)
        assert await client.rest() == b""
        client.writer.close()
        await ended(proxy, Ending.CANCELLED)


async def test_a_client_that_was_reset_unnoticed_hinders_nobody() -> None:
    chat, agreed = (data.replace(b"websocket", b"chat") for data in (ASK, AGREED))

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(agreed)
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port)) as client:
            client.sendall(chat)
            await until(lambda: proxy.app._upgrades._tunnels)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        proxy.app.drop(upstream.origin)
        await ended(proxy, Ending.CANCELLED)


async def test_b62_b63_a_shutdown_closes_idle_sockets_at_once_and_busy_ones_at_its_deadline() -> None:
    async with Upstream(agreeing()) as upstream, restless(upstream) as proxy:
        async with Client.to(proxy.port) as busy, Client.to(proxy.port) as idle:
            await upgraded(busy, get("/services/chat/ws", *UPGRADE))
            await upgraded(idle)
            await until(lambda: len(proxy.gate.open) == 1)
            await proxy.serving.shut_down()
            assert await farewell(idle) == (1001, b"the proxy is shutting down")
            idle.writer.close()
            await until(lambda: len(proxy.entries) == 1)
            for task in list(proxy.serving.state.tasks):
                task.cancel()
            assert await farewell(busy) == (1001, b"the connection was ended by the proxy")
            busy.writer.close()
            await until(lambda: not proxy.serving.state.connections)
        assert [(entry.service, entry.ending) for entry in proxy.entries] == [
            ("files", Ending.CANCELLED),
            ("chat", Ending.CANCELLED),
        ]
        assert proxy.gate.open == []


async def test_an_operators_cancel_closes_with_1001() -> None:
    async with Upstream(agreeing()) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        assert proxy.gate.asked is not None
        proxy.gate.asked.cancel()
        assert (await farewell(client))[0] == 1001
        await ended(proxy, Ending.CANCELLED)
        await upstream.peers[0].gone()
