"""Exchanges while they run: streams both ways, and every way in which they end early."""

import asyncio
import json
import re

import pytest

from ai_proxy.metrics import Ending
from ai_proxy.proxy.limits import ConnectionLimits
from ai_proxy.transport.origin import Origin
from tests.fakes.upstream import Peer, Upstream, answering, answering_once
from tests.proxy.plane import EVENTS, OK, Plane, chat, get, make, plane, post
from tests.proxy.serving import Client, serving, until

MIB = 1024 * 1024
UPLOAD = b"POST /files/up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(n: int) -> bytes:
    """One event as a chunk."""
    return b"9\r\ndata: %d\n\n\r\n" % n


async def ended(proxy: Plane, ending: Ending) -> None:
    """Wait for the first access entry, which must say this."""
    await until(lambda: proxy.entries)
    assert proxy.entries[0].ending is ending
    assert proxy.gate.open == []
    assert proxy.metrics.service(proxy.entries[0].service).in_flight == 0


# As it comes


async def test_7_8_head_and_events_arrive_one_by_one() -> None:
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


async def test_28_an_upload_is_passed_on_piece_by_piece_while_the_answer_already_streams() -> None:
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
async def test_6_an_upload_waits_for_a_slow_upstream_and_loses_nothing(chunked: bool) -> None:
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


