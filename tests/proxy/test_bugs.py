"""What becomes of a request when something fails that nobody expected."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from ai_proxy.gate import RequestInfo
from ai_proxy.metrics import Ending
from tests.fakes.upstream import Peer, Upstream
from tests.proxy.plane import EVENTS, chat, ended, event, plane, post
from tests.proxy.serving import Client


@pytest.fixture
def records() -> Iterator[list[str]]:
    written: list[str] = []
    sink = logger.add(
        lambda line: written.append(str(line)),
        level="ERROR",
        format="{extra[request_id]} {extra[service]} {message} {exception}",
        diagnose=False,
    )
    yield written
    logger.remove(sink)


class Broken:
    """An exchange that fails as no exchange should."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    async def read(self) -> bytes:
        raise RuntimeError("secret")


async def test_before_the_response_it_is_a_logged_500_like_any_other_error(records: list[str]) -> None:
    def broken(request: RequestInfo) -> None:
        raise RuntimeError("secret")

    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        proxy.gate.try_admit = broken  # type: ignore[method-assign]  # a gate with a bug
        answer = await client.ask(post("/v1/messages", b'{"model": "chat"}', "X-Request-Id: r-1"))

        error = json.loads(answer.body)
        assert (answer.status, error["error"]["code"], error["request_id"]) == (500, "internal_error", "r-1")
        assert b"secret" not in answer.body
        await ended(proxy, Ending.REFUSED)
        assert proxy.entries[0].status == 500

    assert [record.startswith("r-1 chat ") and "secret" in record for record in records] == [True]


async def test_in_the_middle_of_a_response_it_breaks_the_response_off(records: list[str]) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(EVENTS, event(1))
        await peer.gone()

    async with Upstream(script) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        whole = proxy.pool.send

        async def send(*args: Any, **more: Any) -> Any:
            return Broken(await whole(*args, **more))

        proxy.pool.send = send  # type: ignore[method-assign]  # a pool with a bug
        await client.send(chat(stream=True))
        assert (await client.head())[0] == 200
        assert not (await client.rest()).endswith(b"0\r\n\r\n")
        await ended(proxy, Ending.REFUSED)
        assert proxy.entries[0].status == 200
        assert not proxy.pool.active

    assert len(records) == 1
