"""What a client is sent: framing that its version and method allow, and the answer in place of an app that fails."""

import logging
from typing import Any

import pytest

from ai_proxy.errors import QueueFull
from tests.proxy.serving import GET, Client, serving


async def test_http_1_0_gets_no_chunks_and_the_end_by_close() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        await send({"type": "http.response.body", "body": b"cd"})

    async with serving(app) as server, Client.to(server.port) as client:
        answer = await client.ask(b"GET / HTTP/1.0\r\n\r\n")

    assert answer.headers == [(b"connection", b"close")]
    assert answer.body == b"abcd"


@pytest.mark.parametrize("status", [204, 304])
async def test_b32_a_bodiless_status_has_no_body_and_no_framing(status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body", "body": b"extra"})

    async with serving(app) as server, Client.to(server.port) as client:
        assert [await client.ask(GET) for _ in range(2)][1].headers == []


async def test_b31_a_head_response_keeps_its_length_and_has_no_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"5")]})
        await send({"type": "http.response.body"})

    async with serving(app) as server, Client.to(server.port) as client:
        for _ in range(2):
            answer = await client.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", to_head=True)
            assert answer.header(b"content-length") == b"5"


async def test_b50_trailers_follow_a_chunked_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"x"})
        trailers = [(b"X-Sum", b"1"), (b"Transfer-Encoding", b"chunked")]
        await send({"type": "http.response.trailers", "headers": trailers})

    async with serving(app) as server, Client.to(server.port) as client:
        assert (await client.ask(GET)).trailers == [(b"X-Sum", b"1")]
        assert (await client.ask(GET)).body == b"x"


# Apps that fail


async def test_an_app_that_fails_is_a_logged_500_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("secret")

    async with serving(app) as server, Client.to(server.port) as client:
        with caplog.at_level(logging.ERROR):
            answer = await client.ask(GET)

    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "secret" in caplog.text


async def test_a_proxy_error_of_an_app_keeps_its_status() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise QueueFull("1000 requests wait", retry_after_s=2.5)

    async with serving(app) as server, Client.to(server.port) as client:
        answer = await client.ask(GET)

    assert (answer.status, answer.header(b"retry-after")) == (503, b"3")


async def test_an_app_that_stops_in_the_middle_never_ends_its_response(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})

    async with serving(app) as server, Client.to(server.port) as client:
        await client.send(GET)
        await client.head()
        assert await client.rest() == b"ab"


async def test_a_header_value_with_a_line_end_is_never_written() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nc: d")]})

    async with serving(app) as server, Client.to(server.port) as client:
        assert (await client.ask(GET)).status == 500
