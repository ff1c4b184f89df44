"""Streamed request bodies: framing, backpressure, early answers, and sources that fail."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from ai_proxy.transport.errors import FirstByteTimeout, UpstreamClosed, WriteError, WriteTimeout
from ai_proxy.transport.exchange import Exchange
from ai_proxy.transport.limits import Timeouts
from ai_proxy.transport.pool import Pool
from tests.fakes.upstream import GUARD_S, Peer, Upstream, answering, answering_once

LENGTH = b"POST / HTTP/1.1\r\nHost: x\r\ncontent-length: 10\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge"


class Source:
    """A body whose pieces come when the test says so.

    Attributes:
        closed: Set once whoever reads it has let go of it.
    """

    def __init__(self, *pieces: bytes | Exception, endless: bool = False) -> None:
        self.closed = asyncio.Event()
        self.taken = 0
        self._pieces = pieces
        self._endless = endless

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            for piece in self._pieces:
                if isinstance(piece, Exception):
                    raise piece
                self.taken += len(piece)
                yield piece
            if self._endless:
                await asyncio.Event().wait()
        finally:
            self.closed.set()

    async def wait_closed(self) -> None:
        async with asyncio.timeout(GUARD_S):
            await self.closed.wait()


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = Pool(timeouts=Timeouts(first_byte_s=GUARD_S, idle_s=GUARD_S))
    yield pool
    await pool.aclose()


async def post(
    pool: Pool, upstream: Upstream, body: AsyncIterator[bytes], head: bytes = LENGTH, timeouts: Timeouts | None = None
) -> Exchange:
    chunked = head is CHUNKED
    return await pool.send(upstream.origin, head, body, method=b"POST", chunked=chunked, timeouts=timeouts)


async def test_pieces_of_a_declared_length_arrive_as_one_body(pool: Pool) -> None:
    source = Source(b"hello", b"", b"12345")
    async with Upstream(answering(OK)) as upstream:
        exchange = await post(pool, upstream, source.pieces())
        assert await exchange.read() == b"hello"
        assert upstream.peers[0].received == LENGTH + b"hello12345"
        assert (pool.idle, source.closed.is_set()) == (1, True)


async def test_b28_pieces_are_framed_as_chunks_and_end_with_the_last_chunk(pool: Pool) -> None:
    source = Source(b"hello", b"", b"x" * 17)
    async with Upstream(answering(OK)) as upstream:
        await post(pool, upstream, source.pieces(), CHUNKED)
        framed = b"5\r\nhello\r\n11\r\n" + b"x" * 17 + b"\r\n0\r\n\r\n"
        assert upstream.peers[0].received == CHUNKED + framed
        assert pool.idle == 1


async def test_the_answer_may_come_before_the_source_says_it_has_ended(pool: Pool) -> None:
    """The last declared byte completes the request; the source may linger, the connection is clean."""
    source = Source(b"hello12345", endless=True)
    async with Upstream(answering(OK)) as upstream:
        exchange = await post(pool, upstream, source.pieces())
        assert await exchange.read() == b"hello"
        assert pool.idle == 1
    await source.wait_closed()


@pytest.mark.parametrize(("piece", "message"), [(b"short", "short of"), (b"much too long", "longer than")])
async def test_a_body_that_does_not_fit_its_length_breaks_the_connection(
    pool: Pool, piece: bytes, message: str
) -> None:
    async with Upstream(answering(OK)) as upstream:
        with pytest.raises(WriteError, match=message):
            await post(pool, upstream, Source(piece).pieces())
        peer = await upstream.accepted(1)
        await peer.gone()
        assert len(peer.received) < len(LENGTH) + 10


async def test_a_source_that_fails_breaks_the_connection_and_its_error_is_raised(pool: Pool) -> None:
    source = Source(b"12345", ValueError("the client is gone"))
    async with Upstream(answering(OK)) as upstream:
        with pytest.raises(ValueError, match="the client is gone"):
            await post(pool, upstream, source.pieces(), CHUNKED)
        await (await upstream.accepted(1)).gone()
        assert not upstream.peers[0].received.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("then", [Peer.fin, Peer.close])
async def test_b13_a_refusal_in_the_middle_of_an_upload_is_delivered_and_the_upload_stops(
    pool: Pool, then: Callable[[Peer], None]
) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.read()
        await peer.send(TOO_LARGE)
        then(peer)

    source = Source(b"12345", endless=True)
    async with Upstream(refuse) as upstream:
        exchange = await post(pool, upstream, source.pieces(), CHUNKED)
        await source.wait_closed()
        assert (exchange.status, await exchange.read()) == (413, b"large")
        assert (await exchange.read(), pool.idle) == (b"", 0)


async def test_b13_a_refusal_of_a_body_in_full_flow_is_delivered(pool: Pool) -> None:
    async def flood() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    async def refuse(peer: Peer) -> None:
        await peer.read()
        await peer.send(TOO_LARGE)
        await peer.wait_eof()

    async with Upstream(refuse) as upstream:
        exchange = await post(pool, upstream, flood(), CHUNKED)
        assert (exchange.status, await exchange.read(), pool.idle) == (413, b"large", 0)


async def test_a_response_may_stream_while_the_request_still_does(pool: Pool) -> None:
    more = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await more.wait()
        yield b"other"

    async def echo(peer: Peer) -> None:
        await peer.read_until(b"first")
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        await peer.read_until(b"other")
        await peer.send(b"other")
        await peer.wait_eof()

    async with Upstream(echo) as upstream:
        exchange = await post(pool, upstream, body())
        assert await exchange.read() == b"first"
        more.set()
        assert (await exchange.read(), await exchange.read(), pool.idle) == (b"other", b"", 1)


async def test_closing_the_exchange_stops_the_upload(pool: Pool) -> None:
    async def begin(peer: Peer) -> None:
        await peer.read_until(b"12345")
        await peer.send(OK[:-5])
        await peer.wait_eof()

    source = Source(b"12345", endless=True)
    async with Upstream(begin) as upstream:
        exchange = await post(pool, upstream, source.pieces())
        exchange.close()
        await source.wait_closed()
        await upstream.peers[0].gone()


async def test_cancelling_the_send_stops_the_upload(pool: Pool) -> None:
    source = Source(b"12345", endless=True)
    async with Upstream(Peer.wait_eof) as upstream:
        sending = asyncio.create_task(post(pool, upstream, source.pieces()))
        peer = await upstream.accepted(1)
        while not source.taken:
            await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await source.wait_closed()
        await peer.gone()


async def test_an_upstream_that_dies_stops_the_upload(pool: Pool) -> None:
    source = Source(b"12345", endless=True)

    async def die(peer: Peer) -> None:
        await peer.read_until(b"12345")
        peer.rst()

    async with Upstream(die) as upstream:
        with pytest.raises(UpstreamClosed):
            await post(pool, upstream, source.pieces())
        await source.wait_closed()


async def test_b06_a_slow_upstream_holds_the_source_back_and_in_the_end_times_out(pool: Pool) -> None:
    piece = b"x" * 65536

    async def endless(peer: Peer) -> None:
        peer.stop_reading()
        await asyncio.Event().wait()

    source = Source(*[piece] * 1000)
    async with Upstream(endless) as upstream:
        with pytest.raises(WriteTimeout):
            await post(pool, upstream, source.pieces(), CHUNKED, Timeouts(idle_s=0.05))
        await source.wait_closed()
        assert source.taken < 500 * len(piece)


async def test_b06_a_slow_upstream_gets_the_whole_body_as_it_reads(pool: Pool) -> None:
    piece = b"x" * 65536
    source = Source(*[piece] * 40)
    head = b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (40 * len(piece))
    async with Upstream(answering(OK)) as upstream:
        exchange = await post(pool, upstream, source.pieces(), head)
        assert (exchange.status, len(upstream.peers[0].received)) == (200, len(head) + 40 * len(piece))


async def test_the_first_byte_is_awaited_from_the_end_of_the_upload(pool: Pool) -> None:
    source = Source(b"hello12345")
    async with Upstream(Peer.wait_eof) as upstream:
        with pytest.raises(FirstByteTimeout):
            await post(pool, upstream, source.pieces(), timeouts=Timeouts(first_byte_s=0.01))


async def test_a_body_waits_for_100_continue_if_its_source_does(pool: Pool) -> None:
    go = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        await go.wait()
        yield b"hello12345"

    async def expecting(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.read_until(b"hello12345")
        await peer.send(OK)
        await peer.wait_eof()

    async with Upstream(expecting) as upstream:
        exchange = await pool.send(
            upstream.origin, LENGTH, body(), method=b"POST", on_informational=lambda status, headers: go.set()
        )
        assert (exchange.status, pool.idle) == (200, 1)


async def test_b52_an_upload_is_never_repeated(pool: Pool) -> None:
    async with Upstream(answering_once(OK), answering(OK)) as upstream:
        head = LENGTH.replace(b"POST", b"PUT")
        first = await pool.send(upstream.origin, head, b"hello12345", method=b"PUT")
        assert first.complete
        with pytest.raises(UpstreamClosed):
            await pool.send(upstream.origin, head, Source(b"hello", endless=True).pieces(), method=b"PUT")


async def test_a_streamed_body_without_framing_is_refused_and_keeps_no_place_in_the_pool(pool: Pool) -> None:
    async with Upstream(answering(OK)) as upstream:
        with pytest.raises(WriteError, match="Content-Length"):
            await pool.send(upstream.origin, b"POST / HTTP/1.1\r\n\r\n", Source(b"x").pieces(), method=b"POST")

        assert (pool.active, pool.idle) == (0, 1)
