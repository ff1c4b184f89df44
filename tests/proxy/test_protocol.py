"""What a client connection takes: heads and bodies as they came, several requests in turn."""

import asyncio
import json
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from ai_proxy.proxy.limits import ConnectionLimits
from ai_proxy.proxy.protocol import ProxyProtocol
from tests.proxy.serving import GET, Client, connections, echo, serving, until


async def asked(data: bytes) -> dict[str, Any]:
    """What the app saw of a request."""
    async with serving(echo) as server, Client.to(server.port) as client:
        answer = await client.ask(data)
        assert answer.status == 200, answer
        seen: dict[str, Any] = json.loads(answer.body)
        return seen


# Requests that are taken


async def test_b39_names_and_high_bytes_of_request_fields_are_kept() -> None:
    seen = await asked(b"GET / HTTP/1.1\r\nHost: a\r\nX-MiXed: caf\xe9\r\n\r\n")

    assert seen["raw"] == [["Host", "a"], ["X-MiXed", "caf\xe9"]]
    assert seen["headers"] == [["host", "a"], ["x-mixed", "caf\xe9"]]


async def test_b39_names_of_response_fields_are_written_as_the_app_gives_them() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"Set-Cookie", b"a=1"), (b"X-Name", b"\xff"), (b"Set-Cookie", b"b=2"), (b"Content-Length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    async with serving(app) as server, Client.to(server.port) as client:
        answer = await client.ask(GET)

    assert answer.headers[:3] == [(b"Set-Cookie", b"a=1"), (b"X-Name", b"\xff"), (b"Set-Cookie", b"b=2")]


async def test_b40_b41_raw_path_and_query_are_not_touched() -> None:
    seen = await asked(b"GET //a%2Fb/../c;d?a=1;b=2&c=%zz HTTP/1.1\r\nHost: a\r\n\r\n")

    assert seen["raw_path"] == "//a%2Fb/../c;d"
    assert seen["path"] == "//a/b/../c;d"
    assert seen["query"] == "a=1;b=2&c=%zz"


async def test_b42_an_absolute_target_decides_the_host() -> None:
    seen = await asked(b"GET http://right.example:81/x?y HTTP/1.1\r\nhost: wrong\r\nA: b\r\n\r\n")

    assert (seen["raw_path"], seen["query"]) == ("/x", "y")
    assert seen["raw"] == [["A", "b"], ["Host", "right.example:81"]]


async def test_b42_options_star_reaches_the_app() -> None:
    assert (await asked(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"))["path"] == "*"


@pytest.mark.parametrize("host", [b"a", b"a_b.local:8080", b"127.0.0.1:1", b"[::1]:8000"])
async def test_ordinary_hosts_are_taken(host: bytes) -> None:
    assert (await asked(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host))["path"] == "/"


async def test_b18_an_empty_connection_field_is_tolerated() -> None:
    assert (await asked(b"GET / HTTP/1.1\r\nHost: a\r\nConnection:\r\n\r\n"))["path"] == "/"


async def test_b28_b29_chunked_bodies_arrive_whole_and_trailers_are_no_fields() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    seen = await asked(head + b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Admin: yes\r\nHost: b\r\n\r\n")

    assert seen["body"] == "abcde"
    assert [name for name, _ in seen["headers"]] == ["host", "transfer-encoding"]


async def test_b27_fields_that_differ_by_a_dash_stay_apart() -> None:
    seen = await asked(b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 3\r\nContent-Length: 1\r\n\r\nx")

    assert seen["raw"][1:] == [["Content_Length", "3"], ["Content-Length", "1"]]
    assert seen["body"] == "x"


# Several requests


async def test_b15_pipelined_requests_are_answered_in_order() -> None:
    async with serving(echo) as server, Client.to(server.port) as client:
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(3)))

        assert [json.loads((await client.answer()).body)["path"] for _ in range(3)] == ["/0", "/1", "/2"]


async def test_b15_a_pipelined_body_arrives_after_the_answer_before_it() -> None:
    head = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    async with serving(echo) as server, Client.to(server.port) as client:
        await client.send(head % 0 + b"abc" + head % 1)
        assert json.loads((await client.answer()).body)["body"] == "abc"
        await client.send(b"def")
        assert json.loads((await client.answer()).body)["body"] == "def"


async def test_a_request_that_says_close_ends_the_connection_and_what_follows_is_ignored() -> None:
    async with serving(echo) as server, Client.to(server.port) as client:
        answer = await client.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + GET)

        assert (answer.status, answer.header(b"connection")) == (200, b"close")
        assert await client.rest() == b""


# Bodies and answers that cross


async def test_b46_continue_is_said_once_the_app_wants_the_body() -> None:
    async with serving(echo) as server, Client.to(server.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n")
        assert (await client.head())[0] == 100
        assert json.loads((await client.ask(b"hi")).body)["body"] == "hi"


async def test_b46_a_client_of_http_1_0_does_not_know_continue() -> None:
    called = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.set()
        await echo(scope, receive, send)

    async with serving(app) as server, Client.to(server.port) as client:
        await client.send(b"POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        await called.wait()
        await client.send(b"hi")
        assert (await client.head())[0] == 200


async def refuse_at_once(scope: Any, receive: Any, send: Any) -> None:
    """Answer without reading the body."""
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


async def test_b46_a_final_answer_instead_of_continue_ends_the_connection() -> None:
    async with serving(refuse_at_once) as server, Client.to(server.port) as client:
        answer = await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")

        assert (answer.status, answer.header(b"connection")) == (413, b"close")
        assert await client.rest() == b""


async def test_b13_an_early_answer_arrives_and_a_short_rest_of_the_body_is_drained() -> None:
    async with serving(refuse_at_once) as server, Client.to(server.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50_000)
        assert (await client.answer()).status == 413
        await client.send(b"x" * 50_000)
        assert (await client.ask(GET)).status == 413


async def test_b13_a_long_rest_of_the_body_ends_the_connection() -> None:
    limits = ConnectionLimits(linger_bytes=10_000)
    async with serving(refuse_at_once, limits) as server, Client.to(server.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50_000)
        assert (await client.answer()).status == 413
        await client.send(b"x" * 20_000)
        assert await client.rest() == b""


async def test_b06_a_body_that_the_app_does_not_ask_for_is_not_read() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    size = 4 * 1024 * 1024
    async with serving(app) as server, Client.to(server.port) as client:
        client.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        client.writer.write(b"x" * size)
        (connection,) = await connections(server.state)
        await until(lambda: connection.flow.read_paused)
        assert connection._cycle is not None
        assert connection._cycle._held < 1024 * 1024
        go.set()
        assert len(json.loads((await client.answer()).body)["body"]) == size


def test_a_connection_shows_its_state() -> None:
    config = Config(app=echo, log_config=None)
    loop = asyncio.new_event_loop()
    try:
        assert repr(ProxyProtocol(config, ServerState(), {}, loop)).startswith("<ProxyProtocol None: between")
    finally:
        loop.close()
