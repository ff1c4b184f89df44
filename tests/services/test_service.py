"""One service's hands: with a real process and a real engine, and with a runtime that does as it is told."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ai_proxy.config.models import ServiceConfig
from ai_proxy.devices import Placement
from ai_proxy.errors import CannotServe, RuntimeUnavailable, StartFailed
from ai_proxy.runtimes.base import Exit, Instance, Runtime
from ai_proxy.runtimes.process.runtime import ProcessRuntime
from ai_proxy.services.machine import Action, Event
from ai_proxy.services.probe import Probe
from ai_proxy.services.service import Service, first
from tests.fakes.clock import pause, this_loop, virtual_time
from tests.fakes.engine import argv
from tests.fakes.probe import FakeProbe
from tests.fakes.runtime import FakeRuntime

PLACE = Placement()
FAKE = {"command": "engine", "type": "comfyui", "stop_grace_period": 1}


class RecordingOwner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[tuple[Event, Instance | None, CannotServe | None]] = asyncio.Queue()
        self.sick: list[CannotServe] = []
        self.work: list[bool] = []
        self.quiet = 1000.0

    def report(
        self, service: str, event: Event, *, instance: Instance | None = None, failure: CannotServe | None = None
    ) -> None:
        self.reports.put_nowait((event, instance, failure))

    def report_unhealthy(self, service: str, failure: CannotServe) -> None:
        self.sick.append(failure)

    def report_work(self, service: str, *, busy: bool, asked_at: float) -> None:
        self.work.append(busy)

    def quiet_s(self, service: str) -> float:
        return self.quiet

    async def next(self, within_s: float = 5) -> Event:
        return (await self.next_whole(within_s))[0]

    async def next_whole(self, within_s: float = 5) -> tuple[Event, Instance | None, CannotServe | None]:
        async with asyncio.timeout(within_s):
            return await self.reports.get()

    async def failure(self, within_s: float = 5) -> StartFailed:
        event, _, failure = await self.next_whole(within_s)
        assert event is Event.BROKE
        assert isinstance(failure, StartFailed)
        return failure


def service_of(owner: RecordingOwner, runtime: Runtime, probe: Probe, **keys: Any) -> Service:
    return Service(
        "small",
        ServiceConfig.model_validate(keys or FAKE),
        runtime=runtime,
        probe=probe,
        owner=owner,
        progress=lambda service, text: None,
        drain_timeout_s=20.0,
    )


# A real engine in a real process


class Bench:
    """A service of the fake engine, run as a process."""

    def __init__(self, runtime: ProcessRuntime, probe: Probe) -> None:
        self.owner = RecordingOwner()
        self.runtime = runtime
        self.probe = probe
        self.service: Service

    def place(self, *flags: str, **keys: Any) -> Service:
        command = argv("--port", "{port}", *flags)
        keys = {"command": command, "type": "llama-cpp-server", "stop_grace_period": 5, **keys}
        self.service = service_of(self.owner, self.runtime, self.probe, **keys)
        return self.service


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    runtime, probe = ProcessRuntime(tmp_path, os.environ), Probe()
    bench = Bench(runtime, probe)
    yield bench
    bench.service.run(Action.STOP, PLACE)
    while await bench.owner.next() is not Event.GONE:
        pass
    await bench.service.aclose()
    await runtime.aclose()
    await probe.aclose()


@pytest.mark.slow
async def test_a_replica_is_launched_becomes_ready_and_its_end_is_noticed(bench: Bench) -> None:
    service = bench.place("--exit-after", "1", "--exit-code", "3", "--say", "out of luck")
    service.run(Action.LAUNCH, PLACE)
    event, instance, _ = await bench.owner.next_whole()
    assert (event, instance) == (Event.LAUNCHED, service.instance)
    service.run(Action.PROBE, PLACE)
    assert await bench.owner.next() is Event.HEALTHY
    service.run(Action.WATCH, PLACE)
    failure = await bench.owner.failure()
    assert str(failure) == "small exited with code 3 while it was ready"
    assert "out of luck" in failure.log_tail


@pytest.mark.slow
async def test_a_replica_is_loading_until_its_engine_says_otherwise(bench: Bench, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    service = bench.place("--ready-file", str(ready))
    service.run(Action.LAUNCH, PLACE)
    await bench.owner.next()
    service.run(Action.PROBE, PLACE)
    while service.doing != "loading":
        await asyncio.sleep(0)
    assert bench.owner.reports.empty()
    ready.touch()
    assert await bench.owner.next() is Event.HEALTHY


@pytest.mark.slow
async def test_a_replica_that_is_never_ready_has_its_last_answer_and_its_log_in_the_failure(bench: Bench) -> None:
    service = bench.place("--ready-after", "60", "--say", "loading 7 %", health={"start_timeout_s": 0.6})
    service.run(Action.LAUNCH, PLACE)
    await bench.owner.next()
    service.run(Action.PROBE, PLACE)
    failure = await bench.owner.failure()
    assert "was not ready within 0.6 s (health.start_timeout_s): /health answered 503" in str(failure)
    assert "loading 7 %" in failure.log_tail


@pytest.mark.slow
async def test_a_replica_that_exits_while_it_loads_is_not_waited_for(bench: Bench) -> None:
    service = bench.place("--exit-after", "0.1", "--exit-code", "9", "--ready-after", "60")
    service.run(Action.LAUNCH, PLACE)
    await bench.owner.next()
    service.run(Action.PROBE, PLACE)
    assert "exited with code 9 while it was loading" in str(await bench.owner.failure())


@pytest.mark.slow
async def test_a_stop_ends_a_replica_that_is_still_loading(bench: Bench) -> None:
    service = bench.place("--ready-after", "60")
    service.run(Action.LAUNCH, PLACE)
    await bench.owner.next()
    service.run(Action.PROBE, PLACE)
    service.run(Action.STOP, PLACE)
    assert await bench.owner.next() is Event.GONE
    assert service.instance is None


# A runtime on order


@virtual_time
async def test_a_launch_that_has_not_begun_is_dropped_by_a_stop() -> None:
    owner, runtime = RecordingOwner(), FakeRuntime()
    service = service_of(owner, runtime, FakeProbe())
    service.run(Action.LAUNCH, PLACE)
    service.run(Action.STOP, PLACE)
    assert await owner.next() is Event.GONE
    assert runtime.journal == []


@virtual_time
async def test_a_launch_under_way_is_cancelled_and_awaited_before_the_stop_is_done() -> None:
    owner, runtime = RecordingOwner(), FakeRuntime()
    service = service_of(owner, runtime, FakeProbe())
    runtime.hold("small")
    service.run(Action.LAUNCH, PLACE)
    await pause()
    service.run(Action.STOP, PLACE)
    assert await owner.next() is Event.GONE
    assert runtime.journal == ["start small", "cancelled small"]


@virtual_time
async def test_nothing_is_reported_of_a_life_that_was_told_to_stop_but_its_end() -> None:
    owner, runtime = RecordingOwner(), FakeRuntime()
    service = await watched(owner, runtime, FakeProbe())
    service.run(Action.STOP, PLACE)
    await pause()
    assert await owner.next() is Event.GONE
    assert owner.reports.empty()


@virtual_time
async def test_what_runs_is_ended_by_the_runtime_that_started_it() -> None:
    owner, old, new = RecordingOwner(), FakeRuntime(), FakeRuntime()
    service = await watched(owner, old, FakeProbe())
    service.configure(service.config, new)
    for action in (Action.STOP, Action.LAUNCH):
        service.run(action, PLACE)
        await owner.next()
    assert (old.stops("small"), old.starts("small"), new.starts("small")) == (1, 1, 1)


@virtual_time
async def test_an_adopted_replica_is_reported_and_watched_as_if_it_had_been_started() -> None:
    owner, runtime = RecordingOwner(), FakeRuntime([Instance("old", "small", "127.0.0.1", 1)])
    (instance,) = await runtime.adopt()
    service = service_of(owner, runtime, FakeProbe())
    service.adopt(instance)
    assert await owner.next_whole() == (Event.ADOPTED, instance, None)
    service.run(Action.WATCH, PLACE)
    await pause()
    runtime.exit("small", Exit(code=4))
    assert "exited with code 4" in str(await owner.failure())


@virtual_time
async def test_a_closed_service_leaves_its_replica_running() -> None:
    owner, runtime = RecordingOwner(), FakeRuntime()
    service = await watched(owner, runtime, FakeProbe())
    await service.aclose()
    assert len(runtime.running("small")) == 1


@virtual_time
async def test_closing_waits_for_a_cancelled_launch_to_clean_up() -> None:
    owner, runtime = RecordingOwner(), SlowToCancel()
    service = service_of(owner, runtime, FakeProbe())
    runtime.hold("small")
    service.run(Action.LAUNCH, PLACE)
    await pause()
    service.run(Action.STOP, PLACE)
    await pause()
    await service.aclose()
    assert runtime.journal[-1] == "cleaned up"


class SlowToCancel(FakeRuntime):
    """Its starts take a while to leave nothing behind."""

    async def start(self, *args: Any) -> Instance:
        try:
            return await super().start(*args)
        finally:
            await asyncio.sleep(3)
            self.journal.append("cleaned up")


# Watching


async def watched(owner: RecordingOwner, runtime: FakeRuntime, probe: FakeProbe) -> Service:
    service = service_of(owner, runtime, probe)
    for action in (Action.LAUNCH, Action.PROBE):
        service.run(action, PLACE)
        await owner.next()
    service.run(Action.WATCH, PLACE)
    await pause()
    return service


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
