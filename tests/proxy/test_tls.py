"""Clients over TLS: what a socket tells us and takes from us is the same, but that it has no half of an end."""

import asyncio
import os
import socket
import ssl
from typing import Any

import pytest
import uvloop

from ai_proxy.metrics import Ending
from ai_proxy.proxy.frames import close_frame
from ai_proxy.proxy.limits import ConnectionLimits
from ai_proxy.transport.origin import Origin, Tls
from ai_proxy.transport.tls import hold_little
from tests.fakes.upstream import Peer, Upstream
from tests.proxy.plane import EVENTS, OK, ended, event, get, plane
from tests.proxy.serving import GET, Client, connections, echo, serving, until
from tests.proxy.sockets import AGREED, ASK, MASKED_HELLO, NORMAL, UPGRADE, echoing, message, take, upgraded

MIB = 1024 * 1024
LEAVING = ["close", "reset", "without a word"]


def leave(client: Client, how: str) -> None:
    """Go away; without a word: by a FIN, of which TLS knows nothing."""
    if how == "reset":
        client.reset()
    elif how == "close":
        client.writer.close()
    else:
        with socket.socket(fileno=os.dup(client.writer.get_extra_info("socket").fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)


async def test_b07_events_arrive_one_by_one_and_engines_are_told_of_https(
    shown: ssl.SSLContext, believed: ssl.SSLContext
) -> None:
    turn = asyncio.Semaphore(0)

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(EVENTS)
        for n in range(3):
            await turn.acquire()
            await peer.send(event(n))
        await peer.send(b"0\r\n\r\n")

    async with (
        Upstream(script) as upstream,
        plane(upstream, shown) as proxy,
        Client.to(proxy.port, tls=believed) as client,
    ):
        await client.send(get("/files/events"))
        assert (await client.head())[0] == 200
        for n in range(3):
            turn.release()
            assert await client.chunk() == b"data: %d\n\n" % n
        assert await client.chunk() == b""
        await ended(proxy, Ending.DONE)
        assert b"X-Forwarded-Proto: https\r\n" in upstream.peers[0].received


@pytest.mark.parametrize("how", LEAVING)
async def test_b02_a_client_that_leaves_a_stream_closes_the_upstream(
    how: str, shown: ssl.SSLContext, believed: ssl.SSLContext
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(EVENTS, event(1))
        await peer.wait_eof()

    async with (
        Upstream(script) as upstream,
        plane(upstream, shown) as proxy,
        Client.to(proxy.port, tls=believed) as client,
    ):
        await client.send(get("/files/events"))
        await client.head()
        assert await client.chunk() == b"data: 1\n\n"
        leave(client, how)
        await upstream.peers[0].gone()
        await ended(proxy, Ending.CLIENT_GONE)


@pytest.mark.parametrize("how", LEAVING[1:])  # the word is behind what we do not read
async def test_b02_a_client_that_leaves_is_noticed_while_its_upload_is_held_back(
    how: str, shown: ssl.SSLContext, believed: ssl.SSLContext
) -> None:
    called, gone = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"]["ai_proxy.disconnect"](gone.set)
        called.set()
        await gone.wait()

    async with serving(app, tls=shown) as server, Client.to(server.port, tls=believed) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 100_000)
        await called.wait()
        (connection,) = await connections(server.state)
        await until(lambda: connection.flow.read_paused)
        leave(client, how)
        await asyncio.wait_for(gone.wait(), 20)


async def test_b05_a_slow_reader_holds_the_upstream_back(shown: ssl.SSLContext, believed: ssl.SSLContext) -> None:
    size, written = 32 * MIB, 0

    async def script(peer: Peer) -> None:
        nonlocal written
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // MIB):
            await peer.send(bytes(MIB))
            written += MIB

    async with (
        Upstream(script) as upstream,
        plane(upstream, shown) as proxy,
        Client.to(proxy.port, tls=believed) as client,
    ):
        await client.send(get("/files/big"))
        await client.head()
        (connection,) = await connections(proxy.serving.state)
        await until(lambda: connection.flow.write_paused)
        assert written < size
        assert connection.transport.get_write_buffer_size() < MIB
        assert len(await client._guarded(client.reader.readexactly(size))) == size


async def test_b06_an_upload_waits_for_a_slow_upstream_and_loses_nothing(
    shown: ssl.SSLContext, believed: ssl.SSLContext
) -> None:
    go, size, taken = asyncio.Event(), 32 * MIB, 0

    async def script(peer: Peer) -> None:
        nonlocal taken
        await go.wait()
        while taken < size:
            taken += (await peer._reader.read(MIB)).count(b"Z")
        await peer.send(OK)

    async def upload(client: Client) -> None:
        await client.send(b"POST /files/up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // MIB):
            await client.send(b"Z" * MIB)

    async with (
        Upstream(script) as upstream,
        plane(upstream, shown) as proxy,
        Client.to(proxy.port, tls=believed) as client,
    ):
        uploading = asyncio.create_task(upload(client))
        (connection,) = await connections(proxy.serving.state)
        await until(lambda: connection.flow.read_paused)
        assert not uploading.done()
        go.set()
        assert (await client.answer()).status == 200
        await uploading
        assert taken == size


async def test_b09_an_abort_leaves_a_chunked_body_without_its_end(
    shown: ssl.SSLContext, believed: ssl.SSLContext
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        scope["extensions"]["ai_proxy.abort"]()

    async with serving(app, tls=shown) as server, Client.to(server.port, tls=believed) as client:
        await client.send(GET)
        await client.head()
        assert await client.rest() == b"4\r\nhalf\r\n"


async def test_b11_an_abort_of_a_body_that_ends_by_close_is_a_reset(
    shown: ssl.SSLContext, believed: ssl.SSLContext
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        scope["extensions"]["ai_proxy.abort"]()

    async with serving(app, tls=shown) as server, Client.to(server.port, tls=believed) as client:
        await client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        with pytest.raises(ConnectionError):
            await client.rest()


async def test_b13_an_early_answer_reaches_a_client_that_still_sends(
    shown: ssl.SSLContext, believed: ssl.SSLContext
) -> None:
    size = 4 * MIB

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"%d" % size)]})
        await send({"type": "http.response.body", "body": bytes(size)})

    async with serving(app, tls=shown) as server, Client.to(server.port, limit=1024, tls=believed) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 100000000\r\n\r\n")
        (connection,) = await connections(server.state)
        await until(lambda: connection._deaf)
        if isinstance(asyncio.get_running_loop(), uvloop.Loop):
            # asyncio's own loop resets a client that sends after a close; the server runs on uvloop
            client.writer.write(b"x" * 100_000)
        assert len((await client.answer()).body) == size


