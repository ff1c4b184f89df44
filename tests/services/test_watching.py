"""A service's hands while its replica loads and serves: health, work, and how long it may take."""

import asyncio
from typing import Any

import pytest

from ai_proxy.config.models import ServiceConfig
from ai_proxy.errors import RuntimeUnavailable
from ai_proxy.runtimes.base import Exit, Instance
from ai_proxy.services.first import first
from ai_proxy.services.machine import Action, Event
from tests.fakes.clock import pause, this_loop, virtual_time
from tests.fakes.probe import FakeProbe
from tests.fakes.runtime import FakeRuntime
from tests.services.hands import FAKE, PLACE, RecordingOwner, service_of, watched


@virtual_time
async def test_three_failed_checks_of_a_quiet_replica_make_it_unhealthy_and_then_it_has_its_time_to_drain() -> None:
    owner, probe = RecordingOwner(), FakeProbe()
    service = await watched(owner, FakeRuntime(), probe)
    probe.status["small"] = 500
    began = this_loop().now
    while not owner.sick:
        await asyncio.sleep(0.1)
    assert this_loop().now - began == pytest.approx(30, abs=0.2)
    assert "stopped answering its health check: /system_stats answered 500" in str(owner.sick[0])
    assert await owner.failure(within_s=21) is owner.sick[0]
    await service.aclose()


@virtual_time
async def test_one_good_answer_forgives_the_failed_ones_before_it() -> None:
    owner, probe = RecordingOwner(), FakeProbe()
    service = await watched(owner, FakeRuntime(), probe)
    for _ in range(5):
        probe.status["small"] = 500
        await asyncio.sleep(20)
        probe.status["small"] = 200
        await asyncio.sleep(10)
    assert owner.sick == []
    await service.aclose()


@virtual_time
async def test_failed_checks_do_not_count_while_bytes_move() -> None:
    owner, probe = RecordingOwner(), FakeProbe()
    service = await watched(owner, FakeRuntime(), probe)
    owner.quiet, probe.status["small"] = 0.5, 0
    await asyncio.sleep(300)
    assert owner.sick == []
    await service.aclose()


@pytest.mark.parametrize(
    ("changed", "asked"),
    [({"health": {"path": "/other"}}, "/other"), ({"command": "newer", "health": {"path": "/other"}}, "/system_stats")],
    ids=["live", "another_shape"],
)
@virtual_time
async def test_a_replica_that_drains_is_not_asked_for_the_health_of_its_successor(
    changed: dict[str, Any], asked: str
) -> None:
    owner, runtime, probe = RecordingOwner(), FakeRuntime(), FakeProbe()
    service = await watched(owner, runtime, probe)
    service.configure(ServiceConfig.model_validate({**FAKE, **changed}), runtime)
    probe.status["small"] = 404
    while not owner.sick:
        await asyncio.sleep(0.1)
    assert f"{asked} answered 404" in str(owner.sick[0])
    await service.aclose()


@virtual_time
async def test_an_engine_is_asked_for_its_work_at_once_when_the_owner_needs_to_know() -> None:
    owner, probe = RecordingOwner(), FakeProbe()
    service = await watched(owner, FakeRuntime(), probe)
    before = this_loop().now
    probe.works["small"] = True
    service.ask()
    await pause()
    assert (owner.work, this_loop().now) == ([False, True], before)
    await service.aclose()


@virtual_time
async def test_an_engine_that_works_on_is_asked_again_soon_then_ever_more_rarely() -> None:
    owner, probe = RecordingOwner(), FakeProbe()
    service = await watched(owner, FakeRuntime(), probe)
    probe.works["small"] = True
    service.ask()
    await asyncio.sleep(1)
    assert owner.work == [False, True, True, True, True]
    await asyncio.sleep(60)
    assert len(owner.work) <= 16
    await service.aclose()


@virtual_time
async def test_an_engine_that_does_not_answer_has_told_nothing() -> None:
    owner, probe = RecordingOwner(), FakeProbe()
    probe.works["small"] = None
    service = await watched(owner, FakeRuntime(), probe)
    await asyncio.sleep(100)
    assert owner.work == []
    await service.aclose()


# Faults


@virtual_time
async def test_a_runtime_that_can_not_watch_breaks_the_replica_with_the_cause() -> None:
    owner, runtime, probe = RecordingOwner(), Deaf(), FakeProbe()
    probe.status["small"] = 503
    service = service_of(owner, runtime, probe)
    service.run(Action.LAUNCH, PLACE)
    await owner.next()
    service.run(Action.PROBE, PLACE)
    event, _, failure = await owner.next_whole()
    assert (event, str(failure)) == (Event.BROKE, "no such socket")


class Deaf(FakeRuntime):
    """It loses its engine while a replica loads."""

    async def wait(self, instance: Instance) -> Exit:
        raise RuntimeUnavailable("no such socket")


@pytest.mark.parametrize(("said_at_s", "told"), [(100, "has not moved"), (500, "still moved")], ids=["stuck", "slow"])
@virtual_time
async def test_a_replica_that_is_stuck_reads_differently_from_one_that_is_too_slow(said_at_s: int, told: str) -> None:
    owner, runtime, probe = RecordingOwner(), FakeRuntime(), FakeProbe()
    probe.status["small"] = 503
    service = service_of(owner, runtime, probe)
    service.run(Action.LAUNCH, PLACE)
    await owner.next()
    service.run(Action.PROBE, PLACE)
    await asyncio.sleep(said_at_s)
    runtime.say("small", "loading 7 %")
    failure = await owner.failure(within_s=601)
    assert str(failure).endswith(f"answered 503; its log {told} in the last 150 s")
    assert failure.log_tail == ("loading 7 %",)
    service.run(Action.STOP, PLACE)
    await owner.next()


@virtual_time
async def test_a_replica_that_loads_may_be_given_longer_meanwhile() -> None:
    owner, runtime, probe = RecordingOwner(), FakeRuntime(), FakeProbe()
    probe.status["small"] = 503
    service = service_of(owner, runtime, probe)
    service.run(Action.LAUNCH, PLACE)
    await owner.next()
    service.run(Action.PROBE, PLACE)
    await asyncio.sleep(599)
    service.configure(ServiceConfig.model_validate({**FAKE, "health": {"start_timeout_s": 900}}), runtime)
    await asyncio.sleep(299)
    assert owner.reports.empty()
    assert "not ready within 900 s" in str(await owner.failure())
    service.run(Action.STOP, PLACE)
    await owner.next()


@virtual_time
async def test_the_first_to_end_cancels_the_others_and_waits_for_them() -> None:
    cleaned = []

    async def slow() -> str:
        try:
            await asyncio.sleep(100)
        finally:
            cleaned.append("slow")
        return "slow"

    async def quick() -> str:
        await asyncio.sleep(1)
        return "quick"

    assert await first(slow(), quick()) == "quick"
    assert cleaned == ["slow"]
