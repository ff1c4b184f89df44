"""Streams that wait for their service: an early head, comments, and what may follow them."""

import asyncio
import json
from typing import Any

import pytest

from ai_proxy.logging import Access, access_line
from ai_proxy.metrics import Ending
from ai_proxy.transport.origin import Origin
from tests.fakes.upstream import Peer, Script, Upstream, answering, answering_once
from tests.proxy.plane import EVENTS, OK, Plane, chat, ended, event, get, plane, post
from tests.proxy.serving import Client, until

SOON = {"server": {"heartbeat_after_s": 0.01}}
COMMENT = b": waiting for cold\n\n"
ANSWER = EVENTS + event(1) + b"0\r\n\r\n"


def refusing(status: str, body: bytes, *fields: str) -> Script:
    """An upstream that answers every request so."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "\r\n"]
    return answering("\r\n".join(lines).encode() + body)


async def alive(client: Client, beats: int = 1) -> list[tuple[bytes, bytes]]:
    """Read an early head and so many comments."""
    status, fields = await client.head()
    assert status == 200
    for _ in range(beats):
        assert await client.chunk() == COMMENT
    return fields


async def after_comments(client: Client) -> bytes:
    """The first chunk that is none."""
    while (chunk := await client.chunk()) == COMMENT:
        pass
    return chunk


async def last_words(client: Client) -> bytes:
    """The only chunk that follows the comments; then the connection ends in mid-stream."""
    words = await after_comments(client)
    with pytest.raises(asyncio.IncompleteReadError) as cut:
        await client.chunk()
    assert cut.value.partial == b""
    return words


def error_in(words: bytes) -> Any:
    """The error that an event in OpenAI's words carries."""
    assert words.startswith(b"data: ")
    assert words.endswith(b"\n\n")
    return json.loads(words[6:])["error"]


async def test_a_stream_that_waits_is_sent_a_head_and_comments_and_then_its_answer() -> None:
    async with (
        Upstream(answering(ANSWER)) as upstream,
        plane(upstream, **SOON) as proxy,
        Client.to(proxy.port) as client,
    ):
        await client.send(chat("cold", stream=True))
        fields = dict(await alive(client, beats=2))
        proxy.gate.serve("cold", upstream.origin)

        assert await after_comments(client) == b"data: 1\n\n"
        assert await client.chunk() == b""
        await ended(proxy, Ending.DONE)

    assert fields[b"content-type"].startswith(b"text/event-stream")
    assert fields[b"cache-control"] == b"no-cache"
    assert fields[b"x-accel-buffering"] == b"no"
    assert fields[b"x-request-id"].decode() == proxy.entries[0].request_id
    assert b"request-id" not in fields


async def test_an_early_head_of_anthropics_api_has_the_id_where_its_sdk_looks() -> None:
    async with Upstream() as upstream, plane(upstream, **SOON) as proxy, Client.to(proxy.port) as client:
        await client.send(post("/v1/messages", b'{"model": "cold", "stream": true}'))
        fields = dict(await alive(client))

    assert fields[b"request-id"] == fields[b"x-request-id"]


async def test_an_engine_is_not_asked_to_compress_what_follows_comments() -> None:
    async with (
        Upstream(answering(ANSWER)) as upstream,
        plane(upstream, **SOON) as proxy,
        Client.to(proxy.port) as client,
    ):
        fields = b"Accept-Encoding: gzip\r\nAccept: */*\r\n"
        await client.send(chat("cold", stream=True).replace(b"Host:", fields + b"Host:"))
        await alive(client)
        proxy.gate.serve("cold", upstream.origin)
        assert await after_comments(client) == b"data: 1\n\n"
        assert b"Accept: */*" in upstream.peers[0].received
        assert b"Accept-Encoding" not in upstream.peers[0].received


