"""Making connections: deadlines, cancellation, and that they lead to whom they were meant for."""

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ai_proxy.transport.errors import ConnectFailed, ConnectTimeout, OriginEnded, PoolClosed
from ai_proxy.transport.limits import Timeouts
from ai_proxy.transport.origin import Origin
from ai_proxy.transport.pool import Pool
from tests.fakes.upstream import Upstream, answering
from tests.transport.pools import CLOSING, GET, OK, ONE, get, pool_of, silent


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose backlog is full: the kernel drops each further SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port
        for filler in fillers:
            filler.close()


async def test_b54_a_connection_that_is_not_made_in_time_is_a_timeout_and_frees_its_turn(full_port: int) -> None:
    pool = Pool()
    with pytest.raises(ConnectTimeout):
        await pool.send(Origin("http", "127.0.0.1", full_port), GET, method=b"GET", timeouts=Timeouts(connect_s=0.02))
    assert repr(pool) == "<Pool: 0 origins, 0 active, 0 idle, 0 waiting>"


async def test_l04_who_connects_to_a_replica_that_is_gone_hears_of_it_at_once(full_port: int) -> None:
    """A container's address that nobody has any more answers nothing at all."""
    pool, origin = Pool(), Origin("http", "127.0.0.1", full_port)
    sending = asyncio.create_task(pool.send(origin, GET, method=b"GET"))
    await asyncio.sleep(0)
    pool.drop(origin)
    with pytest.raises(PoolClosed):
        await asyncio.wait_for(sending, 5)
    assert repr(pool) == "<Pool: 0 origins, 0 active, 0 idle, 0 waiting>"


async def test_cancelled_while_connecting_it_frees_its_turn(full_port: int) -> None:
    pool = Pool()
    sending = asyncio.create_task(pool.send(Origin("http", "127.0.0.1", full_port), GET, method=b"GET"))
    await asyncio.sleep(0)
    assert pool.active == 1
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert repr(pool) == "<Pool: 0 origins, 0 active, 0 idle, 0 waiting>"


async def test_a_name_that_does_not_resolve_is_a_failed_connect() -> None:
    pool = Pool()
    with pytest.raises(ConnectFailed):
        await pool.send(Origin("http", "a" * 70, 80), GET, method=b"GET")
    with pytest.raises(ConnectFailed):
        await pool.send(Origin("http", "x", 80, uds="/nowhere/engine.sock"), GET, method=b"GET")


@pytest.mark.parametrize("upgrade", [b"", b"websocket"], ids=["request", "upgrade"])
async def test_l22_who_answers_in_place_of_what_has_ended_is_told_nothing(upgrade: bytes) -> None:
    async with Upstream(silent) as upstream, pool_of(limits=ONE) as pool:
        ended = replace(upstream.origin, is_alive=lambda: False)
        for number in (1, 2):
            with pytest.raises(OriginEnded):
                await pool.send(ended, GET, method=b"GET", upgrade=upgrade)
            await (await upstream.accepted(number)).gone()
        assert [peer.received for peer in upstream.peers] == [b"", b""]


async def test_l22_it_is_asked_of_each_new_connection_and_never_of_one_that_is_used_again() -> None:
    asked: list[int] = []
    async with Upstream(answering(CLOSING), answering(OK)) as upstream, pool_of() as pool:

        def is_alive() -> bool:
            asked.append(len(upstream.peers))
            return True

        origin = replace(upstream.origin, is_alive=is_alive)
        for _ in range(5):
            assert await get(pool, origin) == b"hello"
        assert len(upstream.peers) == len(asked) == 2


async def test_l22_a_connection_made_in_the_former_life_of_an_origin_serves_no_other() -> None:
    async with Upstream(answering(OK)) as upstream, pool_of() as pool:
        for _ in range(2):
            assert await get(pool, replace(upstream.origin, is_alive=lambda: True)) == b"hello"
        assert len(upstream.peers) == 2
