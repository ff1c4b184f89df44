"""Exchanges while they run: as it comes, at the slower side's pace, in every framing."""

import asyncio

import pytest

from ai_proxy.metrics import Ending
from tests.fakes.upstream import Peer, Upstream, answering, answering_once
from tests.proxy.plane import EVENTS, OK, UPLOAD, chat, ended, event, get, plane
from tests.proxy.serving import Client, connections, until

MIB = 1024 * 1024


# As it comes


async def test_b07_b08_head_and_events_arrive_one_by_one() -> None:
    turn = asyncio.Semaphore(0)

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(EVENTS)
        for n in range(3):
            await turn.acquire()
            await peer.send(event(n))
        await turn.acquire()
        await peer.send(b"0\r\n\r\n")

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat(stream=True))
        status, _ = await client.head()
        assert status == 200
        for n in range(3):
            turn.release()
            assert await client.chunk() == b"data: %d\n\n" % n
        turn.release()
        assert await client.chunk() == b""
        await ended(proxy, Ending.DONE)


async def test_b28_an_upload_is_passed_on_piece_by_piece_while_the_answer_already_streams() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_until(b"one\r\n")
        await peer.send(EVENTS, event(1))
        await peer.read_until(b"two\r\n0\r\n\r\n")
        await peer.send(event(2), b"0\r\n\r\n")

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(UPLOAD + b"3;ext=1\r\none\r\n")
        assert (await client.head())[0] == 200
        assert await client.chunk() == b"data: 1\n\n"
        await client.send(b"3\r\ntwo\r\n0\r\nX-Trailer: dropped\r\n\r\n")
        assert await client.chunk() == b"data: 2\n\n"
        assert await client.chunk() == b""
        head, _, body = upstream.peers[0].received.partition(b"\r\n\r\n")

    assert b"Transfer-Encoding: chunked" in head
    assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


@pytest.mark.parametrize("chunked", [True, False])
async def test_b06_an_upload_waits_for_a_slow_upstream_and_loses_nothing(chunked: bool) -> None:
    go = asyncio.Event()
    size, taken = 32 * MIB, 0

    async def script(peer: Peer) -> None:
        nonlocal taken
        await go.wait()
        while taken < size:
            taken += (await peer._reader.read(MIB)).count(b"Z")
        await peer.send(OK)

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        if chunked:
            client.writer.write(UPLOAD + b"%x\r\n" % size + b"Z" * size + b"\r\n0\r\n\r\n")
        else:
            client.writer.write(b"POST /files/up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            client.writer.write(b"Z" * size)
        await until(lambda: any(c.flow.read_paused for c in proxy.serving.state.connections))  # type: ignore[union-attr]
        assert client.writer.transport.get_write_buffer_size() > size // 4
        go.set()
        assert (await client.answer()).status == 200
        assert taken == size


async def test_b05_a_slow_reader_holds_the_upstream_back() -> None:
    size, piece = 64 * MIB, b"x" * MIB
    written = 0

    async def script(peer: Peer) -> None:
        nonlocal written
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // MIB):
            await peer.send(piece)
            written += MIB

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port, limit=65536) as client:
        await client.send(get("/files/big"))
        await client.head()
        await until(lambda: any(c.flow.write_paused for c in proxy.serving.state.connections))  # type: ignore[union-attr]
        before = -1
        while before != written:
            before = written
            for _ in range(20):
                await asyncio.sleep(0.001)
        assert written < size
        got = 0
        while got < size:
            got += len(await client._guarded(client.reader.read(MIB)))
        await ended(proxy, Ending.DONE)


# Framing


@pytest.mark.parametrize(
    ("response", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 418 Teapot\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    ],
)
async def test_b30_to_b34_b47_every_framing_arrives_whole_and_both_connections_go_on(
    response: bytes, body: bytes
) -> None:
    async with Upstream(answering(response)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        for _ in range(2):
            assert (await client.ask(get("/files/a"))).body == body

        assert len(upstream.peers) == 1


async def test_b31_a_head_request_keeps_the_length_of_what_it_does_not_get() -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    async with Upstream(answering(response)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        for _ in range(2):
            answer = await client.ask(b"HEAD /files/a HTTP/1.1\r\nHost: a\r\n\r\n", to_head=True)
            assert (answer.status, answer.header(b"content-length")) == (200, b"5")


async def test_b11_a_body_that_ends_by_close_becomes_chunks() -> None:
    script = answering_once(b"HTTP/1.0 200 OK\r\n\r\nabc", then=Peer.close)
    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(get("/files/a"))

    assert (answer.body, answer.header(b"transfer-encoding")) == (b"abc", b"chunked")


async def test_b50_an_upstream_s_trailers_reach_the_client() -> None:
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\nHost: x\r\n\r\n"
    async with Upstream(answering(response)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        assert (await client.ask(get("/files/a"))).trailers == [(b"X-Sum", b"1")]
        assert (await client.ask(b"GET /files/a HTTP/1.0\r\n\r\n")).body == b"a"


async def test_nothing_is_lost_of_a_response_that_arrives_while_its_head_waits_for_the_client() -> None:
    paused, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await paused.wait()
        await peer.send(EVENTS + event(1))
        await go_on.wait()
        await peer.send(event(2) + b"0\r\n\r\n")
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat(stream=True))
        await upstream.accepted(1)
        (connection,) = await connections(proxy.serving.state)
        connection.pause_writing()
        paused.set()
        (lane,) = proxy.pool._lanes.values()
        (line,) = lane.connections
        await until(lambda: line._exchange and line._exchange.status and not line._exchange._buffered)
        go_on.set()
        await until(lambda: not proxy.pool.active)
        connection.resume_writing()
        assert (await client.answer()).body == b"data: 1\n\ndata: 2\n\n"
