"""The pool against real sockets: reuse, deadlines, backpressure, and whatever else happens to it."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_proxy.transport.errors import (
    PoolClosed,
    ProtocolError,
    UpstreamClosed,
)
from ai_proxy.transport.limits import Limits
from tests.fakes.upstream import Peer, Upstream, answering, answering_once
from tests.transport.pools import CLOSING, GET, OK, ONE, POST, body_of, get, hold, pool_of, silent, until_idle


async def test_sequential_requests_share_one_connection() -> None:
    async with Upstream(answering(OK)) as upstream, pool_of() as pool:
        for _ in range(5):
            assert await get(pool, upstream.origin) == b"hello"
        assert (len(upstream.peers), repr(pool)) == (1, "<Pool: 1 origins, 0 active, 1 idle, 0 waiting>")


async def test_a_request_arrives_byte_for_byte() -> None:
    async with Upstream(answering(OK)) as upstream, pool_of() as pool:
        await pool.send(upstream.origin, POST, b"a\x00b\r\n", method=b"POST")
        assert upstream.peers[0].received == POST + b"a\x00b\r\n"


async def test_the_connection_used_last_is_used_first() -> None:
    async with Upstream(answering(OK)) as upstream, pool_of() as pool:
        await asyncio.gather(*[get(pool, upstream.origin) for _ in range(3)])
        assert pool.idle == 3
        before = [len(peer.received) for peer in upstream.peers]
        for _ in range(10):
            await get(pool, upstream.origin)
        after = [len(peer.received) for peer in upstream.peers]
        assert sum(now != then for now, then in zip(after, before, strict=True)) == 1


async def test_a_response_in_single_bytes_is_read_whole() -> None:
    pieces = [bytes([byte]) for byte in OK]
    async with Upstream(answering(*pieces)) as upstream, pool_of() as pool:
        assert await get(pool, upstream.origin) == b"hello"


async def test_b08_the_head_is_returned_before_the_body_begins() -> None:
    async with Upstream(hold) as upstream, pool_of() as pool:
        exchange = await pool.send(upstream.origin, GET, method=b"GET")
        assert (exchange.status, exchange.complete, exchange.read_nowait()) == (200, False, None)
        exchange.close()


async def test_b01_closing_an_exchange_early_is_seen_by_the_upstream() -> None:
    async with Upstream(hold) as upstream, pool_of() as pool:
        exchange = await pool.send(upstream.origin, GET, method=b"GET")
        exchange.close()
        await upstream.peers[0].gone()
        await until_idle(pool, 0)


async def test_cancelling_a_send_is_seen_by_the_upstream() -> None:
    async with Upstream(silent) as upstream, pool_of() as pool:
        sending = asyncio.create_task(pool.send(upstream.origin, GET, method=b"GET"))
        peer = await upstream.accepted(1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await peer.gone()
        await until_idle(pool, 0)


@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", b"\r\n", b"x"])
async def test_b34_a_leftover_never_becomes_the_next_response(extra: bytes) -> None:
    async with Upstream(answering(OK + extra)) as upstream, pool_of() as pool:
        assert [await get(pool, upstream.origin) for _ in range(3)] == [b"hello"] * 3
        assert len(upstream.peers) == 3


async def test_b34_bytes_on_an_idle_connection_close_it() -> None:
    more = asyncio.Event()

    async def poison(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        await more.wait()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await peer.wait_eof()

    async with Upstream(poison, answering(OK)) as upstream, pool_of() as pool:
        await get(pool, upstream.origin)
        more.set()
        await until_idle(pool, 0)
        assert await get(pool, upstream.origin) == b"hello"


async def test_b52_an_idle_connection_that_the_upstream_closes_leaves_the_pool() -> None:
    async with Upstream(answering_once(OK)) as upstream, pool_of() as pool:
        await get(pool, upstream.origin)
        await until_idle(pool, 0)
        assert repr(pool) == "<Pool: 0 origins, 0 active, 0 idle, 0 waiting>"


async def test_b53_an_idle_connection_is_closed_when_it_expires() -> None:
    async with Upstream(answering(OK)) as upstream, pool_of(limits=Limits(idle_expiry_s=0.02)) as pool:
        await get(pool, upstream.origin)
        await upstream.peers[0].gone()
        await until_idle(pool, 0)


async def stale(peer: Peer) -> None:
    """Answer once, and close in the middle of the next request, as a server does whose keep-alive ended."""
    await peer.read_request()
    await peer.send(OK)
    await peer.read_request()
    peer.rst()


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"])
async def test_b52_an_idempotent_request_on_a_stale_connection_is_repeated_once_on_a_new_one(method: bytes) -> None:
    async with Upstream(stale, answering(OK)) as upstream, pool_of() as pool:
        await get(pool, upstream.origin)
        head = GET.replace(b"GET", method)
        exchange = await pool.send(upstream.origin, head, method=method)
        assert exchange.status == 200
        assert [peer.received for peer in upstream.peers] == [GET + head, head]


@pytest.mark.parametrize("others", [0, 3])
async def test_b52_at_the_cap_too_a_repeated_request_gets_a_new_connection(others: int) -> None:
    async def stale_by_fin(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        await peer.read_request()
        peer.close()

    async with Upstream(stale_by_fin, answering(OK)) as upstream, pool_of(limits=ONE) as pool:
        await get(pool, upstream.origin)
        bodies = await asyncio.gather(*[get(pool, upstream.origin) for _ in range(1 + others)])
        assert bodies == [b"hello"] * (1 + others)
        assert repr(pool) == "<Pool: 1 origins, 0 active, 1 idle, 0 waiting>"


async def test_b52_a_post_is_never_sent_twice() -> None:
    async with Upstream(stale, answering(OK)) as upstream, pool_of() as pool:
        await get(pool, upstream.origin)
        with pytest.raises(UpstreamClosed) as caught:
            await pool.send(upstream.origin, POST, b"hello", method=b"POST")
        assert (caught.value.stale, len(upstream.peers)) == (True, 1)


async def test_b52_a_request_is_repeated_only_once() -> None:
    closing = answering_once(then=Peer.rst)
    async with Upstream(stale, closing, answering(OK)) as upstream, pool_of() as pool:
        await get(pool, upstream.origin)
        with pytest.raises(UpstreamClosed):
            await get(pool, upstream.origin)
        assert len(upstream.peers) == 2


async def test_b52_a_first_connection_that_closes_is_not_tried_again() -> None:
    async with Upstream(answering_once(then=Peer.rst)) as upstream, pool_of() as pool:
        with pytest.raises(UpstreamClosed):
            await get(pool, upstream.origin)
        assert len(upstream.peers) == 1


async def test_a_unix_socket_serves_as_well(tmp_path: Path) -> None:
    async with Upstream(answering(OK), uds=tmp_path / "engine.sock") as upstream, pool_of() as pool:
        assert [await get(pool, upstream.origin) for _ in range(2)] == [b"hello"] * 2
        assert len(upstream.peers) == 1


async def test_an_upstream_that_speaks_something_else_is_refused_at_once() -> None:
    async def ssh(peer: Peer) -> None:
        await peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        await peer.wait_eof()

    async with Upstream(ssh) as upstream, pool_of() as pool:
        with pytest.raises((ProtocolError, UpstreamClosed)):
            await get(pool, upstream.origin)


async def test_b05_a_slow_reader_holds_the_upstream_back() -> None:
    """The upstream's writer is blocked while the reader has taken nothing; then everything arrives."""
    size = 64 * 1024 * 1024
    sent = 0

    async def flood(peer: Peer) -> None:
        nonlocal sent
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await peer.send(b"x" * 65536)
            sent += 65536

    async with Upstream(flood) as upstream, pool_of() as pool:
        exchange = await pool.send(upstream.origin, GET, method=b"GET")
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.02)
        assert sent < size / 2
        received = 0
        while piece := await exchange.read():
            received += len(piece)
        assert received == size


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(["answer", "close", "reset", "hold", "chunk"]), st.booleans()), max_size=24))
async def test_whatever_happens_every_place_under_the_cap_comes_back(storm: list[tuple[str, bool]]) -> None:
    """Requests that are answered, closed on, reset, left hanging or cancelled, three at a time."""
    fates = {
        "answer": answering(OK),
        "close": answering_once(CLOSING),
        "reset": answering_once(OK[:20], then=Peer.rst),
        "hold": hold,
        "chunk": answering_once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"),
    }
    scripts = [fates[fate] for fate, _ in storm] or [silent]
    async with Upstream(*scripts) as upstream, pool_of(limits=Limits(max_connections=3)) as pool:
        tasks = [asyncio.create_task(get(pool, upstream.origin)) for _ in storm]
        for task, (_, cancelled) in zip(tasks, storm, strict=True):
            await asyncio.sleep(0)
            assert pool.active + pool.idle <= 3
            if cancelled:
                task.cancel()
        # Whoever was given a peer that holds never ends by itself: its origin goes away.
        for _ in range(50):
            await asyncio.sleep(0)
        pool.drop(upstream.origin, abort=True)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} <= {bytes, UpstreamClosed, PoolClosed, asyncio.CancelledError}
        await until_idle(pool, 0)
        assert repr(pool) == "<Pool: 0 origins, 0 active, 0 idle, 0 waiting>"


async def test_the_warm_path_is_synchronous_up_to_the_wait() -> None:
    async with Upstream(answering(OK)) as upstream, pool_of() as pool:
        assert pool.take_idle(upstream.origin) is None
        await get(pool, upstream.origin)
        connection = pool.take_idle(upstream.origin)
        assert connection is not None
        exchange = connection.start(GET, None, method=b"GET", timeouts=pool.timeouts)
        await exchange.wait_head()
        assert (await body_of(exchange), len(upstream.peers), pool.idle) == (b"hello", 1, 1)


async def test_b50_trailers_are_there_once_the_body_is_read() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    async with Upstream(answering(chunked)) as upstream, pool_of() as pool:
        exchange = await pool.send(upstream.origin, GET, method=b"GET")
        assert (await body_of(exchange), exchange.trailers, pool.idle) == (b"hello", [(b"X-Sum", b"1")], 1)
