"""Requests over the API: who is in the house, and what became of those that waited."""

import asyncio
import time

import pytest

from ai_proxy.events import Decided, RequestAnswered, RequestWaited, ServiceChanged
from tests.api.house import House


def waits(house: House, request: str) -> float:
    """Let a request wait for `a`, as the scheduler tells it; when it came."""
    now = time.time()
    house.fleet.bus.publish(RequestWaited(now, request, "a", now))
    return now


async def test_the_story_of_a_request_is_told_from_its_arrival_to_its_answer(house: House) -> None:
    came = waits(house, "r-1")
    tell = house.fleet.bus.publish
    tell(ServiceChanged(came + 0.1, "a", "queued", "stopped", "a request waits"))
    tell(Decided(came + 0.1, "a", "evict", "it needs the room of b"))
    tell(ServiceChanged(came + 0.2, "b", "stopping", "ready", "evicted for a", "room", "a"))
    tell(RequestAnswered(came + 2.5, "r-1", "a", "admitted", 2.4))

    story = (await house.get("/requests/r-1")).json()

    assert (story["service"], story["state"], story["outcome"], story["waited_s"]) == ("a", "ended", "admitted", 2.4)
    assert [(step["kind"], step["service"], step["text"]) for step in story["timeline"]] == [
        ("arrived", "a", "came; a was stopped"),
        ("state", "a", "stopped → queued: a request waits"),
        ("decision", "a", "evict: it needs the room of b"),
        ("eviction", "b", "ready → stopping: evicted for a"),
        ("answered", "a", "admitted after 2.4 s of waiting"),
    ]
    assert story["timeline"][-1]["after_s"] == pytest.approx(2.5)


async def test_a_request_that_waits_is_told_so_far_and_what_it_found(house: House) -> None:
    house.fleet.docker.hold("a")
    await house.post("/service/a/start")
    await house.fleet.docker.until("start a")
    waiting = asyncio.create_task(house.fleet.grant("a"))
    await asyncio.sleep(0)

    story = (await house.get("/requests/for-a")).json()

    assert (story["state"], story["outcome"], len(story["timeline"])) == ("waiting", None, 1)
    assert "a went queued → starting" in story["timeline"][0]["text"]
    house.fleet.docker.release("a")
    (await waiting).close()
    story = (await house.get("/requests/for-a")).json()
    assert (story["state"], story["outcome"]) == ("ended", "admitted")
    assert [step["kind"] for step in story["timeline"]][-2:] == ["state", "answered"]


async def test_a_request_that_was_served_at_once_is_known_while_it_runs(house: House) -> None:
    await house.post("/service/a/start", wait=True)
    grant = await house.fleet.grant("a")

    story = (await house.get("/requests/for-a")).json()

    assert (story["state"], story["outcome"], story["waited_s"], story["timeline"]) == ("running", "admitted", 0.0, [])
    grant.close()
    assert (await house.get("/requests/for-a")).status_code == 404


async def test_a_request_that_nobody_knows_is_404(house: House) -> None:
    answer = await house.get("/requests/some/id%3F")

    assert (answer.status_code, answer.json()["code"]) == (404, "request_not_found")
    assert "'some/id?'" in answer.json()["detail"]