async def test_the_access_line_tells_that_the_status_was_sent_before_there_was_an_answer() -> None:
    async with (
        Upstream(answering(ANSWER)) as upstream,
        plane(upstream, **SOON) as proxy,
        Client.to(proxy.port) as client,
    ):
        await client.send(chat("cold", stream=True))
        await alive(client)
        proxy.gate.fail("no such image")
        await last_words(client)
        await ended(proxy, Ending.REFUSED)

    entry: Access = proxy.entries[0]
    assert (entry.status, entry.ttfb_s) == (200, None)
    assert f" end=refused beats={entry.beats} client=" in access_line(entry)
    assert entry.beats >= 1


SILENT = {
    "no stream": chat("cold"),
    "a stream that is not true": chat("cold", stream="true"),
    "a request without a body": get("/cold/v1/chat/completions"),
    "events in no dialect": post("/api/chat", b'{"model":"cold","stream":true}'),
    "an endpoint that may stream sound": post("/v1/audio/speech", b'{"model":"cold","stream":true}'),
    "a body that was not read": post("/cold/v1/chat/completions", b'{"model":"cold","stream":true}'),
}


@pytest.mark.parametrize("request_", SILENT.values(), ids=SILENT.keys())
async def test_whoever_asked_for_no_events_waits_in_silence(request_: bytes) -> None:
    async with (
        Upstream(answering(OK)) as upstream,
        plane(upstream, **SOON) as proxy,
        Client.to(proxy.port) as silent,
        Client.to(proxy.port) as other,
    ):
        await silent.send(request_)
        await until(lambda: proxy.gate.waiting)
        await other.send(chat("cold", stream=True))
        await alive(other, beats=3)
        proxy.gate.serve("cold", upstream.origin)

        answer = await silent.answer()

    assert (answer.status, answer.header(b"content-type"), answer.body) == (200, b"application/json", b"{}")


async def test_nobody_is_sent_a_comment_where_that_is_switched_off() -> None:
    async with (
        Upstream(answering(ANSWER)) as upstream,
        plane(upstream, server={"heartbeat_after_s": 0}) as proxy,
        Client.to(proxy.port) as client,
    ):
        await client.send(chat("cold", stream=True))
        await until(lambda: proxy.gate.waiting)
        proxy.gate.serve("cold", upstream.origin)
        answer = await client.answer()

    assert answer.body == b"data: 1\n\n"
    assert proxy.entries[0].beats == 0


async def test_a_warm_stream_is_sent_no_comment_however_long_its_engine_thinks() -> None:
    think = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await think.wait()
        await peer.send(ANSWER)

    async with (
        Upstream(script) as upstream,
        plane(upstream, **SOON) as proxy,
        Client.to(proxy.port) as warm,
        Client.to(proxy.port) as cold,
    ):
        await warm.send(chat(stream=True))
        await cold.send(chat("cold", stream=True))
        await alive(cold, beats=3)
        think.set()

        assert (await warm.answer()).body == b"data: 1\n\n"


async def test_a_stream_that_was_begun_is_kept_alive_until_its_engine_answers() -> None:
    think = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await think.wait()
        await peer.send(ANSWER)

    async with Upstream(script) as upstream, plane(upstream, **SOON) as proxy, Client.to(proxy.port) as client:
        proxy.app._waiting_for = lambda service: "an answer" if proxy.gate.open else f"waiting for {service}"
        await client.send(chat("cold", stream=True))
        await alive(client)
        proxy.gate.serve("cold", upstream.origin)

        assert await after_comments(client) == b": an answer\n\n"
        think.set()
        while (chunk := await client.chunk()) == b": an answer\n\n":
            pass
        assert chunk == b"data: 1\n\n"


async def test_b03_a_client_that_leaves_a_stream_that_waits_leaves_the_queue() -> None:
    async with Upstream() as upstream, plane(upstream, **SOON) as proxy, Client.to(proxy.port) as client:
        await client.send(chat("cold", stream=True))
        await alive(client)
        client.writer.close()
        await until(lambda: proxy.gate.left)
        await ended(proxy, Ending.CLIENT_GONE)

    assert (proxy.entries[0].status, proxy.gate.granted) == (200, 0)