async def test_b63_frames_and_closes_pass_both_ways(shown: ssl.SSLContext, believed: ssl.SSLContext) -> None:
    async with (
        Upstream(echoing) as upstream,
        plane(upstream, shown) as proxy,
        Client.to(proxy.port, tls=believed) as client,
    ):
        await upgraded(client)
        for frame in (MASKED_HELLO, b"\x82\xff" + MIB.to_bytes(8) + bytes(4 + MIB), close_frame(1000, masked=True)):
            client.writer.write(frame)
            assert await take(client, len(frame)) == frame
        client.writer.close()
        await ended(proxy, Ending.DONE)
        assert proxy.pool.active == 0


async def test_b13_a_slow_reader_gets_the_end_though_the_connection_ends(
    shown: ssl.SSLContext, believed: ssl.SSLContext
) -> None:
    size, now = 70_000, asyncio.get_running_loop().time

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        await send({"type": "http.response.body", "body": bytes(size)})

    limits = ConnectionLimits(linger_s=0.01)
    async with serving(app, limits, shown) as server, Client.to(server.port, limit=1024, tls=believed) as client:
        (connection,) = await connections(server.state)
        # So little that the rest waits in the transport, too little for it to say so.
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # typed as write-only, but is both
        hold_little(client.writer.transport)  # type: ignore[arg-type]
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await until(connection.transport.is_closing)
        began = now()
        await until(lambda: now() > began + 5 * limits.linger_s)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len((await client.answer()).body) == size


