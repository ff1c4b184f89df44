"""The pool under `httpx.AsyncClient`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from ai_proxy.transport.adapter import PooledTransport
from ai_proxy.transport.pool import Pool
from tests.fakes.upstream import Peer, Script, Upstream, answering, answering_once

OK = b"HTTP/1.1 200 Fine\r\nX-Raw: 1\r\nx-raw: 2\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


@asynccontextmanager
async def client_of(*scripts: Script, read_s: float = 5) -> AsyncIterator[tuple[httpx.AsyncClient, Upstream]]:
    async with (
        Upstream(*scripts) as upstream,
        httpx.AsyncClient(
            transport=PooledTransport(), base_url=upstream.url, timeout=httpx.Timeout(5, read=read_s)
        ) as client,
    ):
        yield client, upstream


@pytest.mark.parametrize("response", [OK, CHUNKED, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"])
async def test_get_returns_the_body(response: bytes) -> None:
    async with client_of(answering_once(response)) as (client, _):
        assert (await client.get("/")).text == "hello"


async def test_status_reason_version_and_raw_headers_are_kept() -> None:
    async with client_of(answering(OK)) as (client, _):
        response = await client.get("/")
        assert (response.status_code, response.reason_phrase, response.http_version) == (200, "Fine", "HTTP/1.1")
        assert response.headers.raw[:2] == [(b"X-Raw", b"1"), (b"x-raw", b"2")]


async def test_a_json_body_arrives_with_its_length_and_the_connection_is_reused() -> None:
    async with client_of(answering(OK)) as (client, upstream):
        for _ in range(3):
            await client.post("/v1/chat?x=1;y=%2F", json={"model": "a"})
        head, _, body = upstream.peers[0].received.partition(b"\r\n\r\n")
        assert (head.split(b"\r\n")[0], b"Content-Length: 13" in head) == (b"POST /v1/chat?x=1;y=%2F HTTP/1.1", True)
        assert (body.startswith(b'{"model":"a"}'), len(upstream.peers)) == (True, 1)


async def test_an_upload_from_an_iterator_is_chunked() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"hello"
        yield b"you"

    async with client_of(answering(OK)) as (client, upstream):
        await client.post("/", content=body())
        assert upstream.peers[0].received.endswith(b"\r\n\r\n5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n")


async def test_an_upload_from_an_iterator_keeps_a_declared_length() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"hello"

    async with client_of(answering(OK)) as (client, upstream):
        await client.post("/", content=body(), headers={"content-length": "5"})
        assert upstream.peers[0].received.endswith(b"\r\n\r\nhello")


async def test_a_file_is_uploaded_as_multipart() -> None:
    async with client_of(answering(OK)) as (client, upstream):
        await client.post("/", data={"model": "whisper"}, files={"file": b"sound"})
        assert upstream.peers[0].received.count(b"sound") == 1


async def test_head_has_no_body_and_keeps_the_connection() -> None:
    async with client_of(answering(OK[:-5])) as (client, upstream):
        for _ in range(2):
            response = await client.head("/")
            assert (response.headers["content-length"], response.content) == ("5", b"")
        assert len(upstream.peers) == 1


async def test_a_stream_is_seen_piece_by_piece() -> None:
    seen = asyncio.Event()

    async def tick(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await seen.wait()
        await peer.send(b"3\r\ntwo\r\n0\r\n\r\n")

    async with client_of(tick) as (client, _), client.stream("GET", "/") as response:
        pieces = []
        async for piece in response.aiter_raw():
            pieces.append(piece)
            seen.set()
        assert pieces == [b"one", b"two"]


async def test_leaving_a_stream_early_closes_the_connection() -> None:
    async def endless(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await peer.wait_eof()

    async with client_of(endless) as (client, upstream):
        async with client.stream("GET", "/") as response:
            assert await anext(response.aiter_raw()) == b"one"
        await upstream.peers[0].gone()


async def test_a_unix_socket_given_to_the_constructor_takes_every_host(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    transport = PooledTransport(uds=str(path))
    async with Upstream(answering(OK), uds=path) as upstream, httpx.AsyncClient(transport=transport) as client:
        assert (await client.get("http://engine.internal:1234/health")).text == "hello"
        assert b"Host: engine.internal:1234" in upstream.peers[0].received


async def silent(peer: Peer) -> None:
    await peer.wait_eof()


async def stalled(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(OK[:-2])
    await peer.wait_eof()


@pytest.mark.parametrize(
    ("script", "expected", "read_s"),
    [
        (silent, httpx.ReadTimeout, 0.05),
        (stalled, httpx.ReadTimeout, 0.05),
        (answering_once(OK[:-2]), httpx.RemoteProtocolError, 5),
        (answering_once(then=Peer.rst), httpx.RemoteProtocolError, 5),
        (answering_once(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), httpx.RemoteProtocolError, 5),
    ],
)
async def test_errors_are_those_of_httpx(script: Script, expected: type[Exception], read_s: float) -> None:
    async with client_of(script, read_s=read_s) as (client, _):
        with pytest.raises(expected):
            await client.get("/")


async def test_a_refused_connection_is_a_connect_error_that_names_the_request() -> None:
    async with Upstream() as upstream:
        url = upstream.url
    async with httpx.AsyncClient(transport=PooledTransport()) as client:
        with pytest.raises(httpx.ConnectError) as caught:
            await client.get(url)
        assert caught.value.request.url == url


async def test_other_schemes_are_refused() -> None:
    async with httpx.AsyncClient(transport=PooledTransport()) as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("ftp://example.org/")


async def test_a_header_that_would_end_its_line_is_refused_and_nothing_is_sent() -> None:
    async with client_of(answering(OK)) as (client, upstream):
        with pytest.raises(httpx.LocalProtocolError):
            await client.get("/", headers={"x-evil": "a\r\nx-injected: 1"})
        assert not upstream.peers


async def test_a_timeout_of_none_is_the_pools_own() -> None:
    async with client_of(answering(OK)) as (client, _):
        assert (await client.get("/", timeout=None)).text == "hello"


async def test_a_pool_that_is_lent_stays_open() -> None:
    pool = Pool()
    async with Upstream(answering(OK)) as upstream:
        for _ in range(2):
            async with httpx.AsyncClient(transport=PooledTransport(pool)) as client:
                await client.get(upstream.url)
        assert (len(upstream.peers), pool.idle) == (1, 1)
        await pool.aclose()


async def test_many_at_once_each_get_their_own_answer() -> None:
    async def echo(peer: Peer) -> None:
        while request := await peer.read_request():
            target = request.split(b" ")[1]
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))

    async with client_of(echo) as (client, _):
        responses = await asyncio.gather(*[client.get(f"/{number}") for number in range(50)])
        assert [response.text for response in responses] == [f"/{number}" for number in range(50)]
