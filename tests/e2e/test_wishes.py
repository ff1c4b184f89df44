"""Requests that say how long they wait and what may be done for them, against real processes."""

import asyncio
from math import ceil
from pathlib import Path

import pytest

from tests.e2e.clients import asking, chat, error_of
from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, process, until

pytestmark = pytest.mark.slow

NO_SWAP = {"X-AI-Proxy-May-Swap": "no"}
ALONE = {"gpus": 1, "vram_required_mb": 1000}
ONE_GPU = {"devices": [{"id": "0", "vram_mb": 1500}], "scheduling": {"headroom_mb": 0}}


def cycle(proxy: Proxy, service: str) -> None:
    """Start and stop a service, so that its times are known."""
    proxy.post(f"/api/v1/service/{service}/start?wait=true")
    proxy.post(f"/api/v1/service/{service}/stop?wait=true")


async def test_a_wait_that_can_not_be_kept_is_refused_at_once_and_starts_nothing(serve: Serve) -> None:
    proxy = serve({"services": {"slow": process("--ready-after", "1.5")}})
    async with asking(proxy) as client:
        untold = await chat(client, "slow", {"X-AI-Proxy-Max-Wait": "1"})
        assert (untold.status_code, error_of(untold)["code"]) == (504, "wait_timeout")

        await asyncio.to_thread(cycle, proxy, "slow")
        figures = proxy.service("slow")["figures"]
        for wait in ({"X-AI-Proxy-Max-Wait": "1"}, {"Prefer": "wait=1"}):
            refused = await chat(client, "slow", wait)
            error = error_of(refused)
            assert (refused.status_code, error["code"]) == (503, "too_late")
            assert error["retry_after_s"] == ceil(0.9 * figures["load_s"]) == int(refused.headers["retry-after"])
            assert "may wait for only 1 s" in error["message"]
        assert (proxy.state("slow"), proxy.service("slow")["figures"]) == ("stopped", figures)

        served = await chat(client, "slow", {"X-AI-Proxy-Max-Wait": "20"})
        assert served.status_code == 200
        assert "start;dur=" in served.headers["server-timing"]
        assert (await chat(client, "slow", {"X-AI-Proxy-Max-Wait": "0"})).status_code == 200


async def test_who_may_not_swap_is_served_by_what_is_ready_and_has_nothing_started(serve: Serve) -> None:
    services = {name: process(resources=ALONE) for name in ("here", "away")}
    proxy = serve({**ONE_GPU, "services": services})
    async with asking(proxy) as client:
        assert (await chat(client, "here")).status_code == 200
        instance = proxy.service("here")["instance"]
        assert (await chat(client, "here", NO_SWAP)).status_code == 200

        refused = await chat(client, "away", NO_SWAP)
        assert (refused.status_code, error_of(refused)["code"]) == (503, "not_ready")
        assert int(refused.headers["retry-after"]) >= 1
        assert (proxy.state("away"), proxy.service("away")["figures"]["loads"]) == ("stopped", 0)
        assert proxy.service("here")["instance"] == instance


async def test_who_may_not_swap_waits_for_a_start_that_others_have_asked_for(serve: Serve, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    proxy = serve({"services": {"slow": process("--ready-file", str(ready))}})
    async with asking(proxy) as client:
        proxy.post("/api/v1/service/slow/start")
        await asyncio.to_thread(proxy.await_state, "slow", "loading")
        waiting = asyncio.create_task(chat(client, "slow", NO_SWAP))
        await asyncio.to_thread(until, proxy.requests)
        ready.touch()
        assert (await waiting).status_code == 200
