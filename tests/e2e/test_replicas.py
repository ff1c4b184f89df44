"""A service with two replicas: who takes which request."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from tests.e2e.clients import asking, streaming
from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, process, until

pytestmark = pytest.mark.slow

ENDLESS = ("--chunks", "1000000", "--interval", "0.02")


def twice(*flags: str, **replicas: Any) -> dict[str, Any]:
    """A service that runs twice once it is crowded; each replica's environment tells which it is."""
    most = {"max": 2, "target_inflight": 1, **replicas}
    return process(*flags, environment={"REPLICA_PORT": "{port}"}, replicas=most)


def in_flight(proxy: Proxy) -> list[int]:
    """How many requests are on each replica that is ready."""
    return [each["in_flight"] for each in proxy.service("chat")["replicas"] if each["state"] == "ready"]


async def crowd(proxy: Proxy, streams: AsyncExitStack) -> None:
    """Open two streams on the only replica, and wait until there is a second one for what comes."""
    for _ in range(2):
        await streams.enter_async_context(streaming(proxy, "chat"))
    await asyncio.to_thread(until, lambda: in_flight(proxy) == [2, 0])


async def taker(client: httpx.AsyncClient, session: str) -> str:
    """Which replica takes a request of a session, by its port."""
    answer = await client.get("/services/chat/fake/env", headers={"X-Session-Id": session})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["REPLICA_PORT"])


async def test_a_request_goes_to_the_replica_that_has_fewer(serve: Serve) -> None:
    proxy = serve({"services": {"chat": twice(*ENDLESS)}})
    async with AsyncExitStack() as streams:
        await crowd(proxy, streams)
        for expected in ([2, 1], [2, 2]):
            await streams.enter_async_context(streaming(proxy, "chat"))
            assert in_flight(proxy) == expected


async def test_a_session_stays_where_it_is(serve: Serve) -> None:
    proxy = serve({"services": {"chat": twice(*ENDLESS, affinity="session")}})
    async with asking(proxy) as client:
        async with AsyncExitStack() as streams:
            await crowd(proxy, streams)
        await asyncio.to_thread(proxy.await_quiet)
        sessions = [f"s-{number}" for number in range(8)]
        takers = {session: {await taker(client, session) for _ in range(5)} for session in sessions}
    assert {len(took) for took in takers.values()} == {1}
    assert len(set().union(*takers.values())) == 2


async def test_a_session_goes_elsewhere_rather_than_wait_for_its_own_replica(serve: Serve) -> None:
    proxy = serve({"services": {"chat": twice(*ENDLESS, affinity="session")}})
    async with asking(proxy) as client, AsyncExitStack() as streams:
        await crowd(proxy, streams)
        assert len({await taker(client, f"s-{number}") for number in range(8)}) == 1
