"""One client connection: what is taken, what is refused, and how it ends."""

import asyncio
import json
import logging
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from ai_proxy.errors import QueueFull
from ai_proxy.proxy.limits import ConnectionLimits
from ai_proxy.proxy.protocol import ProxyProtocol
from tests.proxy.serving import GUARD_S, Client, serving, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what was asked for."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    raw = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["extensions"]["ai_proxy.headers"]]
    about = {
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": headers,
        "raw": raw,
        "body": body.decode("latin-1"),
    }
    content = json.dumps(about).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(content))]})
    await send({"type": "http.response.body", "body": content})


async def asked(data: bytes) -> dict[str, Any]:
    """What the app saw of a request."""
    async with serving(echo) as server, Client.to(server.port) as client:
        answer = await client.ask(data)
        assert answer.status == 200, answer
        seen: dict[str, Any] = json.loads(answer.body)
        return seen


async def refused(data: bytes, limits: ConnectionLimits | None = None) -> tuple[int, dict[str, Any]]:
    """Status and error of a request that must reach no app; the connection must close."""

    async def unreached(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the app was called")

    async with serving(unreached, limits) as server, Client.to(server.port) as client:
        answer = await client.ask(data)
        assert await client.rest() == b""
        return answer.status, json.loads(answer.body)["error"]


# Requests that are taken


async def test_39_names_and_high_bytes_of_request_fields_are_kept() -> None:
    seen = await asked(b"GET / HTTP/1.1\r\nHost: a\r\nX-MiXed: caf\xe9\r\n\r\n")

    assert seen["raw"] == [["Host", "a"], ["X-MiXed", "caf\xe9"]]
    assert seen["headers"] == [["host", "a"], ["x-mixed", "caf\xe9"]]


async def test_39_names_of_response_fields_are_written_as_the_app_gives_them() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"Set-Cookie", b"a=1"), (b"X-Name", b"\xff"), (b"Set-Cookie", b"b=2"), (b"Content-Length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    async with serving(app) as server, Client.to(server.port) as client:
        answer = await client.ask(GET)

    assert answer.headers[:3] == [(b"Set-Cookie", b"a=1"), (b"X-Name", b"\xff"), (b"Set-Cookie", b"b=2")]


async def test_40_41_raw_path_and_query_are_not_touched() -> None:
    seen = await asked(b"GET //a%2Fb/../c;d?a=1;b=2&c=%zz HTTP/1.1\r\nHost: a\r\n\r\n")

    assert seen["raw_path"] == "//a%2Fb/../c;d"
    assert seen["path"] == "//a/b/../c;d"
    assert seen["query"] == "a=1;b=2&c=%zz"


async def test_42_an_absolute_target_decides_the_host() -> None:
    seen = await asked(b"GET http://right.example:81/x?y HTTP/1.1\r\nhost: wrong\r\nA: b\r\n\r\n")

    assert (seen["raw_path"], seen["query"]) == ("/x", "y")
    assert seen["raw"] == [["A", "b"], ["Host", "right.example:81"]]


async def test_42_options_star_reaches_the_app() -> None:
    assert (await asked(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"))["path"] == "*"


@pytest.mark.parametrize("host", [b"a", b"a_b.local:8080", b"127.0.0.1:1", b"[::1]:8000"])
async def test_ordinary_hosts_are_taken(host: bytes) -> None:
    assert (await asked(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host))["path"] == "/"


async def test_18_an_empty_connection_field_is_tolerated() -> None:
    assert (await asked(b"GET / HTTP/1.1\r\nHost: a\r\nConnection:\r\n\r\n"))["path"] == "/"


async def test_28_29_chunked_bodies_arrive_whole_and_trailers_are_no_fields() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    seen = await asked(head + b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Admin: yes\r\nHost: b\r\n\r\n")

    assert seen["body"] == "abcde"
    assert [name for name, _ in seen["headers"]] == ["host", "transfer-encoding"]


async def test_27_fields_that_differ_by_a_dash_stay_apart() -> None:
    seen = await asked(b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 3\r\nContent-Length: 1\r\n\r\nx")

    assert seen["raw"][1:] == [["Content_Length", "3"], ["Content-Length", "1"]]
    assert seen["body"] == "x"


# Requests that are refused


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5, 5",
        b"Content-Length: +5",
        b"Content-Length: 5 5",
        b"Content-Length: 0x5",
        b"Content-Length: 1_0",
        b"Content-Length:",
        b"Content-Length: 99999999999999999999999",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding:",
        b"A: b\n",
        b"A: b\rc",
        b"A: b\r\n c",
        b"A: b\x00",
        b"A: b\x01",
        b"A: b\x7f",
        b"A b: c",
        b": c",
        b"A(: c",
    ],
)
async def test_20_to_26_ambiguous_framing_and_broken_fields_are_refused(fields: bytes) -> None:
    status, error = await refused(b"POST / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n\r\nhello")

    assert (status, error["code"], error["type"]) == (400, "malformed_request", "invalid_request_error")
    assert error["request_id"]


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"Host:\r\n",
        b"Host: a\r\nHost: a\r\n",
        b"Host: u@a\r\n",
        b"Host: a/b\r\n",
        b"Host: a, b\r\n",
        b"Host: a b\r\n",
        b"Host: a:port\r\n",
        b"Host: [::1\r\n",
    ],
)
async def test_a_missing_doubled_or_strange_host_is_refused(fields: bytes) -> None:
    assert (await refused(b"GET / HTTP/1.1\r\n" + fields + b"\r\n"))[0] == 400


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/2.0",
        b"GET / HTTP/1.2",
        b"GET /",
        b"get / HTTP/1.1",
        b"FOO / HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /a#b HTTP/1.1",
        b"GET ftp://a/b HTTP/1.1",
        b"GET http:///b HTTP/1.1",
        b"GET http://u@a/b HTTP/1.1",
        b"\x16\x03\x01\x02\x00",
    ],
)
async def test_a_request_line_that_is_not_http_1_is_refused(line: bytes) -> None:
    assert (await refused(line + b"\r\nHost: a\r\n\r\n"))[0] == 400


