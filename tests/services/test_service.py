"""One service's hands: with a real process and a real engine, and with a runtime that does as it is told."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ai_proxy.runtimes.base import Exit, Instance
from ai_proxy.runtimes.process.runtime import ProcessRuntime
from ai_proxy.services.machine import Action, Event
from ai_proxy.services.probe import Probe
from ai_proxy.services.service import Service
from tests.fakes.clock import pause, virtual_time
from tests.fakes.engine import argv
from tests.fakes.probe import FakeProbe
from tests.fakes.runtime import FakeRuntime
from tests.runtimes.process.test_process import listening
from tests.services.hands import PLACE, RecordingOwner, service_of, watched


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
    service = bench.place("--say", "out of luck")
    service.run(Action.LAUNCH, PLACE)
    event, instance, _ = await bench.owner.next_whole()
    assert (event, instance) == (Event.LAUNCHED, service.instance)
    assert instance is not None
    service.run(Action.PROBE, PLACE)
    assert await bench.owner.next() is Event.HEALTHY
    service.run(Action.WATCH, PLACE)
    os.kill(int(instance.id), signal.SIGKILL)
    failure = await bench.owner.failure()
    assert str(failure) == "small killed by signal 9 while it was ready"
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
async def test_l06_a_replica_that_is_never_ready_has_its_last_answer_and_its_log_in_the_failure(bench: Bench) -> None:
    service = bench.place("--ready-after", "60", "--say", "loading 7 %", health={"start_timeout_s": 0.6})
    service.run(Action.LAUNCH, PLACE)
    _, instance, _ = await bench.owner.next_whole()
    assert instance is not None
    await listening(bench.runtime, instance)
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
async def test_l13_a_stop_ends_a_replica_that_is_still_loading(bench: Bench) -> None:
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
async def test_l13_a_launch_under_way_is_cancelled_and_awaited_before_the_stop_is_done() -> None:
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
