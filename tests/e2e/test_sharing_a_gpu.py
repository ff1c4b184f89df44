"""Real models share a GPU that is too small for all of them: nothing is lost, no wait is longer than it may be.

Four clients ask for three models of different sizes and priorities, two of them with wishes of their own. What the
clients were told, the event stream, the books and the stories of all waits have to agree.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from ai_proxy.cli import demo_engine
from ai_proxy.sim.history import history_of
from tests.e2e.clients import asking
from tests.e2e.conftest import Serve
from tests.e2e.harness import GUARD_S, Proxy, Settings
from tests.fixtures.docker import GPUS, HOOK, MakeDockerd
from tests.fixtures.dockerd import Dockerd
from tests.fixtures.images import llama_image

pytestmark = pytest.mark.slow

VRAM_MB = 2000
GPU = {"id": "0", "uuid": GPUS["0"], "vram_mb": VRAM_MB}
SCHEDULING = {"claim_after_s": 1, "min_residency_s": 1, "max_request_s": 30, "headroom_mb": 0}
SHARES = {
    "large": {"priority": "low", "resources": {"vram_required_mb": 1500}},
    "medium": {"priority": "normal", "resources": {"vram_required_mb": 1000}},
    "small": {"priority": "high", "resources": {"vram_required_mb": 500}},
}

PATIENT: Mapping[str, str] = {}
HASTY = {"X-AI-Proxy-Max-Wait": "4"}
GUEST = {"X-AI-Proxy-May-Swap": "no"}
ASKED_FOR = {"X-AI-Proxy-Max-Wait": {"too_late", "wait_timeout"}, "X-AI-Proxy-May-Swap": {"not_ready"}}
"""Which errors a request's own fields bring upon it."""

SAYS: Any = [{"role": "user", "content": "The three primary colours are"}]
TOKENS = 6
SLACK_S = 5.0
"""What a busy machine may add to a wait."""

type Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was told.

    Attributes:
        id: Of the request.
        wish: The fields with which it was sent.
        outcome: `ok`, or the code of an error.
        tokens: Pieces of an answer that came.
        lasted_s: From the request to the last of it.
    """

    id: str
    wish: Mapping[str, str]
    outcome: str
    tokens: int
    lasted_s: float


# What runs the models


def local(gguf: Path) -> Settings:
    command = [sys.executable, "-I", demo_engine.__file__, "--model", str(gguf), "--port", "{port}", "--alias", "{id}"]
    return {"command": command}


def contained(gguf: Path, image: str) -> Settings:
    command = f"--model /models/{gguf.name} --port 8080 --alias {{id}}"
    return {"image": image, "pull_policy": "never", "command": command, "volumes": [f"{gguf.parent}:/models:ro"]}


def config(engine: Settings) -> Settings:
    usual = {"type": "llama-cpp-server", "stop_grace_period": 5}
    services = {name: {**usual, **engine, **share} for name, share in SHARES.items()}
    return {"devices": [GPU], "scheduling": SCHEDULING, "services": services}


@pytest.fixture
def gpu_engine(make_dockerd: MakeDockerd, tmp_path: Path) -> Iterator[Dockerd]:
    """A Docker engine that believes in the GPU; nothing of ours may be left on it."""
    known = {"STUB_GPU_DIR": str(tmp_path), "STUB_GPUS": f"0={GPUS['0']}"}
    engine = make_dockerd(environment={"PATH": str(HOOK), **known})
    yield engine
    assert engine.labelled("ai-proxy.name") == []


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def proxy(request: pytest.FixtureRequest, serve: Serve, gguf: Path) -> Proxy:
    if request.param == "process":
        return serve(config(local(gguf)))
    engine: Dockerd = request.getfixturevalue("gpu_engine")
    return serve(config(contained(gguf, llama_image(engine))), environ={"DOCKER_HOST": engine.host})


# Clients


async def ask(client: openai.AsyncOpenAI, request: str, model: str, wish: Mapping[str, str]) -> Told:
    """One streamed answer, or the error in its place."""
    began, tokens, outcome = time.monotonic(), 0, "ok"
    try:
        stream = await client.chat.completions.create(
            model=model,
            messages=SAYS,
            max_tokens=TOKENS,
            stream=True,
            extra_headers={**wish, "X-Request-Id": request},
            extra_body={"ignore_eos": True},
        )
        async for chunk in stream:
            tokens += bool(chunk.choices and chunk.choices[0].delta.content)
    except openai.APIStatusError as error:
        outcome = str(error.code)
    return Told(request, wish, outcome, tokens, time.monotonic() - began)


async def insist(proxy: Proxy, name: str, models: Iterable[str], wish: Mapping[str, str] = PATIENT) -> list[Told]:
    """A client that asks for one model after the other."""
    async with speaking(proxy) as client:
        return [await ask(client, f"{name}-{number}", model, wish) for number, model in enumerate(models)]


async def look_in(proxy: Proxy, others: Sequence[asyncio.Task[list[Told]]]) -> list[Told]:
    """A client that takes what is there, and comes again while the others are at it."""
    found: list[Told] = []
    async with speaking(proxy) as client:
        for number, model in enumerate(cycle(["medium", "small", "large"])):
            if all(other.done() for other in others):
                return found
            found.append(await ask(client, f"guest-{number}", model, GUEST))
            await asyncio.sleep(0.25)
    raise AssertionError("there is always another model")


@asynccontextmanager
async def speaking(proxy: Proxy) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{proxy.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=3 * GUARD_S) as client:
        yield client


async def all_clients(proxy: Proxy) -> list[Told]:
    """Two keep the large model busy, of whom one needs the others too; one is in a hurry; one takes what is there."""
    async with speaking(proxy) as client:
        nobody_asked = await ask(client, "guest-first", "medium", GUEST)
    others = [
        asyncio.create_task(insist(proxy, "steady", ["large"] * 3)),
        asyncio.create_task(insist(proxy, "mixed", ["large", "medium", "small"])),
        asyncio.create_task(insist(proxy, "hasty", ["medium", "large", "small"], HASTY)),
    ]
    told = await asyncio.gather(*others, look_in(proxy, others))
    return [nobody_asked, *(each for one in told for each in one)]


# What is seen from outside


async def listen(client: httpx.AsyncClient, events: list[Event], connected: asyncio.Event) -> None:
    """Take down the event stream until the proxy ends it."""
    async with client.stream("GET", "/api/v1/events") as answer:
        async for line in answer.aiter_lines():
            connected.set()
            if line.startswith("data: "):
                events.append(json.loads(line.removeprefix("data: ")))


async def watch(client: httpx.AsyncClient, looks: list[int]) -> None:
    """Look at what is reserved of the GPU, again and again."""
    while True:
        (device,) = (await client.get("/api/v1/resources")).json()["devices"]
        assert device["reserved_mb"] == sum(holder["reserved_mb"] for holder in device["holders"].values())
        looks.append(device["reserved_mb"])
        await asyncio.sleep(0.02)


def answered(events: Iterable[Event]) -> dict[str, Event]:
    """How the waits ended, by request."""
    return {event["request"]: event for event in events if event["type"] == "request_answered"}


def longest_s(events: Sequence[Event], states: Iterable[str]) -> float:
    """The longest time that a replica has spent in a row of states."""
    longest, since = 0.0, dict[str, float]()
    for event in (event for event in events if event["type"] == "service"):
        if event["state"] in states:
            since.setdefault(event["service"], event["at"])
        elif (began := since.pop(event["service"], None)) is not None:
            longest = max(longest, event["at"] - began)
    return longest


def bound_s(event: Event, events: Sequence[Event], exchange_s: float) -> float:
    """What a wait may last at most, by what was measured of this run.

    A load that is under way when the wait becomes a claim is not cut off, so there is one start more.
    """
    since = event["at"] - event["waited_s"]
    others = {
        other["service"]
        for other in answered(events).values()
        if other["at"] - other["waited_s"] <= since < other["at"] and other["service"] != event["service"]
    }
    start_s, stop_s = longest_s(events, {"starting", "loading"}), longest_s(events, {"stopping"})
    return float((len(others) + 1) * (exchange_s + stop_s + start_s) + start_s + SCHEDULING["claim_after_s"])


# What has to be true


def check_answers(told: Sequence[Told]) -> None:
    """Everybody had all of an answer, or an error that its own fields had asked for."""
    for each in told:
        excuses = {code for field in each.wish for code in ASKED_FOR[field]}
        assert (each.outcome, each.tokens) == ("ok", TOKENS) or each.outcome in excuses, each
    assert {each.outcome for each in told if not each.wish} == {"ok"}


def check_waits(told: Sequence[Told], events: Sequence[Event]) -> None:
    """Nobody waited for longer than its claim and those ahead of it take, nor than it said that it would."""
    waits = answered(events)
    exchange_s = max(
        each.lasted_s - (waits[each.id]["waited_s"] if each.id in waits else 0.0) for each in told if each.tokens
    )
    for each in (each for each in told if each.id in waits):
        wait = waits[each.id]
        assert wait["waited_s"] <= bound_s(wait, events, exchange_s) + SLACK_S, wait
        assert wait["waited_s"] <= float(each.wish.get("X-AI-Proxy-Max-Wait", "inf")) + SLACK_S, wait
        assert wait["outcome"] == ("admitted" if each.outcome == "ok" else each.outcome)


def check_evictions(events: Sequence[Event]) -> int:
    """Whoever was evicted left for a service that was waited for and could not have had the room otherwise.

    Who waited then is told by the order of the events: their times are read at different moments of one decision.
    """
    waiting, evicted = dict[str, str](), list[Event]()
    for event in events:
        if event["type"] == "request_waits":
            waiting[event["request"]] = event["service"]
        elif event["type"] == "request_answered":
            del waiting[event["request"]]
        if event.get("eviction") not in {"room", "claim"}:
            continue
        evicted.append(event)
        beneficiary = event["for_service"]
        assert beneficiary in event["reason"] or event["reason"] == "drained", event
        # The small one fits beside either: it never had to leave, and nobody had to leave for it.
        assert {event["service"], beneficiary} == {"large", "medium"}, event
        assert event["eviction"] == "claim" or beneficiary == "medium", "only a claim makes a higher priority leave"
        assert beneficiary in waiting.values(), event
    return len(evicted)


def check_room(events: Sequence[Event], looks: Sequence[int]) -> None:
    """At no moment was more given away than there is, by the books and by what the events tell."""
    assert max(looks) <= VRAM_MB
    spans = history_of(json.dumps(event) for event in events).spans
    assert {span.holder for span in spans} == set(SHARES)
    changes = sorted([(span.end_s, -span.mb) for span in spans] + [(span.start_s, span.mb) for span in spans])
    held_mb = 0
    for _, more_mb in changes:
        held_mb += more_mb
        assert held_mb <= VRAM_MB


async def check_stories(client: httpx.AsyncClient, waits: Mapping[str, Event]) -> None:
    """Every wait is explained: what was decided meanwhile, or what its service was doing."""
    kinds = set()
    for request, wait in waits.items():
        story = (await client.get(f"/api/v1/requests/{request}")).json()
        assert (story["outcome"], story["service"]) == (wait["outcome"], wait["service"])
        between = [step["kind"] for step in story["timeline"][1:-1]]
        assert between or wait["outcome"] in {"not_ready", "too_late"}, story
        assert all(one["at"] <= other["at"] for one, other in pairwise(story["timeline"])), story
        kinds |= set(between)
    assert {"decision", "eviction", "state"} <= kinds


async def test_no_request_is_lost_every_wait_is_bounded_and_the_events_tell_why(proxy: Proxy) -> None:
    events, looks, connected = list[Event](), list[int](), asyncio.Event()
    async with asking(proxy) as client, asyncio.timeout(6 * GUARD_S):
        listening = asyncio.create_task(listen(client, events, connected))
        await connected.wait()
        watching = asyncio.create_task(watch(client, looks))
        told = await all_clients(proxy)
        watching.cancel()
        await check_stories(client, answered(events))
        evictions = sum(
            proxy.metric(f'ai_proxy_evictions_total{{reason="{reason}",service="{service}"}}')
            for reason in ("claim", "room")
            for service in SHARES
        )
        await asyncio.to_thread(proxy.close)
        await listening

    check_answers(told)
    assert told[0].outcome == "not_ready"
    check_waits(told, events)
    assert check_evictions(events) == evictions >= 1
    check_room(events, looks)