async def test_42_connect_is_refused() -> None:
    assert (await refused(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"))[0] == 405


async def test_a_chunked_body_in_http_1_0_is_refused() -> None:
    assert (await refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))[0] == 400


async def test_35_a_head_over_the_limit_is_refused_whether_it_comes_at_once_or_slowly() -> None:
    limits = ConnectionLimits(head_bytes=1000)

    at_once = await refused(b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 1000 + b"\r\n\r\n", limits)
    assert at_once[0] == 431

    async with serving(echo, limits) as server, Client.to(server.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nA: ")
        while not client.reader.at_eof() and not client.reader._buffer:  # type: ignore[attr-defined]  # no public look
            await client.send(b"x" * 100)
            await asyncio.sleep(0)
        assert (await client.answer()).status == 431


async def test_36_too_many_fields_are_refused() -> None:
    status, error = await refused(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 100 + b"\r\n")

    assert (status, error["code"]) == (431, "headers_too_large")


async def test_37_a_long_target_is_refused() -> None:
    assert (await refused(b"GET /" + b"x" * 16 * 1024 + b" HTTP/1.1\r\nHost: a\r\n\r\n"))[0] == 414


async def test_bytes_of_a_large_body_before_it_do_not_count_as_head() -> None:
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000
    async with serving(echo, ConnectionLimits(head_bytes=1000)) as server, Client.to(server.port) as client:
        await client.send(post + GET[:-10])
        assert (await client.answer()).status == 200
        assert (await client.ask(GET[-10:])).status == 200


async def test_what_was_asked_before_a_broken_request_is_answered_first() -> None:
    async with serving(echo) as server, Client.to(server.port) as client:
        await client.send(GET + GET + b"BROKEN\r\n\r\n")

        assert [(await client.answer()).status for _ in range(3)] == [200, 200, 400]
        assert await client.rest() == b""


async def test_24_a_body_that_breaks_is_told_to_the_app_and_answered() -> None:
    async with serving(echo) as server, Client.to(server.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        answer = await client.ask(b"1;a\nb\r\n")

        assert answer.status == 400
        assert json.loads(answer.body)["error"]["code"] == "malformed_request"
        assert await client.rest() == b""


# Several requests


async def test_15_pipelined_requests_are_answered_in_order() -> None:
    async with serving(echo) as server, Client.to(server.port) as client:
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(3)))

        assert [json.loads((await client.answer()).body)["path"] for _ in range(3)] == ["/0", "/1", "/2"]


async def test_15_a_pipelined_body_arrives_after_the_answer_before_it() -> None:
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
async def test_32_a_bodiless_status_has_no_body_and_no_framing(status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body", "body": b"extra"})

    async with serving(app) as server, Client.to(server.port) as client:
        assert [await client.ask(GET) for _ in range(2)][1].headers == []


async def test_31_a_head_response_keeps_its_length_and_has_no_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"5")]})
        await send({"type": "http.response.body"})

    async with serving(app) as server, Client.to(server.port) as client:
        for _ in range(2):
            answer = await client.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", to_head=True)
            assert answer.header(b"content-length") == b"5"


