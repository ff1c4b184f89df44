"""What a service says it needs beside what was seen of it, over the API; and what follows for its next placement."""

from ai_proxy.devices import Device
from tests.api.house import house_of

GPU = Device("0", "GPU-a", 10_000, "RTX 4090")
DECLARED = "services: {a: {image: x, type: vllm, resources: {vram_required_mb: 5000}}}"
LEARNED = "services: {a: {image: x, type: vllm}}"


async def test_before_its_first_life_only_what_is_declared_is_known() -> None:
    async with house_of(DECLARED, gpus=(GPU,)) as house:
        figures = (await house.get("/service/a")).json()["figures"]

    assert figures == {
        "declared_vram_mb": 5000, "seen_vram_mb": None, "load_s": None, "loads": 0, "stop_s": None, "wake_s": {}
    }  # fmt: skip


async def test_what_was_seen_stands_beside_what_is_declared_and_changes_nothing_of_it() -> None:
    async with house_of(DECLARED, gpus=(GPU,)) as house:
        await house.post("/service/a/start", wait=True)
        house.fleet.plane.learner.measured({"a": {"GPU-a": 4000}})

        figures = (await house.get("/service/a")).json()["figures"]

        assert (figures["declared_vram_mb"], figures["seen_vram_mb"], figures["loads"]) == (5000, 4000, 1)
        assert figures["load_s"] >= 0
        replica = house.fleet.scheduler.find("a")
        assert replica is not None
        assert replica.spec.demand.vram_mb == 5000


async def test_a_service_that_says_nothing_gets_a_gpu_to_itself_and_then_what_it_was_seen_to_need() -> None:
    async with house_of(LEARNED, gpus=(GPU,)) as house:
        first = (await house.post("/service/a/start", wait=True)).json()
        house.fleet.plane.learner.measured({"a": {"GPU-a": 4000}})

        assert first["placement"]["vram_mb"] == 10_000
        again = (await house.post("/service/a/restart", wait=True)).json()
        assert again["placement"]["vram_mb"] == 4256
        figures = (await house.get("/service/a")).json()["figures"]
        assert (figures["declared_vram_mb"], figures["seen_vram_mb"]) == (None, 4000)
