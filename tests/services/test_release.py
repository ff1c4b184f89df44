"""The end of a replica: its room is free when its runtime, its port and its devices say so."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ai_proxy.devices import Device, Placement
from ai_proxy.runtimes.base import Instance
from ai_proxy.services.machine import Action, Event
from ai_proxy.services.owner import Leftovers
from ai_proxy.services.release import nothing_to_ask
from tests.fakes.clock import pause, this_loop, virtual_time
from tests.fakes.listening import stop_listening
from tests.fakes.probe import FakeProbe
from tests.fakes.runtime import FakeRuntime
from tests.fakes.upstream import Upstream, answering
from tests.services.hands import RecordingOwner, watched

GPUS = Placement((Device("0", "GPU-a", 24_000), Device("1", "GPU-b", 24_000)), vram_mb=9_000)


async def stopped(
    owner: RecordingOwner,
    released: Callable[[Instance], Awaitable[tuple[str, ...]]] = nothing_to_ask,
    runtime: FakeRuntime | None = None,
    place: Placement = GPUS,
) -> None:
    """A ready replica is told to stop."""
    service = await watched(owner, runtime or FakeRuntime(), FakeProbe(), place, released=released)
    service.run(Action.STOP, place)


@virtual_time
async def test_a_replica_is_gone_once_its_devices_have_let_go_of_it() -> None:
    owner, holders = RecordingOwner(), [("pid 41 on GPU 0",)] * 3
    asked: list[str] = []

    async def released(instance: Instance) -> tuple[str, ...]:
        asked.append(instance.id)
        return holders.pop() if holders else ()

    await stopped(owner, released)
    assert await owner.next() is Event.GONE
    assert (asked, owner.leftovers) == (["fake-1"] * 4, None)


@virtual_time
async def test_memory_that_is_not_let_go_of_in_time_is_told_with_its_holder() -> None:
    owner = RecordingOwner()

    async def released(instance: Instance) -> tuple[str, ...]:
        return ("pid 41 (python) on GPU 0", "pid 42 (python) on GPU 1")

    began = this_loop().now
    await stopped(owner, released)
    assert await owner.next(within_s=20) is Event.GONE
    assert owner.leftovers == Leftovers(
        {"GPU-a": 9_000, "GPU-b": 9_000},
        "small has ended, but its memory is still held by pid 41 (python) on GPU 0, pid 42 (python) on GPU 1",
    )
    assert this_loop().now - began == pytest.approx(15, abs=0.2)


@virtual_time
async def test_devices_that_do_not_answer_hold_a_release_up_but_not_for_ever() -> None:
    owner = RecordingOwner()

    async def released(instance: Instance) -> tuple[str, ...]:
        await asyncio.sleep(3600)
        return ()

    await stopped(owner, released)
    assert await owner.next(within_s=20) is Event.GONE
    assert owner.leftovers is None


@virtual_time
async def test_devices_that_can_not_be_asked_have_told_of_nobody() -> None:
    owner = RecordingOwner()

    async def released(instance: Instance) -> tuple[str, ...]:
        raise OSError("the driver is gone")

    await stopped(owner, released)
    assert await owner.next() is Event.GONE
    assert owner.leftovers is None


@virtual_time
async def test_a_replica_without_devices_is_gone_when_its_runtime_says_so() -> None:
    owner = RecordingOwner()

    async def released(instance: Instance) -> tuple[str, ...]:
        raise AssertionError("there is nothing to ask for")

    await stopped(owner, released, place=Placement(memory_mb=100))
    assert await owner.next() is Event.GONE


@virtual_time
async def test_the_devices_are_asked_only_once_the_runtime_has_ended_it() -> None:
    owner, runtime = RecordingOwner(), FakeRuntime()

    async def released(instance: Instance) -> tuple[str, ...]:
        assert runtime.running() == []
        return ()

    runtime.fail_stop("small", OSError("busy"), OSError("busy"))
    await stopped(owner, released, runtime)
    assert await owner.next() is Event.GONE
    assert runtime.stops("small") == 3


async def test_a_port_that_still_answers_is_waited_for() -> None:
    owner, runtime = RecordingOwner(), FakeRuntime()
    async with Upstream(answering(b"")) as lingering:
        runtime.serve("small", "127.0.0.1", lingering.port)
        await stopped(owner, runtime=runtime)
        await lingering.accepted(2)
        assert owner.reports.empty()
    assert await owner.next() is Event.GONE


@virtual_time
async def test_a_port_that_answers_for_ever_is_another_programs() -> None:
    owner, runtime = RecordingOwner(), FakeRuntime()
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    runtime.serve("small", "127.0.0.1", server.sockets[0].getsockname()[1])
    await stopped(owner, runtime=runtime)
    assert await owner.next(within_s=10) is Event.GONE
    assert owner.leftovers is None
    await stop_listening(server)
    await server.wait_closed()


@virtual_time
async def test_a_closed_service_waits_for_no_device() -> None:
    owner = RecordingOwner()

    async def released(instance: Instance) -> tuple[str, ...]:
        return ("pid 41",)

    service = await watched(owner, FakeRuntime(), FakeProbe(), GPUS, released=released)
    service.run(Action.STOP, GPUS)
    await pause()
    before = this_loop().now
    await service.aclose()
    assert (this_loop().now, owner.reports.empty()) == (before, True)
