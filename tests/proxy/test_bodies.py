"""Bodies of requests: what is held to find a model, for how long, and what is still read of the rest."""

import asyncio
import json

from tests.fakes.upstream import Peer, Upstream, answering
from tests.proxy.plane import EVENTS, OK, chat, event, plane, post
from tests.proxy.serving import Client, until

FIELD = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n'
FILE = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%b\r\n'


async def test_bodies_beyond_the_budget_wait_until_others_are_let_go() -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.read_request():
            await release.wait()
            await peer.send(OK)

    body = b'{"model": "chat", "x": "' + b"x" * 700_000 + b'"}'
    async with (
        Upstream(script) as upstream,
        plane(upstream, server={"max_buffered_mb": 1}) as proxy,
        Client.to(proxy.port) as first,
        Client.to(proxy.port) as second,
    ):
        await first.send(post("/v1/chat/completions", body))
        await upstream.accepted(1)
        second.writer.write(post("/v1/chat/completions", body))
        await until(lambda: proxy.app._budget._waiting)
        assert proxy.gate.granted == 1
        release.set()
        assert (await first.answer()).status == 200
        assert (await second.answer()).status == 200

    assert proxy.app._budget.taken == 0


async def test_a_body_that_went_upstream_is_not_held_while_its_answer_streams() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(EVENTS, event(1))
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat(stream=True))
        await client.head()
        await client.chunk()
        assert proxy.gate.open
        assert proxy.app._budget.taken == 0


async def test_a_second_model_in_a_form_is_refused_though_the_form_is_on_its_way() -> None:
    form = FIELD % b"gpt" + FILE % (b"z" * 300_000) + FIELD % b"chat" + b"--B--\r\n"
    request = post("/v1/audio/transcriptions", form, type="multipart/form-data; boundary=B")
    split = request.rindex(b"--B\r\n")
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(request[:split])
        peer = await upstream.accepted(1)
        await until(lambda: peer.received.endswith(b"zzz\r\n"))
        answer = await client.ask(request[split:])

        assert (answer.status, json.loads(answer.body)["error"]["param"]) == (400, "model")
        await peer.gone()
