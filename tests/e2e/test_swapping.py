"""Services that do not fit together: they take turns, and nobody's request is lost for it."""

import asyncio

import httpx
import pytest

from tests.e2e.clients import asking, chat, error_of, question, rest_of
from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, process
from tests.proxy.serving import Client

pytestmark = pytest.mark.slow

ROUNDS = 6
DEVICE_MB = 1500
ALONE = {"gpus": 1, "vram_required_mb": 1000}
SLOWLY = ("--chunks", "5", "--interval", "0.02")
SETTINGS = {"devices": [{"id": "0", "vram_mb": DEVICE_MB}], "scheduling": {"claim_after_s": 0.3, "headroom_mb": 0}}


async def test_they_swap_under_load_with_no_request_lost_and_none_starved(serve: Serve) -> None:
    services = {name: process("--model", name, *SLOWLY, resources=ALONE) for name in ("a", "b")}
    proxy = serve({**SETTINGS, "services": services})
    overbooked = asyncio.Event()

    async def insist(client: httpx.AsyncClient, *models: str) -> list[str]:
        answers = []
        for model in models * (ROUNDS // len(models)):
            answer = await chat(client, model)
            assert answer.status_code == 200, (answer.text, proxy.log[-3000:])
            answers.append(answer.json()["model"])
        return answers

    async def watch(client: httpx.AsyncClient) -> None:
        while True:
            (device,) = (await client.get("/api/v1/resources")).json()["devices"]
            if device["reserved_mb"] > DEVICE_MB:
                overbooked.set()
            await asyncio.sleep(0.01)

    async with asking(proxy) as client:
        watching = asyncio.create_task(watch(client))
        asked = (("a",), ("b",), ("a", "b"), ("b", "a"))
        answers = await asyncio.gather(*(insist(client, *models) for models in asked))
        watching.cancel()
    assert answers == [list(models) * (ROUNDS // len(models)) for models in asked]
    assert not overbooked.is_set()
    evicted = sum(
        proxy.metric(f'ai_proxy_evictions_total{{reason="{reason}",service="{service}"}}')
        for reason in ("claim", "room")
        for service in ("a", "b")
    )
    assert evicted >= 2


async def test_a_stream_is_finished_before_its_replica_makes_room(serve: Serve) -> None:
    services = {
        "old": process("--chunks", "60", "--interval", "0.02", resources=ALONE),
        "new": process(resources=ALONE),
    }
    proxy = serve({**SETTINGS, "services": services})
    async with Client.to(proxy.port) as stream, asking(proxy) as client:
        await stream.send(question("old", stream=True))
        assert (await stream.head())[0] == 200
        waiting = asyncio.create_task(chat(client, "new"))
        text = await rest_of(stream)
        assert b"token59" in text
        assert text.endswith(b"data: [DONE]\n\n")
        assert (await waiting).status_code == 200


async def test_a_pinned_service_stays_and_the_other_is_told_so_at_once(serve: Serve) -> None:
    services = {"kept": process(pinned=True, resources=ALONE), "other": process(resources=ALONE)}
    proxy = serve({**SETTINGS, "services": services})
    async with asking(proxy) as client:
        assert (await chat(client, "kept")).status_code == 200
        instance = proxy.service("kept")["instance"]
        refused = await chat(client, "other")
        assert (refused.status_code, error_of(refused)["code"]) == (503, "no_room")
        assert "pinned services hold: kept" in error_of(refused)["message"]
        assert refused.headers["x-should-retry"] == "false"
        assert (await chat(client, "kept")).status_code == 200
    assert proxy.service("kept")["instance"] == instance


async def test_what_can_never_fit_is_refused_at_once(serve: Serve) -> None:
    proxy: Proxy = serve({**SETTINGS, "services": {"big": process(resources={"gpus": 1, "vram_required_mb": 9999})}})
    async with asking(proxy) as client:
        refused = await chat(client, "big")
    assert (refused.status_code, error_of(refused)["code"]) == (503, "no_room")
    assert "9,999 MB" in error_of(refused)["message"]