async def test_50_trailers_follow_a_chunked_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"x"})
        trailers = [(b"X-Sum", b"1"), (b"Transfer-Encoding", b"chunked")]
        await send({"type": "http.response.trailers", "headers": trailers})

    async with serving(app) as server, Client.to(server.port) as client:
        assert (await client.ask(GET)).trailers == [(b"X-Sum", b"1")]
        assert (await client.ask(GET)).body == b"x"


# Bodies and answers that cross


async def test_46_continue_is_said_once_the_app_wants_the_body() -> None:
    async with serving(echo) as server, Client.to(server.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n")
        assert (await client.head())[0] == 100
        assert json.loads((await client.ask(b"hi")).body)["body"] == "hi"


async def refuse_at_once(scope: Any, receive: Any, send: Any) -> None:
    """Answer without reading the body."""
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


async def test_46_a_final_answer_instead_of_continue_ends_the_connection() -> None:
    async with serving(refuse_at_once) as server, Client.to(server.port) as client:
        answer = await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")

        assert (answer.status, answer.header(b"connection")) == (413, b"close")
        assert await client.rest() == b""


async def test_13_an_early_answer_arrives_and_a_short_rest_of_the_body_is_drained() -> None:
    async with serving(refuse_at_once) as server, Client.to(server.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50_000)
        assert (await client.answer()).status == 413
        await client.send(b"x" * 50_000)
        assert (await client.ask(GET)).status == 413


async def test_13_a_long_rest_of_the_body_ends_the_connection() -> None:
    limits = ConnectionLimits(linger_bytes=10_000)
    async with serving(refuse_at_once, limits) as server, Client.to(server.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50_000)
        assert (await client.answer()).status == 413
        await client.send(b"x" * 20_000)
        assert await client.rest() == b""


async def test_6_a_body_that_the_app_does_not_ask_for_is_not_read() -> None:
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


# Clients that leave


async def connections(state: ServerState) -> list[ProxyProtocol]:
    await until(lambda: state.connections)
    return list(state.connections)  # type: ignore[arg-type]  # uvicorn lists its own protocols only


class Watcher:
    """An app that says when its client has gone, and waits for what it is told to wait for."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.gone = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"]["ai_proxy.disconnect"](self.gone.set)
        self.called.set()
        await asyncio.wait_for(self.gone.wait(), GUARD_S)


@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
async def test_1_14_a_client_that_leaves_is_told_to_the_app(how: str) -> None:
    app = Watcher()
    async with serving(app) as server, Client.to(server.port) as client:
        await client.send(GET)
        await app.called.wait()
        if how == "reset":
            client.reset()
        elif how == "half_close":
            client.writer.write_eof()
        else:
            client.writer.close()
        await asyncio.wait_for(app.gone.wait(), GUARD_S)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_2_a_client_that_leaves_is_noticed_while_its_socket_is_not_read(how: str) -> None:
    app = Watcher()
    async with serving(app) as server, Client.to(server.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 200_000)
        await app.called.wait()
        (connection,) = await connections(server.state)
        await until(lambda: connection.flow.read_paused)
        client.reset() if how == "reset" else client.writer.close()
        await asyncio.wait_for(app.gone.wait(), GUARD_S)


async def test_15_a_client_that_leaves_with_requests_in_line_is_noticed() -> None:
    app = Watcher()
    async with serving(app) as server, Client.to(server.port) as client:
        await client.send(GET * 3)
        await app.called.wait()
        client.writer.close()
        await asyncio.wait_for(app.gone.wait(), GUARD_S)


async def test_a_callback_registered_too_late_is_called_at_once() -> None:
    called = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        scope["extensions"]["ai_proxy.disconnect"](called.set)

    async with serving(app) as server, Client.to(server.port) as client:
        await client.send(GET)
        (connection,) = await connections(server.state)
        await until(lambda: connection._cycle is not None)
        client.writer.close()
        await asyncio.wait_for(called.wait(), GUARD_S)


async def test_9_an_abort_leaves_a_chunked_body_without_its_end() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        scope["extensions"]["ai_proxy.abort"]()

    async with serving(app) as server, Client.to(server.port) as client:
        await client.send(GET)
        await client.head()
        assert await client.rest() == b"2\r\nab\r\n"


async def test_11_an_abort_to_http_1_0_is_a_reset() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        scope["extensions"]["ai_proxy.abort"]()

    async with serving(app) as server, Client.to(server.port) as client:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await client.rest()


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


# Deadlines


async def test_57_a_head_that_does_not_arrive_is_a_408() -> None:
    async with serving(echo, ConnectionLimits(head_s=0.05)) as server, Client.to(server.port) as client:
        answer = await client.ask(b"GET / HT")

        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (408, "client_too_slow")
        assert await client.rest() == b""


async def test_57_a_head_that_trickles_is_a_408_all_the_same() -> None:
    async with serving(echo, ConnectionLimits(head_s=0.1)) as server, Client.to(server.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nA: ")

        async def trickle() -> None:
            while True:
                await client.send(b"x")
                await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        assert (await client.answer()).status == 408
        trickling.cancel()


async def test_57_a_body_that_stops_is_a_408() -> None:
    async with serving(echo, ConnectionLimits(body_idle_s=0.05)) as server, Client.to(server.port) as client:
        answer = await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")

        assert answer.status == 408
        assert await client.rest() == b""


async def test_57_an_idle_connection_is_closed_without_a_word() -> None:
    limits = ConnectionLimits(keep_alive_s=0.05)
    async with serving(echo, limits) as server, Client.to(server.port) as client:
        assert (await client.ask(GET)).status == 200
        assert await client.rest() == b""


async def test_a_slow_answer_outlives_the_deadlines_of_receiving() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    limits = ConnectionLimits(head_s=0.02, body_idle_s=0.02, keep_alive_s=0.02)
    async with serving(app, limits) as server, Client.to(server.port) as client:
        await client.send(GET)
        (connection,) = await connections(server.state)
        await until(lambda: connection._deadline._timer is None)
        go.set()
        assert (await client.answer()).status == 200


async def test_a_client_that_takes_nothing_is_given_up() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        scope["extensions"]["ai_proxy.disconnect"](gone.set)
        while not gone.is_set():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

    gone = asyncio.Event()
    async with serving(app, ConnectionLimits(stall_s=0.05)) as server, Client.to(server.port, limit=1024) as client:
        await client.send(GET)
        await asyncio.wait_for(gone.wait(), GUARD_S)


# Shutdown


async def test_62_shutdown_closes_idle_connections_and_lets_open_ones_finish() -> None:
    go, called = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.set()
        await go.wait()
        await echo(scope, receive, send)

    async with serving(app) as server, Client.to(server.port) as idle, Client.to(server.port) as busy:
        await busy.send(GET)
        await called.wait()
        await until(lambda: len(server.state.connections) == 2)
        await server.shut_down()
        assert await idle.rest() == b""
        go.set()
        assert (await busy.answer()).header(b"connection") == b"close"
        assert await busy.rest() == b""


def test_a_connection_shows_its_state() -> None:
    config = Config(app=echo, log_config=None)
    loop = asyncio.new_event_loop()
    try:
        assert repr(ProxyProtocol(config, ServerState(), {}, loop)).startswith("<ProxyProtocol None: between")
    finally:
        loop.close()
