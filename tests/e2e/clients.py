"""How the tests ask a proxy: whole answers over httpx, streams to be looked at byte by byte over a raw socket."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.e2e.harness import GUARD_S, Proxy
from tests.proxy.serving import Client


def question(model: str, *, stream: bool = False) -> bytes:
    """A chat request on the wire."""
    body = json.dumps({"model": model, "stream": stream, "messages": []}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: p\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@asynccontextmanager
async def streaming(proxy: Proxy, model: str) -> AsyncIterator[Client]:
    """A chat whose answer has begun to stream."""
    async with Client.to(proxy.port) as client:
        await client.send(question(model, stream=True))
        status, _ = await client.head()
        assert status == 200, await client.rest()
        assert b"token0" in await client.chunk()
        yield client


async def rest_of(client: Client) -> bytes:
    """All further chunks of an answer up to its proper end."""
    text = b""
    while chunk := await client.chunk():
        text += chunk
    return text


@asynccontextmanager
async def asking(proxy: Proxy, connections: int = 100) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the proxy that waits for as long as a test may."""
    limits = httpx.Limits(max_connections=connections)
    async with httpx.AsyncClient(base_url=proxy.url, timeout=3 * GUARD_S, limits=limits, trust_env=False) as client:
        yield client


async def chat(client: httpx.AsyncClient, model: str, fields: Mapping[str, str] | None = None) -> httpx.Response:
    """Ask for a whole chat answer, with fields of the request's own."""
    return await client.post("/v1/chat/completions", json={"model": model, "messages": []}, headers=fields)


def error_of(answer: httpx.Response) -> Any:
    """The error that an answer carries; its request id stands in body and header alike."""
    error = answer.json()["error"]
    assert error["request_id"] == answer.headers["x-request-id"]
    return error
