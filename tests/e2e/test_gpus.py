"""GPUs that are found by themselves: what an engine holds of them is its own, what others hold is named."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.clients import asking, chat
from tests.e2e.conftest import Serve
from tests.e2e.harness import GUARD_S, process
from tests.fakes.vram import show
from tests.fixtures.nvml import NvmlStub

pytestmark = pytest.mark.slow

GPU = "GPU-a|RTX 4090|24564|500|35|61|220500|"
MIB = 1024 * 1024


async def device(client: httpx.AsyncClient, **fields: object) -> dict[str, Any]:
    """The GPU, once it shows these."""
    deadline = time.monotonic() + GUARD_S
    while True:
        answer = await client.get("/api/v1/resources")
        shown: dict[str, Any] = answer.json()["devices"][0]
        if all(shown[name] == value for name, value in fields.items()):
            return shown
        assert time.monotonic() < deadline, repr(shown)
        await asyncio.sleep(0.05)


async def test_what_engines_and_others_hold_is_told_apart_and_what_has_ended_holds_nothing(
    serve: Serve, nvml: NvmlStub
) -> None:
    nvml.show(GPU)
    held = {"gpus": 1, "vram_required_mb": 9000}
    settings = {"services": {"a": process("--model", "a", "--vram", "GPU-a:5000", resources=held)}}
    proxy = serve(settings, environ=nvml.environ)
    file, me = Path(nvml.environ["NVML_STUB"]), os.getpid()
    name = Path("/proc/self/comm").read_text().strip()
    async with asking(proxy) as client:
        assert (await device(client, used_mb=500))["name"] == "RTX 4090"
        assert (await chat(client, "a")).status_code == 200
        shown = await device(client, used_mb=5500, holders={"a": {"reserved_mb": 9000, "measured_mb": 5000}})
        assert (shown["foreign_mb"], shown["foreign"]) == (500, [])

        show(file, me, {"GPU-a": 2000})
        # The processes are read after the sums: for one reading, the two may not agree.
        mine = {"pid": me, "process": name, "used_mb": 2000}
        await device(client, used_mb=7500, foreign_mb=2500, foreign=[mine])
        assert proxy.metric('ai_proxy_device_foreign_bytes{device="gpu0"}') == 2500 * MIB
        assert proxy.metric('ai_proxy_device_used_bytes{device="gpu0"}') == 7500 * MIB

        show(file, me, {})
        await client.post("/api/v1/service/a/stop", params={"wait": True})
        await device(client, used_mb=500, holders={}, foreign=[])
