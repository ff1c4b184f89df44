"""Answers that go on: when they end, and what they leave behind (nothing)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ai_proxy.api.stream import ticking
from ai_proxy.errors import RuntimeUnavailable, StartFailed
from ai_proxy.events import Progress
from tests.api.house import House, house_of
from tests.proxy.serving import Client, serving, until

GET = b"GET /api/v1/%b HTTP/1.1\r\nhost: localhost\r\n\r\n"


@asynccontextmanager
async def reading(house: House, path: str) -> AsyncIterator[Client]:
    """A client that has read the head of an answer that goes on, over a real socket."""
    async with serving(house.api) as server, Client.to(server.port) as client:
        await client.send(GET % path.encode())
        status, headers = await client.head()
        assert status == 200
        assert (b"content-type", b"text/event-stream; charset=utf-8") in [
            (name.lower(), value) for name, value in headers
        ]
        yield client


async def event(client: Client) -> tuple[str, Any]:
    """The next event: its kind and its data."""
    while (chunk := await client.chunk()).startswith(b":"):
        pass
    kind, data = chunk.decode().strip().split("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def subscribers(house: House) -> int:
    """How many watch the bus."""
    return len(house.fleet.bus._subscriptions)


async def test_events_come_as_they_happen(house: House) -> None:
    async with reading(house, "events") as client:
        await client.chunk()
        await house.post("/service/a/start")

        kind, data = await event(client)

        assert kind == data["type"] == "service"
        assert (data["service"], data["previous"], data["state"]) == ("a", "stopped", "queued")


async def test_a_reader_that_leaves_takes_its_subscription_with_it(house: House) -> None:
    async with reading(house, "events") as client:
        await client.chunk()
        assert subscribers(house) == 1
        client.reset()

        await until(lambda: subscribers(house) == 0)


async def test_events_end_cleanly_when_the_proxy_closes(house: House) -> None:
    async with reading(house, "events") as client:
        await client.chunk()
        house.closing.set()

        assert await client.chunk() == b""
        assert subscribers(house) == 0


async def test_a_slow_reader_is_told_how_many_events_it_lost(house: House) -> None:
    async with reading(house, "events") as client:
        await client.chunk()
        for number in range(300):  # no turn of the loop in between: the reader can't keep up
            house.fleet.bus.publish(Progress(0.0, "a", str(number)))

        told = [await event(client) for _ in range(257)]

        lost = next(data["events"] for kind, data in told if kind == "lost")
        texts = [int(data["text"]) for kind, data in told if kind == "progress"]
        assert lost == 300 - len(texts)
        assert texts[-1] == 299


async def test_a_reader_that_stops_reading_holds_up_neither_the_bus_nor_the_end(house: House) -> None:
    async with reading(house, "events") as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # typed as write-only, but is both
        subscription = next(iter(house.fleet.bus._subscriptions))
        while not subscription.lost:
            house.fleet.bus.publish(Progress(0.0, "a", "x" * 10_000))
            await asyncio.sleep(0)
        house.closing.set()

        await until(lambda: subscribers(house) == 0)


async def test_the_last_lines_of_a_replica_are_plain_text(house: House) -> None:
    await house.post("/service/a/start", wait=True)
    for number in range(5):
        house.fleet.docker.say("a", f"line {number}")

    answer = await house.get("/service/a/logs", tail=2)

    assert answer.text == "line 3\nline 4\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_followed_lines_begin_with_the_last_old_ones_and_end_with_the_replica(house: House) -> None:
    await house.post("/service/a/start", wait=True)
    for text in ("old", "last", "ünicode\r"):
        house.fleet.docker.say("a", text)
    async with reading(house, "service/a/logs?follow=true&tail=2") as client:
        assert [await event(client) for _ in range(2)] == [("line", {"text": "last"}), ("line", {"text": "ünicode\r"})]
        house.fleet.docker.say("a", "new")
        assert await event(client) == ("line", {"text": "new"})
        await house.post("/service/a/stop")

        assert await event(client) == ("end", {})
        assert await client.chunk() == b""


async def test_a_follower_that_leaves_lets_the_log_go(house: House) -> None:
    await house.post("/service/a/start", wait=True)
    async with reading(house, "service/a/logs?follow=true") as client:
        await until(lambda: house.fleet.docker.readers == 1)
        client.reset()

        await until(lambda: house.fleet.docker.readers == 0)


async def test_followed_lines_end_when_the_proxy_closes(house: House) -> None:
    await house.post("/service/a/start", wait=True)
    async with reading(house, "service/a/logs?follow=true") as client:
        house.closing.set()

        assert await client.chunk() == b""
        assert house.fleet.docker.readers == 0


async def test_a_log_that_breaks_off_says_why(house: House) -> None:
    await house.post("/service/a/start", wait=True)
    async with reading(house, "service/a/logs?follow=true") as client:
        house.fleet.docker.break_logs("a", RuntimeUnavailable("the Docker engine is gone"))

        assert await event(client) == ("error", {"detail": "the Docker engine is gone"})


async def test_a_log_that_breaks_off_in_a_way_nobody_named_is_cut_off_not_ended(house: House) -> None:
    await house.post("/service/a/start", wait=True)
    async with reading(house, "service/a/logs?follow=true") as client:
        house.fleet.docker.break_logs("a", ValueError("a bug"))

        with pytest.raises(asyncio.IncompleteReadError):
            await client.chunk()


async def test_a_log_that_can_not_be_read_says_why(house: House) -> None:
    await house.post("/service/a/start", wait=True)
    house.fleet.docker.break_logs("a", RuntimeUnavailable("the Docker engine is gone"))

    answer = await house.get("/service/a/logs")

    assert (answer.status_code, answer.json()["code"]) == (503, "runtime_unavailable")
    assert answer.json()["detail"] == "the Docker engine is gone"


async def test_a_service_without_a_replica_has_no_output(house: House) -> None:
    answer = await house.get("/service/a/logs")

    assert (answer.status_code, answer.json()["code"]) == (409, "no_replica")


async def test_of_a_failed_service_the_last_words_are_shown() -> None:
    async with house_of() as house:
        house.fleet.docker.fail("a", StartFailed("a exited with code 1", log_tail=("loading", "error: out of memory")))
        await house.post("/service/a/start", wait=True)

        assert (await house.get("/service/a/logs", tail=1)).text == "error: out of memory\n"


@pytest.mark.parametrize("tail", [0, 100_001])
async def test_a_tail_out_of_bounds_is_refused(house: House, tail: int) -> None:
    assert (await house.get("/service/a/logs", tail=tail)).status_code == 422


async def test_silence_is_broken_by_a_sign_of_life() -> None:
    arrived = asyncio.Event()

    async def wait() -> str:
        await arrived.wait()
        arrived.clear()
        return "news"

    ticks = ticking(wait, every_s=0.001)

    assert await anext(ticks) is None
    arrived.set()
    while (tick := await anext(ticks)) is None:
        pass
    assert tick == "news"
    await ticks.aclose()