async def test_5_a_slow_reader_holds_the_upstream_back() -> None:
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
async def test_30_to_34_47_every_framing_arrives_whole_and_both_connections_go_on(response: bytes, body: bytes) -> None:
    async with Upstream(answering(response)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        for _ in range(2):
            assert (await client.ask(get("/files/a"))).body == body

        assert len(upstream.peers) == 1


async def test_31_a_head_request_keeps_the_length_of_what_it_does_not_get() -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    async with Upstream(answering(response)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        for _ in range(2):
            answer = await client.ask(b"HEAD /files/a HTTP/1.1\r\nHost: a\r\n\r\n", to_head=True)
            assert (answer.status, answer.header(b"content-length")) == (200, b"5")


async def test_11_a_body_that_ends_by_close_becomes_chunks() -> None:
    script = answering_once(b"HTTP/1.0 200 OK\r\n\r\nabc", then=Peer.close)
    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(get("/files/a"))

    assert (answer.body, answer.header(b"transfer-encoding")) == (b"abc", b"chunked")


async def test_50_an_upstream_s_trailers_reach_the_client() -> None:
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\nHost: x\r\n\r\n"
    async with Upstream(answering(response)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        assert (await client.ask(get("/files/a"))).trailers == [(b"X-Sum", b"1")]
        assert (await client.ask(b"GET /files/a HTTP/1.0\r\n\r\n")).body == b"a"


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
async def test_33_49_a_response_that_is_no_http_is_a_502(response: bytes) -> None:
    async with Upstream(answering(response)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(get("/files/a"))

    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (502, "upstream_broken")


async def test_34_what_follows_a_response_reaches_nobody() -> None:
    poisoned = answering_once(OK + b"HTTP/1.1 200 OK\r\n\r\nstolen")
    async with Upstream(poisoned, answering(OK)) as up, plane(up) as proxy, Client.to(proxy.port) as client:
        assert [(await client.ask(get("/files/a"))).body for _ in range(2)] == [b"{}", b"{}"]
        assert len(up.peers) == 2


# Clients that leave


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_1_a_client_that_leaves_before_the_head_closes_the_upstream(how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat())
        peer = await upstream.accepted(1)
        await until(lambda: peer.received.endswith(b"}"))
        client.reset() if how == "reset" else client.writer.close()
        await peer.gone()
        await ended(proxy, Ending.CLIENT_GONE)
        assert proxy.entries[0].status == 499


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
async def test_2_a_client_that_leaves_a_stream_closes_the_upstream(how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(EVENTS, event(1))
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat(stream=True))
        await client.head()
        await client.chunk()
        if how == "reset":
            client.reset()
        elif how == "half_close":
            client.writer.write_eof()
        else:
            client.writer.close()
        await upstream.peers[0].gone()
        await ended(proxy, Ending.CLIENT_GONE)
        assert proxy.entries[0].status == 200


@pytest.mark.parametrize("paused", [True, False])
async def test_2_a_client_that_leaves_during_its_upload_closes_the_upstream(paused: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        if paused:
            await asyncio.sleep(3600)
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(UPLOAD + b"5\r\nhello\r\n")
        peer = await upstream.accepted(1)
        await until(lambda: peer.received.endswith(b"\r\n"))
        if paused:
            client.writer.write(b"%x\r\n" % (64 * MIB) + b"x" * 32 * MIB)
            state = proxy.serving.state
            await until(lambda: any(c.flow.read_paused for c in state.connections))  # type: ignore[union-attr]
            client.reset()
        else:
            client.writer.close()
            await peer.gone()
        await ended(proxy, Ending.CLIENT_GONE)
        await until(lambda: not proxy.pool.active)


async def test_3_a_client_that_leaves_the_queue_is_forgotten() -> None:
    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat("cold"))
        await until(lambda: proxy.gate.waiting)
        client.writer.close()
        await until(lambda: proxy.gate.left)
        await ended(proxy, Ending.CLIENT_GONE)

    assert proxy.gate.granted == 0


async def test_a_client_that_leaves_in_the_middle_of_a_body_for_a_model_is_forgotten() -> None:
    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat()[:-5])
        await until(lambda: proxy.app._budget.taken)
        client.writer.close()
        await until(lambda: proxy.entries)

    assert proxy.entries[0].ending is Ending.CLIENT_GONE
    assert proxy.app._budget.taken == 0
    assert upstream.peers == []


async def test_an_operator_s_cancel_closes_both_sides() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(EVENTS, event(1))
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat(stream=True))
        await client.head()
        await client.chunk()
        proxy.gate.open[0].request.cancel()
        assert await client.rest() == b""
        await upstream.peers[0].gone()
        await ended(proxy, Ending.CANCELLED)


# Upstreams that fail


async def test_9_an_upstream_that_dies_in_a_chunked_body_breaks_the_client_s_connection_off() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    async with Upstream(answering_once(head)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(get("/files/a"))
        await client.head()
        assert await client.rest() in (b"1\r\na\r\n", b"")
        await ended(proxy, Ending.UPSTREAM_BROKE)


async def test_10_an_upstream_that_dies_short_of_its_length_breaks_the_client_s_connection_off() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"
    async with Upstream(answering_once(head)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(get("/files/a"))
        await client.head()
        assert len(await client.rest()) < 5
        await ended(proxy, Ending.UPSTREAM_BROKE)


async def test_11_a_reset_is_no_end_of_a_body_that_ends_by_close() -> None:
    script = answering_once(b"HTTP/1.0 200 OK\r\n\r\nabc", then=Peer.rst)
    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(get("/files/a"))
        assert b"0\r\n\r\n" not in await client.rest()


@pytest.mark.parametrize("cut", [b"9\r\ndata: 1\n\n\r\n", b"7\r\ndata: 1\r\n"])
async def test_12_a_broken_event_stream_ends_with_an_error_event_and_no_end_mark(cut: bytes) -> None:
    script = answering_once(EVENTS + cut)
    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat(stream=True))
        await client.head()
        wire = await client.rest()

    assert not wire.endswith(b"0\r\n\r\n")
    text = b"".join(re.findall(rb"[0-9a-f]+\r\n(.+?)\r\n", wire, re.DOTALL))
    *_, last, rest = text.split(b"\n\n")
    assert rest == b""
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "upstream_broken"


async def test_54_a_service_that_takes_no_connections_is_a_502_without_its_address() -> None:
    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        proxy.gate.ready["chat"] = Origin("http", "127.0.0.1", 1)
        answer = await client.ask(chat())

    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"], error["service"]) == (502, "upstream_unreachable", "chat")
    assert b"127.0.0.1" not in answer.body


async def test_55_a_response_that_does_not_begin_is_a_504_naming_the_deadline() -> None:
    services = {"chat": {"image": "i", "timeouts": {"first_byte_s": 0.05}}}

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.wait_eof()

    async with Upstream(script) as up, plane(up, services=services) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(chat())

    assert answer.status == 504
    assert "first_byte_s" in json.loads(answer.body)["error"]["message"]


async def test_56_a_response_that_stalls_breaks_off() -> None:
    services = {"chat": {"image": "i", "timeouts": {"idle_s": 0.05}}}

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
        await peer.wait_eof()

    async with Upstream(script) as up, plane(up, services=services) as proxy, Client.to(proxy.port) as client:
        await client.send(chat())
        await client.head()
        assert await client.rest() == b"ab"
        await ended(proxy, Ending.UPSTREAM_SLOW)


@pytest.mark.parametrize(("request_bytes", "statuses"), [(get("/files/a"), [200, 200]), (chat(), [200, 502])])
async def test_52_a_get_on_a_stale_connection_is_sent_again_and_a_post_never(
    request_bytes: bytes, statuses: list[int]
) -> None:
    async def stale(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(OK)
        await peer.read_request()
        peer.close()

    async with Upstream(stale, answering(OK)) as up, plane(up) as proxy, Client.to(proxy.port) as client:
        assert [(await client.ask(request_bytes)).status for _ in range(2)] == statuses
        assert len(up.peers) == statuses.count(200)


async def test_58_a_restarted_replica_is_not_asked_on_a_connection_of_its_former_life() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.ask(chat())
        proxy.gate.ready["chat"] = Origin("http", "127.0.0.1", upstream.port, generation=2)
        await client.ask(chat())

    assert len(upstream.peers) == 2


async def test_13_46_a_refusal_during_an_upload_reaches_the_client() -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        client.writer.write(UPLOAD + b"%x\r\n" % (8 * MIB) + b"x" * MIB)
        answer = await client.answer()

    assert (answer.status, answer.body) == (413, b"no")


async def test_57_an_upload_that_stops_is_a_408_and_ends_both_connections() -> None:
    async def script(peer: Peer) -> None:
        await peer.wait_eof()

    made = make()
    async with Upstream(script) as upstream, serving(made.app, ConnectionLimits(body_idle_s=0.05)) as served:
        made.gate.ready["files"] = upstream.origin
        async with Client.to(served.port) as client:
            answer = await client.ask(UPLOAD + b"5\r\nhello\r\n")
            assert (answer.status, json.loads(answer.body)["error"]["code"]) == (408, "client_too_slow")
            await upstream.peers[0].gone()
        await made.pool.aclose()


async def test_46_continue_is_answered_by_the_proxy_and_not_passed_on() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        request = post("/files/a", b"hello", "Expect: 100-continue")
        await client.send(request[:-5])
        assert (await client.head())[0] == 100
        assert (await client.ask(b"hello")).status == 200

    assert b"expect" not in upstream.peers[0].received.lower()
