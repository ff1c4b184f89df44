"""Web pages of other origins: kept out by default, let in where the config names them, and never with cookies."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ai_proxy.config.management import CorsConfig
from ai_proxy.proxy.cors import opened
from tests.fakes.upstream import Upstream, answering
from tests.proxy.plane import OK, chat, get, make, plane
from tests.proxy.serving import Answer, Client, serving

PAGE = "Origin: https://chat.example"
PREFLIGHT = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization, x-stainless-os")
THEIRS = OK.replace(
    b"\r\n\r\n",
    b"\r\nAccess-Control-Allow-Origin: *\r\naccess-control-allow-credentials: true\r\nVary: Accept-Encoding\r\n\r\n",
)


@asynccontextmanager
async def client_of(upstream: Upstream, **cors: Any) -> AsyncIterator[Client]:
    """A client of a data plane that is open so far."""
    made = make()
    made.gate.ready = {"chat": upstream.origin}
    app = opened(made.app, CorsConfig(**cors))
    async with serving(app) as served, Client.to(served.port) as client:
        yield client
    await made.pool.aclose()


def preflight(path: str, *fields: str) -> bytes:
    return get(path, *fields).replace(b"GET", b"OPTIONS", 1)


def said(answer: Answer) -> dict[bytes, list[bytes]]:
    """What a response tells a browser about origins."""
    told: dict[bytes, list[bytes]] = {}
    for name, value in answer.headers:
        if name.lower().startswith((b"access-control-", b"vary")):
            told.setdefault(name.lower().removeprefix(b"access-control-"), []).append(value)
    return told


def test_closed_it_is_not_there_at_all() -> None:
    app = make().app

    assert opened(app, CorsConfig()) is app


async def test_closed_an_engines_own_fields_pass_and_so_does_a_preflight() -> None:
    async with Upstream(answering(THEIRS)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(preflight("/chat/x", PAGE, *PREFLIGHT))

    assert answer.status == 200
    assert said(answer) == {b"allow-origin": [b"*"], b"allow-credentials": [b"true"], b"vary": [b"Accept-Encoding"]}


async def test_a_page_that_is_named_gets_an_answer_that_it_may_read() -> None:
    async with Upstream(answering(THEIRS)) as upstream, client_of(upstream, allow_origins="https://chat.example") as it:
        answer = await it.ask(chat().replace(b"\r\n", f"\r\n{PAGE}\r\n".encode(), 1))

    exposed = said(answer).pop(b"expose-headers")
    assert said(answer) == {
        b"allow-origin": [b"https://chat.example"],
        b"expose-headers": exposed,
        b"vary": [b"Accept-Encoding", b"Origin"],
    }
    assert b"x-request-id" in exposed[0]


async def test_an_error_may_be_read_too() -> None:
    async with Upstream() as upstream, client_of(upstream, allow_origins=["https://chat.example"]) as client:
        answer = await client.ask(chat("none").replace(b"\r\n", f"\r\n{PAGE}\r\n".encode(), 1))

    assert (answer.status, said(answer)[b"allow-origin"]) == (404, [b"https://chat.example"])


@pytest.mark.parametrize("origin", ["null", "https://evil.example", "http://chat.example", "https://chat.example:8443"])
async def test_a_page_that_is_not_named_is_told_nothing(origin: str) -> None:
    async with Upstream(answering(THEIRS)) as upstream, client_of(upstream, allow_origins="https://chat.example") as it:
        answer = await it.ask(chat().replace(b"\r\n", f"\r\nOrigin: {origin}\r\n".encode(), 1))
        refused = await it.ask(preflight("/v1/chat/completions", f"Origin: {origin}", *PREFLIGHT))

    assert (answer.status, said(answer)) == (200, {b"vary": [b"Accept-Encoding", b"Origin"]})
    assert (refused.status, said(refused)) == (403, {b"vary": [b"Origin"]})
    assert b"origin_not_allowed" in refused.body


async def test_what_is_no_browsers_is_answered_so_that_caches_keep_it_apart() -> None:
    async with Upstream(answering(OK)) as upstream, client_of(upstream, allow_origins="https://chat.example") as client:
        assert said(await client.ask(chat())) == {b"vary": [b"Origin"]}


@pytest.mark.parametrize("origin", ["null", "https://any.example"])
async def test_where_all_may_no_origin_is_named_and_no_cookie_allowed(origin: str) -> None:
    async with Upstream(answering(THEIRS)) as upstream, client_of(upstream, allow_origins="*") as client:
        answer = await client.ask(chat().replace(b"\r\n", f"\r\nOrigin: {origin}\r\n".encode(), 1))

    assert set(said(answer)) == {b"allow-origin", b"expose-headers", b"vary"}
    assert (said(answer)[b"allow-origin"], said(answer)[b"vary"]) == ([b"*"], [b"Accept-Encoding"])


async def test_a_preflight_is_answered_without_asking_anybody() -> None:
    async with Upstream() as upstream, client_of(upstream, allow_origins="*", max_age_s=60) as client:
        answer = await client.ask(preflight("/v1/chat/completions", PAGE, *PREFLIGHT))

    assert (answer.status, answer.body) == (204, b"")
    told = said(answer)
    assert told[b"allow-headers"] == [b"authorization, x-stainless-os"]
    assert told[b"allow-origin"] == [b"*"]
    assert b"POST" in told[b"allow-methods"][0]
    assert told[b"max-age"] == [b"60"]


async def test_the_config_may_say_which_fields_a_page_may_send() -> None:
    fields = ["authorization", "content-type"]
    async with Upstream() as upstream, client_of(upstream, allow_origins="*", allow_headers=fields) as client:
        answer = await client.ask(preflight("/v1/chat/completions", PAGE, *PREFLIGHT))

    assert said(answer)[b"allow-headers"] == [b"authorization, content-type"]


async def test_options_that_is_no_preflight_is_the_services() -> None:
    async with Upstream(answering(OK)) as upstream, client_of(upstream, allow_origins="*") as client:
        answer = await client.ask(preflight("/chat/x", PAGE))

    assert (answer.status, answer.body) == (200, b"{}")
