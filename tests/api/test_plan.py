"""What would happen is told over the API, and does not."""

import pytest

from ai_proxy.api.plan import get_consider
from ai_proxy.devices import Device, Placement
from ai_proxy.scheduler.planner import Evict, Plan, Refuse, Start, Victim, Wait
from tests.api.house import House, house_of

GPU = Device("0", "GPU-a", 10_000, "RTX 4090")
ROOM = Placement((GPU,), vram_mb=8000)
WHERE = {"devices": ["0"], "vram_mb": 8000, "memory_mb": 0}
LEAVING = [{"holder": "b", "level": 0}, {"holder": "c#1", "level": 2}]


@pytest.mark.parametrize(
    ("plan", "verdict", "placement", "victims", "regret", "exact"),
    [
        (Start(ROOM, "why"), "start", WHERE, [], None, None),
        (Evict((Victim("b", 0), Victim("c#1", 2)), ROOM, 3.5, True, "why"), "evict", WHERE, LEAVING, 3.5, True),
        (Wait("why", ROOM), "wait", WHERE, [], None, None),
        (Wait("why"), "wait", None, [], None, None),
        (Refuse("why"), "refuse", None, [], None, None),
    ],
    ids=["start", "evict", "wait for a place", "wait", "refuse"],
)
async def test_each_verdict_is_told_with_its_reason(
    house: House, plan: Plan, verdict: str, placement: object, victims: object, regret: object, exact: object
) -> None:
    house.api.dependency_overrides[get_consider] = lambda: lambda _: plan

    answer = (await house.send("POST", "/plan", {"start": "a"})).json()

    assert answer == {
        "service": "a", "verdict": verdict, "reason": "why", "placement": placement, "victims": victims,
        "regret": regret, "exact": exact,
    }  # fmt: skip


async def test_thinking_a_start_through_starts_nothing_and_a_ready_service_needs_none() -> None:
    async with house_of("services: {a: {image: x, type: vllm}}", gpus=(GPU,)) as house:
        would = (await house.send("POST", "/plan", {"start": "a"})).json()
        assert (would["verdict"], would["placement"]["devices"]) == ("start", ["0"])
        assert (await house.get("/service/a")).json()["state"] == "stopped"

        await house.post("/service/a/start", wait=True)

        assert (await house.send("POST", "/plan", {"start": "a"})).json()["reason"] == "it is ready"


async def test_an_unknown_service_is_404(house: House) -> None:
    answer = await house.send("POST", "/plan", {"start": "aa"})

    assert (answer.status_code, answer.json()["code"]) == (404, "service_not_found")
