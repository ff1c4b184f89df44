"""The pool against real sockets: the cap and its line, and origins that go away."""

import asyncio
from dataclasses import replace
from math import inf

import pytest

from ai_proxy.transport.errors import (
    ConnectFailed,
    FirstByteTimeout,
    PoolClosed,
    PoolTimeout,
    UpstreamClosed,
)
from ai_proxy.transport.limits import Limits, Timeouts
from tests.fakes.upstream import GUARD_S, Peer, Upstream, answering, answering_once
from tests.transport.pools import CLOSING, GET, OK, ONE, body_of, get, hold, pool_of, silent


async def test_b54_refused_is_an_error_that_frees_its_turn() -> None:
    async with Upstream() as upstream:
        origin = upstream.origin
    async with pool_of(limits=ONE) as pool:
        for _ in range(2):
            with pytest.raises(ConnectFailed, match="cannot connect to http://127"):
                await get(pool, origin)
        assert repr(pool) == "<Pool: 0 origins, 0 active, 0 idle, 0 waiting>"


async def test_b59_above_the_cap_requests_wait_their_turn_in_order() -> None:
    order: list[int] = []
    async with Upstream(answering(OK)) as upstream, pool_of(limits=ONE) as pool:

        async def numbered(number: int) -> None:
            await get(pool, upstream.origin)
            order.append(number)

        await asyncio.gather(*[numbered(number) for number in range(10)])
        assert (order, len(upstream.peers)) == (list(range(10)), 1)


async def test_a_turn_of_a_closed_connection_goes_to_the_next_in_line() -> None:
    async with Upstream(answering_once(CLOSING)) as upstream, pool_of(limits=Limits(max_connections=2)) as pool:
        bodies = await asyncio.gather(*[get(pool, upstream.origin) for _ in range(8)])
        assert bodies == [b"hello"] * 8


async def test_b59_waiting_for_a_turn_ends_at_its_deadline() -> None:
    async with Upstream(hold) as upstream, pool_of(Timeouts(pool_s=0.01), ONE) as pool:
        exchange = await pool.send(upstream.origin, GET, method=b"GET")
        with pytest.raises(PoolTimeout):
            await get(pool, upstream.origin)
        assert repr(pool) == "<Pool: 1 origins, 1 active, 0 idle, 0 waiting>"
        exchange.close()


async def test_whoever_is_cancelled_in_line_passes_the_turn_on() -> None:
    async with Upstream(hold, answering(OK)) as upstream, pool_of(limits=ONE) as pool:
        exchange = await pool.send(upstream.origin, GET, method=b"GET")
        first, second = [asyncio.create_task(get(pool, upstream.origin)) for _ in range(2)]
        await asyncio.sleep(0)
        first.cancel()
        exchange.close()
        assert await second == b"hello"
        assert first.cancelled()


async def test_b55_no_response_in_time_closes_the_connection() -> None:
    async with Upstream(silent) as upstream, pool_of(Timeouts(first_byte_s=0.01)) as pool:
        with pytest.raises(FirstByteTimeout):
            await get(pool, upstream.origin)
        await (await upstream.accepted(1)).gone()


async def test_a_dropped_origin_has_no_idle_connections_and_its_active_ones_finish() -> None:
    finish = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK[:-5])
        await finish.wait()
        await peer.send(b"hello")
        await peer.wait_eof()

    async with Upstream(slow, answering(OK)) as upstream, pool_of() as pool:
        exchange = await pool.send(upstream.origin, GET, method=b"GET")
        await get(pool, upstream.origin)
        assert (pool.active, pool.idle) == (1, 1)
        pool.drop(upstream.origin)
        finish.set()
        assert await body_of(exchange) == b"hello"
        await asyncio.gather(*[peer.gone() for peer in upstream.peers])
        assert repr(pool) == "<Pool: 0 origins, 0 active, 0 idle, 0 waiting>"


async def test_an_origin_dropped_with_abort_breaks_its_active_exchanges() -> None:
    async with Upstream(hold) as upstream, pool_of() as pool:
        exchange = await pool.send(upstream.origin, GET, method=b"GET")
        pool.drop(upstream.origin, abort=True)
        with pytest.raises(UpstreamClosed):
            await exchange.read()


async def test_a_dropped_origin_answers_whoever_waits_for_it() -> None:
    async with Upstream(hold) as upstream, pool_of(limits=ONE) as pool:
        await pool.send(upstream.origin, GET, method=b"GET")
        waiting = asyncio.create_task(get(pool, upstream.origin))
        await asyncio.sleep(0)
        pool.drop(upstream.origin)
        with pytest.raises(PoolClosed):
            await waiting


async def test_b58_a_restarted_replica_never_sees_a_connection_of_its_former_life() -> None:
    async with Upstream(answering(OK)) as upstream, pool_of() as pool:
        await get(pool, upstream.origin)
        await get(pool, replace(upstream.origin, generation=1))
        assert [peer.received for peer in upstream.peers] == [GET, GET]


async def test_closing_the_pool_closes_every_socket_and_refuses_more() -> None:
    async with Upstream(hold, answering(OK)) as upstream, pool_of() as pool:
        await pool.send(upstream.origin, GET, method=b"GET")
        await get(pool, upstream.origin)
        await pool.aclose()
        assert repr(pool) == "<Pool: closed, 0 active, 0 idle, 0 waiting>"
        await asyncio.gather(*[peer.gone() for peer in upstream.peers])
        with pytest.raises(PoolClosed):
            await get(pool, upstream.origin)


async def test_an_origin_is_quiet_from_the_last_look_that_found_it_sending() -> None:
    async with Upstream(answering(OK)) as upstream, pool_of() as pool:
        assert pool.quiet_s(upstream.origin) == inf
        await get(pool, upstream.origin)
        assert pool.quiet_s(upstream.origin) == 0
        async with asyncio.timeout(GUARD_S):
            while not pool.quiet_s(upstream.origin):
                await asyncio.sleep(0.001)
        await get(pool, upstream.origin)
        assert pool.quiet_s(upstream.origin) == 0
