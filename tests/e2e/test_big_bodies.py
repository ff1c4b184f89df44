"""Bodies larger than the proxy may hold: they stream through, at the pace of the slower side."""

import asyncio
import hashlib

import pytest

from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, at_rest, external
from tests.fakes.upstream import Peer, Upstream
from tests.proxy.serving import Client

pytestmark = pytest.mark.slow

GUARD_S = 30
MIB = 1 << 20
BIG = 200 * MIB
HELD = 64 * MIB
BLOCK = bytes(range(256)) * (MIB // 256)
GROWTH_MB = 40
KERNEL_HOLDS = 24 * MIB  # the send and receive buffers of two connections over loopback

DONE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def loaded(proxy: Proxy) -> Proxy:
    """A proxy that has imported all it ever will, so that growth from now on is of bodies."""
    proxy.get("/api/v1/services")
    return proxy


async def test_b06_a_big_upload_streams_through_in_little_memory(serve: Serve) -> None:
    got = hashlib.sha256()
    size = 0

    async def swallow(peer: Peer) -> None:
        nonlocal size
        head, _, piece = (await peer._reader.readuntil(b"\r\n\r\n")).partition(b"\r\n\r\n")
        assert f"content-length: {BIG}".encode() in head.lower()
        while size < BIG:
            piece = await peer._reader.read(MIB)
            got.update(piece)
            size += len(piece)
        await peer.send(DONE)

    async with Upstream(swallow) as upstream:
        proxy = loaded(serve({"services": {"files": external(upstream.port)}}))
        before = proxy.rss_mb
        async with Client.to(proxy.port) as client, asyncio.timeout(GUARD_S):
            await client.send(b"PUT /files/up HTTP/1.1\r\nHost: p\r\nContent-Length: %d\r\n\r\n" % BIG)
            for _ in range(BIG // MIB):
                await client.send(BLOCK)
            assert (await client.answer()).status == 200
    assert got.digest() == hashlib.sha256(BLOCK * (BIG // MIB)).digest()
    assert proxy.peak_rss_mb - before < GROWTH_MB


async def test_b05_a_big_download_streams_through_in_little_memory(serve: Serve) -> None:
    async def pour(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
        for _ in range(BIG // MIB):
            await peer.send(BLOCK)

    got = hashlib.sha256()
    async with Upstream(pour) as upstream:
        proxy = loaded(serve({"services": {"files": external(upstream.port)}}))
        before = proxy.rss_mb
        async with Client.to(proxy.port) as client, asyncio.timeout(GUARD_S):
            await client.send(b"GET /files/down HTTP/1.1\r\nHost: p\r\n\r\n")
            assert (await client.head())[0] == 200
            left = BIG
            while left:
                piece = await client.reader.read(MIB)
                got.update(piece)
                left -= len(piece)
    assert got.digest() == hashlib.sha256(BLOCK * (BIG // MIB)).digest()
    assert proxy.peak_rss_mb - before < GROWTH_MB


async def test_b05_a_client_that_does_not_read_stops_its_engine_from_writing(serve: Serve) -> None:
    written = 0

    async def pour(peer: Peer) -> None:
        nonlocal written
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % HELD)
        while written < HELD:
            await peer.send(BLOCK)
            written += len(BLOCK)

    async with Upstream(pour) as upstream:
        proxy = loaded(serve({"services": {"files": external(upstream.port)}}))
        before = proxy.rss_mb
        async with Client.to(proxy.port) as client, asyncio.timeout(GUARD_S):
            await client.send(b"GET /files/down HTTP/1.1\r\nHost: p\r\n\r\n")
            assert (await client.head())[0] == 200
            stopped_at = await at_rest(lambda: written)
            assert stopped_at < KERNEL_HOLDS
            left = HELD
            while left:
                left -= len(await client.reader.read(MIB))
    assert written == HELD
    assert proxy.peak_rss_mb - before < GROWTH_MB


async def test_b06_an_engine_that_does_not_read_stops_its_client_from_writing(serve: Serve) -> None:
    resume = asyncio.Event()

    async def read_late(peer: Peer) -> None:
        await peer._reader.readuntil(b"\r\n\r\n")
        peer.stop_reading()
        await resume.wait()
        peer._writer.transport.resume_reading()  # type: ignore[attr-defined]  # typed as write-only, but is both
        left = HELD
        while left:
            left -= len(await peer._reader.read(MIB))
        await peer.send(DONE)

    sent = 0

    async def send(client: Client) -> None:
        nonlocal sent
        while sent < HELD:
            await client.send(BLOCK)
            sent += len(BLOCK)

    async with Upstream(read_late) as upstream:
        proxy = loaded(serve({"services": {"files": external(upstream.port)}}))
        before = proxy.rss_mb
        async with Client.to(proxy.port) as client, asyncio.timeout(GUARD_S):
            await client.send(b"PUT /files/up HTTP/1.1\r\nHost: p\r\nContent-Length: %d\r\n\r\n" % HELD)
            sending = asyncio.create_task(send(client))
            assert await at_rest(lambda: sent) < KERNEL_HOLDS
            resume.set()
            await sending
            assert (await client.answer()).status == 200
    assert proxy.peak_rss_mb - before < GROWTH_MB
