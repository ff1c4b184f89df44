"""Connections that leave HTTP: given away as they are at the last byte of the 101, and counted until they end."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.transport.errors import ProtocolError, UpstreamClosed
from ai_proxy.transport.limits import Limits
from ai_proxy.transport.pool import Pool
from ai_proxy.transport.reader import Phase, ResponseReader
from tests.fakes.upstream import GUARD_S, Peer, Upstream, answering, answering_once
from tests.transport.pools import GET, OK, get, pool_of, until_idle

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"


async def switching(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(SWITCH + b"early")
    await peer.wait_eof()


class Bytes(asyncio.Protocol):
    """Keeps what comes, and tells the former protocol of the end."""

    def __init__(self) -> None:
        self.got = b""
        self.former: asyncio.BaseProtocol

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.former.connection_lost(exc)


@given(st.binary(max_size=40), st.lists(st.integers(0, 150), max_size=5))
def test_b63_a_101_ends_at_its_last_byte_however_it_arrives(early: bytes, places: list[int]) -> None:
    reader, data = ResponseReader(Limits()), b"HTTP/1.1 100 Continue\r\n\r\n" + SWITCH + early
    reader.asked = b"chat, websocket"
    ends = sorted({min(place, len(data) - len(early)) for place in places} | {len(data)})
    start = 0
    for end in ends:
        if start < end and reader.phase is Phase.HEAD:
            assert reader.feed(data[start:end]) == b""
            start = end

    assert (reader.phase, reader.status, reader.persistent) == (Phase.DONE, 101, False)
    assert reader.early == early[: start - len(data) + len(early)]


@pytest.mark.parametrize("asked", [b"", b"h2c", b"websocket/2"])
def test_b49_a_101_to_something_else_is_refused(asked: bytes) -> None:
    reader = ResponseReader(Limits())
    reader.asked = asked
    with pytest.raises(ProtocolError, match="not asked for"):
        reader.feed(SWITCH)


async def test_b63_the_socket_is_given_away_with_all_that_came_after_the_head() -> None:
    async with Upstream(switching) as upstream, pool_of() as pool:
        exchange = await pool.send(upstream.origin, GET, method=b"GET", upgrade=b"websocket")
        assert (exchange.status, exchange.complete) == (101, True)
        raw = exchange.take_over()
        protocol = Bytes()
        protocol.former, protocol.got = raw.transport.get_protocol(), raw.early
        raw.transport.set_protocol(protocol)
        exchange.close()
        raw.resume()
        raw.transport.write(b"hello")
        await upstream.peers[0].send(b" late")
        async with asyncio.timeout(GUARD_S):
            while not (upstream.peers[0].received.endswith(b"hello") and protocol.got == b"early late"):
                await asyncio.sleep(0.001)
        assert repr(pool) == "<Pool: 1 origins, 1 active, 0 idle, 0 waiting>"
        raw.transport.abort()
        await until_idle(pool, 0)


async def test_b63_a_socket_that_nobody_takes_is_closed() -> None:
    async with Upstream(switching) as upstream, pool_of() as pool:
        exchange = await pool.send(upstream.origin, GET, method=b"GET", upgrade=b"websocket")
        exchange.close()
        await upstream.peers[0].gone()
        await until_idle(pool, 0)
        with pytest.raises(UpstreamClosed):
            exchange.take_over()


async def test_b63_an_upgrade_never_takes_an_idle_connection_nor_leaves_one() -> None:
    async with Upstream(answering(OK)) as upstream, pool_of() as pool:
        await get(pool, upstream.origin)
        exchange = await pool.send(upstream.origin, GET, method=b"GET", upgrade=b"websocket")
        assert await exchange.read() == b"hello"
        assert exchange.raw is None
        await until_idle(pool, 1)
        assert len(upstream.peers) == 2


async def test_b49_an_unasked_101_fails_the_exchange_and_its_connection() -> None:
    async with Upstream(answering_once(SWITCH, then=lambda peer: None)) as upstream, pool_of() as pool:
        with pytest.raises(ProtocolError):
            await pool.send(upstream.origin, GET, method=b"GET")
        await until_idle(pool, 0)


async def test_a_pool_that_closes_closes_what_it_gave_away() -> None:
    async with Upstream(switching) as upstream:
        pool = Pool()
        (await pool.send(upstream.origin, GET, method=b"GET", upgrade=b"websocket")).take_over()
        async with asyncio.timeout(GUARD_S):
            await pool.aclose()
        await upstream.peers[0].gone()
