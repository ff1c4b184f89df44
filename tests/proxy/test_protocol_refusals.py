"""What a client connection refuses before any app sees it."""

import asyncio
import json
from typing import Any

import pytest
from loguru import logger

from ai_proxy.proxy.limits import ConnectionLimits
from tests.proxy.serving import GET, Client, echo, serving


async def refused(data: bytes, limits: ConnectionLimits | None = None) -> tuple[int, dict[str, Any]]:
    """Status and error of a request that must reach no app; the connection must close."""

    async def unreached(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the app was called")

    async with serving(unreached, limits) as server, Client.to(server.port) as client:
        answer = await client.ask(data)
        assert await client.rest() == b""
        return answer.status, json.loads(answer.body)["error"]


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
async def test_b20_to_b26_ambiguous_framing_and_broken_fields_are_refused(fields: bytes) -> None:
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
@pytest.mark.parametrize("target", [b"/", b"http://a/"])
async def test_b42_a_missing_doubled_or_strange_host_is_refused(target: bytes, fields: bytes) -> None:
    assert (await refused(b"GET " + target + b" HTTP/1.1\r\n" + fields + b"\r\n"))[0] == 400


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


async def test_b42_connect_is_refused() -> None:
    assert (await refused(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"))[0] == 405


async def test_a_chunked_body_in_http_1_0_is_refused() -> None:
    assert (await refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))[0] == 400


async def test_b35_a_head_over_the_limit_is_refused_whether_it_comes_at_once_or_slowly() -> None:
    limits = ConnectionLimits(head_bytes=1000)

    at_once = await refused(b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 1000 + b"\r\n\r\n", limits)
    assert at_once[0] == 431

    async with serving(echo, limits) as server, Client.to(server.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nA: ")
        while not client.reader.at_eof() and not client.reader._buffer:  # type: ignore[attr-defined]  # no public look
            await client.send(b"x" * 100)
            await asyncio.sleep(0)
        assert (await client.answer()).status == 431


@pytest.mark.parametrize("endless", [b"A: ", b"A", b"A: b\r\n", b""])
async def test_b35_trailers_that_never_end_are_refused(endless: bytes) -> None:
    async with serving(echo, ConnectionLimits(head_bytes=1000)) as server, Client.to(server.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.send(b"%x\r\n%b\r\n0\r\n" % (5000, b"x" * 5000))
        while not client.reader._buffer:  # type: ignore[attr-defined]  # no public look
            await client.send(endless + b"x" * 100 + b": y\r\n" * (not endless))
            await asyncio.sleep(0)
        assert (await client.answer()).status == 431


async def test_b36_too_many_fields_are_refused() -> None:
    status, error = await refused(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 100 + b"\r\n")

    assert (status, error["code"]) == (431, "headers_too_large")


async def test_b37_a_long_target_is_refused() -> None:
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


async def test_b24_a_body_that_breaks_is_told_to_the_app_and_answered() -> None:
    async with serving(echo) as server, Client.to(server.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        answer = await client.ask(b"1;a\nb\r\n")

        assert answer.status == 400
        assert json.loads(answer.body)["error"]["code"] == "malformed_request"
        assert await client.rest() == b""


async def test_b66_a_refusal_is_logged_under_the_id_that_the_client_is_told() -> None:
    written: list[str] = []
    sink = logger.add(lambda line: written.append(str(line)), level="INFO", format="{extra[request_id]} {message}")
    status, error = await refused(b"GET / HTTP/1.1\r\n\r\n")
    logger.remove(sink)

    (line,) = written
    assert line.startswith(f"{error['request_id']} 127.0.0.1:")
    assert line.endswith(f"refused with {status}: {error['message']}\n")
