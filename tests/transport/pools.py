"""What the pool's tests share: requests, responses, a pool that is closed in time, upstreams that wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ai_proxy.transport.exchange import Exchange
from ai_proxy.transport.limits import Limits, Timeouts
from ai_proxy.transport.origin import Origin
from ai_proxy.transport.pool import Pool
from tests.fakes.upstream import GUARD_S, Peer

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
ONE = Limits(max_connections=1)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CLOSING = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@asynccontextmanager
async def pool_of(timeouts: Timeouts | None = None, limits: Limits | None = None) -> AsyncIterator[Pool]:
    pool = Pool(limits=limits, timeouts=timeouts)
    try:
        async with asyncio.timeout(2 * GUARD_S):
            yield pool
    finally:
        async with asyncio.timeout(GUARD_S):
            await pool.aclose()


async def body_of(exchange: Exchange) -> bytes:
    pieces = []
    while piece := await exchange.read():
        pieces.append(piece)
    return b"".join(pieces)


async def get(pool: Pool, origin: Origin) -> bytes:
    return await body_of(await pool.send(origin, GET, method=b"GET"))


async def until_idle(pool: Pool, count: int) -> None:
    async with asyncio.timeout(GUARD_S):
        while pool.idle != count or pool.active:
            await asyncio.sleep(0.001)


async def hold(peer: Peer) -> None:
    """Answer the first request's head only, then wait for the client to leave."""
    await peer.read_request()
    await peer.send(OK[:-5])
    await peer.wait_eof()


async def silent(peer: Peer) -> None:
    await peer.wait_eof()