@pytest.mark.parametrize("server_ends", [False, True])
@pytest.mark.parametrize("request_", [b"Host: a\r\nConnection: close\r\n", b""], ids=["answered", "refused"])
async def test_a_client_that_never_closes_is_not_waited_for(
    request_: bytes, server_ends: bool, shown: ssl.SSLContext, believed: ssl.SSLContext
) -> None:
    limits = ConnectionLimits(linger_s=0.01)
    with socket.socket() as sock:
        async with serving(echo, limits, shown) as server, asyncio.timeout(20):
            sock.connect(("127.0.0.1", server.port))

            def ask() -> ssl.SSLSocket:
                asking = believed.wrap_socket(sock, server_hostname="127.0.0.1")
                asking.sendall(b"GET / HTTP/1.1\r\n" + request_ + b"\r\n")
                return asking

            asked = asyncio.create_task(asyncio.to_thread(ask))
            (connection,) = await connections(server.state)
            await until(connection.transport.is_closing)
            with await asked:
                while server.state.connections:
                    if server_ends:
                        await server.shut_down()
                    await asyncio.sleep(0.001)
            assert not server.state.tasks


@pytest.mark.parametrize("how", LEAVING)
async def test_b63_a_client_that_leaves_an_upgraded_connection_takes_the_engines_with_it(
    how: str, shown: ssl.SSLContext, believed: ssl.SSLContext
) -> None:
    async with (
        Upstream(echoing) as upstream,
        plane(upstream, shown) as proxy,
        Client.to(proxy.port, tls=believed) as client,
    ):
        await upgraded(client)
        leave(client, how)
        await upstream.peers[0].gone()
        await ended(proxy, Ending.CLIENT_GONE)


@pytest.mark.parametrize("how", LEAVING)
async def test_a_client_that_leaves_while_its_upgrade_waits_is_forgotten(
    how: str, shown: ssl.SSLContext, believed: ssl.SSLContext
) -> None:
    async with (
        Upstream() as upstream,
        plane(upstream, shown) as proxy,
        Client.to(proxy.port, tls=believed) as client,
    ):
        await client.send(get("/cold/ws", *UPGRADE) + MASKED_HELLO)
        await until(lambda: proxy.gate.waiting)
        leave(client, how)
        await until(lambda: proxy.gate.left)
        await ended(proxy, Ending.CLIENT_GONE)


async def test_b63_what_a_client_says_before_its_upgrade_is_made_is_bounded_and_all_passed_on(
    shown: ssl.SSLContext, believed: ssl.SSLContext
) -> None:
    go, said = asyncio.Event(), message(2 * MIB, masked=True)

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await go.wait()
        await peer.send(AGREED)
        await peer.read_until(said)
        await peer.send(NORMAL)
        await peer.wait_eof()

    async with (
        Upstream(script) as upstream,
        plane(upstream, shown) as proxy,
        Client.to(proxy.port, tls=believed) as client,
    ):
        await client.send(ASK + MASKED_HELLO)
        client.writer.write(said)
        (connection,) = await connections(proxy.serving.state)
        await until(lambda: connection.flow.read_paused)
        assert len(connection._early or b"") < MIB
        go.set()
        assert (await client.head())[0] == 101
        assert await take(client, len(NORMAL)) == NORMAL
        assert upstream.peers[0].received.endswith(MASKED_HELLO + said)


async def test_an_upgraded_engine_may_be_reached_by_tls_too(shown: ssl.SSLContext, believed: ssl.SSLContext) -> None:
    async def say_and_close(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(AGREED, bytes(MIB) + NORMAL)
        peer.close()

    async with Upstream(say_and_close, tls=shown) as upstream, plane(upstream) as proxy:
        proxy.gate.ready["files"] = Origin("https", "127.0.0.1", upstream.port, tls=Tls(believed))
        async with Client.to(proxy.port) as client:
            await upgraded(client)
            assert await client.rest() == bytes(MIB) + NORMAL