# What else may follow an early head


async def test_b12_a_start_that_fails_after_an_early_head_is_an_event_and_an_abort() -> None:
    async with Upstream() as upstream, plane(upstream, **SOON) as proxy, Client.to(proxy.port) as client:
        await client.send(chat("cold", stream=True))
        await alive(client)
        proxy.gate.fail("no such image")

        error = error_in(await last_words(client))

    assert (error["code"], error["message"], error["log_tail"]) == ("start_failed", "no such image", ["last words"])
    assert error["service"] == "cold"


async def test_b12_the_event_is_in_the_words_of_the_api_that_was_called() -> None:
    async with Upstream() as upstream, plane(upstream, **SOON) as proxy, Client.to(proxy.port) as client:
        await client.send(post("/v1/messages", b'{"model":"cold","stream":true}'))
        await alive(client)
        proxy.gate.fail("no such image")

        kind, _, data = (await last_words(client)).partition(b"\n")

    assert kind == b"event: error"
    assert json.loads(data.removeprefix(b"data: "))["error"]["type"] == "overloaded_error"


REFUSALS = {
    "an error in OpenAI's words": (refusing("400 No", b'{"error":{"message":"too long"}}'), "status 400: too long"),
    "an error in no words": (refusing("500 Oh", b"<html>"), "status 500"),
    "an answer that is no stream": (refusing("200 OK", b'{"id":1}', "Content-Type: application/json"), "status 200"),
    "compressed events": (
        refusing("200 OK", b"x", "Content-Type: text/event-stream", "Content-Encoding: gzip"), "status 200"
    ),
    "an endless error": (answering_once(b"HTTP/1.1 500 Oh\r\n\r\n", b"x" * 100_000), "status 500"),
}  # fmt: skip


@pytest.mark.parametrize(("script", "said"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_b12_an_answer_that_an_early_head_did_not_promise_is_an_event_and_an_abort(
    script: Script, said: str
) -> None:
    async with Upstream(script) as upstream, plane(upstream, **SOON) as proxy, Client.to(proxy.port) as client:
        await client.send(chat("cold", stream=True))
        await alive(client)
        proxy.gate.serve("cold", upstream.origin)

        error = error_in(await last_words(client))
        await ended(proxy, Ending.REFUSED)

    assert error["code"] == "upstream_refused"
    assert error["message"] == f"service 'cold' answered the stream with {said}"


async def test_b12_an_engine_that_is_gone_after_an_early_head_is_an_event_and_an_abort() -> None:
    async with Upstream() as upstream, plane(upstream, **SOON) as proxy, Client.to(proxy.port) as client:
        await client.send(chat("cold", stream=True))
        await alive(client)
        proxy.gate.serve("cold", Origin("http", "127.0.0.1", 1))

        assert error_in(await last_words(client))["code"] == "upstream_unreachable"


# The end of the proxy


async def cut_off(proxy: Plane) -> None:
    """What uvicorn does to requests at the drain deadline."""
    for task in list(proxy.serving.state.tasks):
        task.cancel()


async def test_b62_a_stream_that_waits_at_the_drain_deadline_is_told_why_it_ends() -> None:
    async with Upstream() as upstream, plane(upstream, **SOON) as proxy, Client.to(proxy.port) as client:
        await client.send(chat("cold", stream=True))
        await alive(client)
        await cut_off(proxy)

        assert error_in(await last_words(client))["code"] == "draining"
        await ended(proxy, Ending.CANCELLED)


async def test_b62_a_stream_that_is_open_at_the_drain_deadline_is_told_why_it_ends() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(EVENTS, event(1))
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat(stream=True))
        await client.head()
        assert await client.chunk() == b"data: 1\n\n"
        await cut_off(proxy)

        assert error_in(await last_words(client))["code"] == "draining"
        await upstream.peers[0].gone()
        await ended(proxy, Ending.CANCELLED)
