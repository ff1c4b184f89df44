"""What follows an agreed upgrade: every byte both ways, at the slower side's pace, until both sides are done."""

import asyncio
from contextlib import AbstractAsyncContextManager, suppress

import pytest

from ai_proxy.metrics import Ending
from ai_proxy.proxy.frames import close_frame
from tests.fakes.upstream import Peer, Upstream
from tests.proxy.plane import Plane, ended, plane
from tests.proxy.serving import Client, until
from tests.proxy.sockets import AGREED, HELLO, MASKED_HELLO, NORMAL, agreeing, echoing, message, take, upgraded

MIB = 1024 * 1024


def hasty(upstream: Upstream) -> AbstractAsyncContextManager[Plane]:
    """A plane that waits for nobody."""
    return plane(upstream, services={"files": {"image": "i", "timeouts": {"idle_s": 0.05}}})


@pytest.mark.parametrize(
    "frame",
    [
        MASKED_HELLO,
        b"\x82\x83abcdxyz",
        b"\x01\x82\0\0\0\0he\x89\x81\0\0\0\0?\x80\x83\0\0\0\0llo",
        b"\xc1\x87\0\0\0\0deflate",
        b"\x89\x84\0\0\0\0ping",
        b"\x8a\x84\0\0\0\0pong",
        b"\x81\xfe\x01\x00\0\0\0\0" + b"m" * 256,
        b"\xffno frame at all",
    ],
    ids=["text", "binary", "fragments around a ping", "deflated", "ping", "pong", "a longer length", "anything"],
)
async def test_b63_every_frame_passes_both_ways_as_it_is(frame: bytes) -> None:
    """RFC 6455 §5."""
    async with Upstream(echoing) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        await client.send(frame)
        assert await take(client, len(frame)) == frame


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4000])
async def test_b63_close_codes_pass_in_both_directions(code: int) -> None:
    """RFC 6455 §7."""

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(AGREED, close_frame(code, "why"))
        await peer.read_until(close_frame(code, "why", masked=True))
        peer.close()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        assert await take(client, 7) == close_frame(code, "why")
        await client.send(close_frame(code, "why", masked=True))
        assert await client.rest() == b""
        client.writer.close()
        await ended(proxy, Ending.DONE)


@pytest.mark.slow
async def test_b63_a_message_of_16_mib_passes_both_ways() -> None:
    data = message(16 * MIB, masked=True)
    async with Upstream(echoing) as upstream, plane(upstream) as proxy, Client.to(proxy.port, limit=MIB) as client:
        await upgraded(client)
        client.writer.write(data)
        assert await take(client, len(data)) == data


async def test_b5_b63_a_client_that_reads_nothing_holds_the_engine_back() -> None:
    written, piece = 0, message(MIB)

    async def script(peer: Peer) -> None:
        nonlocal written
        await peer.read_request()
        await peer.send(AGREED)
        while True:
            await peer.send(piece)
            written += len(piece)

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # typed as write-only, but is both
        connection = next(iter(proxy.serving.state.connections))
        unsent = connection.transport.get_write_buffer_size
        await until(lambda: unsent() > 0)
        before = -1
        while before != written:
            before = written
            for _ in range(20):
                await asyncio.sleep(0.001)
        assert unsent() < MIB
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await take(client, before + len(piece))) == before + len(piece)


async def test_b6_b63_an_engine_that_reads_nothing_holds_the_client_back_and_loses_nothing() -> None:
    go, size = asyncio.Event(), 32 * MIB

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(AGREED)
        peer.stop_reading()
        await go.wait()
        peer._writer.transport.resume_reading()  # type: ignore[attr-defined]
        taken = 0
        while taken < size:
            taken += len(await peer._reader.read(MIB))
        await peer.send(HELLO)

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        client.writer.write(message(size, masked=True))
        await until(lambda: any(c.flow.read_paused for c in proxy.serving.state.connections))  # type: ignore[union-attr]
        assert client.writer.transport.get_write_buffer_size() > size // 4
        go.set()
        assert await take(client, len(HELLO)) == HELLO


async def test_b63_a_client_that_ends_first_still_hears_the_engine() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(AGREED)
        await peer.wait_eof()
        await peer.send(NORMAL)
        peer.close()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        await client.send(MASKED_HELLO)
        client.writer.write_eof()
        assert await client.rest() == NORMAL
        assert upstream.peers[0].received.endswith(MASKED_HELLO)
        await ended(proxy, Ending.DONE)


async def test_b63_an_engine_that_ends_first_still_hears_the_client() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(AGREED + HELLO)
        peer.fin()
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        assert await client.rest() == HELLO
        await client.send(MASKED_HELLO)
        client.writer.write_eof()
        await upstream.peers[0].gone()
        assert upstream.peers[0].received.endswith(MASKED_HELLO)
        await ended(proxy, Ending.UPSTREAM_BROKE)


@pytest.mark.parametrize("patient", [True, False])
async def test_b1_b63_a_client_that_is_gone_takes_the_engines_socket_with_it(patient: bool) -> None:
    async with Upstream(agreeing()) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        if patient:
            client.writer.close()
        else:
            client.reset()
        await upstream.peers[0].gone()
        await ended(proxy, Ending.CLIENT_GONE)
        assert proxy.pool.active == 0


async def test_b2_b63_a_reset_is_seen_while_the_client_is_not_read() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(AGREED)
        peer.stop_reading()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        client.writer.write(message(32 * MIB, masked=True))
        await until(lambda: any(c.flow.read_paused for c in proxy.serving.state.connections))  # type: ignore[union-attr]
        client.reset()
        await ended(proxy, Ending.CLIENT_GONE)


async def test_b63_an_engine_that_is_gone_ends_the_client_as_it_ended() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(AGREED)
        await peer.read_until(MASKED_HELLO)
        peer.rst()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        await client.send(MASKED_HELLO)
        with pytest.raises(ConnectionResetError):
            await client.rest()
        await ended(proxy, Ending.UPSTREAM_BROKE)


async def test_a_side_that_takes_nothing_for_too_long_ends_the_tunnel() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(AGREED)
        peer.stop_reading()

    async with Upstream(script) as upstream, hasty(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        client.writer.write(message(32 * MIB, masked=True))
        with suppress(ConnectionError):
            assert await client.rest() == b""
        await ended(proxy, Ending.UPSTREAM_SLOW)


async def test_a_side_that_is_silent_after_the_other_has_ended_is_cut_off() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(AGREED)
        await peer.wait_eof()

    async with Upstream(script) as upstream, hasty(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        client.writer.write_eof()
        with suppress(ConnectionError):
            assert await client.rest() == b""
        await ended(proxy, Ending.CLIENT_GONE)


async def test_b66_an_upgraded_connection_has_one_entry_with_the_bytes_of_both_ways() -> None:
    async with Upstream(agreeing(HELLO)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await upgraded(client)
        await take(client, len(HELLO))
        await client.send(MASKED_HELLO)
        assert proxy.metrics.service("files").in_flight == 1
        client.writer.close()
        await ended(proxy, Ending.CLIENT_GONE)
        (entry,) = proxy.entries
        counters = proxy.metrics.service("files")

    assert (entry.status, entry.target, entry.sent_bytes) == (101, b"/files/ws", len(HELLO))
    assert (counters.sent_bytes, counters.received_bytes) == (len(HELLO), len(MASKED_HELLO))
    assert counters.responses[1] == 1
