"""What is done ahead of a start: shared with it, called off without a trace, never a failure."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from ai_proxy.devices import Placement
from ai_proxy.errors import StartFailed
from ai_proxy.runtimes.base import Instance, InstanceSpec, Progress
from ai_proxy.services.machine import Action, Event
from ai_proxy.services.preparing import in_thread
from tests.fakes.clock import pause, virtual_time
from tests.fakes.probe import FakeProbe
from tests.fakes.runtime import FakeRuntime
from tests.services.hands import FAKE, PLACE, RecordingOwner, service_of

ROOM, OTHER_ROOM = Placement(memory_mb=1), Placement(memory_mb=2)


class CreatingRuntime(FakeRuntime):
    """A runtime that creates ahead: what is created is kept until the start of it, or until that is called off."""

    def __init__(self) -> None:
        super().__init__()
        self.created: dict[Placement, asyncio.Event] = {}
        self.orders: list[InstanceSpec] = []
        self.create_failure: Exception | None = None

    async def create_ahead(self, spec: InstanceSpec) -> None:
        if self.create_failure is not None:
            self._note("not created")
            raise self.create_failure
        self.orders.append(spec)
        taken = self.created[spec.placement] = asyncio.Event()
        self._note(f"created for {spec.placement.memory_mb}")
        try:
            await taken.wait()
        finally:
            del self.created[spec.placement]
            self._note(f"{'taken' if taken.is_set() else 'removed'} for {spec.placement.memory_mb}")

    async def start(self, spec: InstanceSpec, progress: Progress) -> Instance:
        if (taken := self.created.get(spec.placement)) is not None:
            taken.set()
        return await super().start(spec, progress)


class Ahead:
    """A service of which nothing runs, on a runtime whose preparations block."""

    def __init__(self, runtime: FakeRuntime | None = None) -> None:
        self.owner, self.runtime = RecordingOwner(), runtime or FakeRuntime()
        self.runtime.may_prepare.clear()
        self.service = service_of(self.owner, self.runtime, FakeProbe(), **FAKE)

    async def load(self, place: Placement = PLACE) -> None:
        """Start it and let it become ready."""
        for action in (Action.LAUNCH, Action.PROBE):
            self.service.run(action, place)
            await self.owner.next()


async def test_it_is_done_once_however_often_it_is_asked_for() -> None:
    ahead = Ahead()
    ahead.runtime.may_prepare.set()
    for _ in range(3):
        ahead.service.prepare()
        await ahead.runtime.until("prepared")
    assert ahead.runtime.journal == ["prepare", "prepared"]
    await ahead.service.aclose()


async def test_a_launch_does_not_wait_for_it_and_a_ready_replica_needs_it_no_more() -> None:
    ahead = Ahead()
    ahead.service.prepare()
    await ahead.runtime.until("prepare")
    await ahead.load()
    await ahead.runtime.until("cancelled prepare")
    assert ahead.runtime.starts("small") == 1
    await ahead.service.aclose()


async def test_the_next_start_is_prepared_again() -> None:
    ahead = Ahead()
    ahead.runtime.may_prepare.set()
    ahead.service.prepare()
    await ahead.runtime.until("prepared")
    await ahead.load()
    ahead.service.run(Action.STOP, PLACE)
    assert await ahead.owner.next() is Event.GONE
    ahead.service.prepare()
    await ahead.runtime.until("prepared", count=2)
    await ahead.service.aclose()


async def test_a_failure_is_the_starts_to_tell() -> None:
    ahead = Ahead()
    ahead.runtime.may_prepare.set()
    ahead.runtime.prepare_failure = StartFailed("no such image")
    ahead.service.prepare()
    await ahead.runtime.until("prepare")
    await ahead.load()
    assert ahead.owner.reports.empty()
    await ahead.service.aclose()


@pytest.mark.parametrize("how", ["call_off", "stop", "configure", "close"])
async def test_it_is_cancelled_with_what_it_was_for(how: str) -> None:
    ahead = Ahead(CreatingRuntime())
    service = ahead.service
    service.prepare(ROOM)
    for begun in ("prepare", "created for 1"):
        await ahead.runtime.until(begun)
    if how == "call_off":
        service.call_off()
        service.call_off()
    elif how == "stop":
        service.run(Action.STOP, PLACE)
    elif how == "configure":
        service.configure(service.config.model_copy(update={"command": ("another",)}), ahead.runtime)
    await service.aclose()
    assert set(ahead.runtime.journal[2:4]) == {"cancelled prepare", "removed for 1"}


async def test_it_is_created_once_for_each_room_that_is_promised_and_started_in_the_last() -> None:
    runtime = CreatingRuntime()
    ahead = Ahead(runtime)
    for room in (None, ROOM, ROOM, None, OTHER_ROOM, OTHER_ROOM):
        ahead.service.prepare(room)
        await pause()
    assert runtime.journal == ["prepare", "created for 1", "removed for 1", "created for 2"]
    assert list(runtime.created) == [OTHER_ROOM]
    await ahead.load(OTHER_ROOM)
    await runtime.until("taken for 2")
    assert runtime.specs == runtime.orders[1:]
    await ahead.service.aclose()


async def test_created_for_a_room_that_it_did_not_get_it_is_gone_once_the_replica_is_ready() -> None:
    runtime = CreatingRuntime()
    ahead = Ahead(runtime)
    ahead.service.prepare(ROOM)
    await runtime.until("created for 1")
    await ahead.load(OTHER_ROOM)
    await runtime.until("removed for 1")
    await ahead.service.aclose()


async def test_that_it_can_not_be_created_ahead_is_the_starts_to_tell() -> None:
    runtime = CreatingRuntime()
    runtime.create_failure = StartFailed("no such network")
    ahead = Ahead(runtime)
    ahead.service.prepare(ROOM)
    await runtime.until("not created")
    await ahead.load(ROOM)
    assert ahead.owner.reports.empty()
    await ahead.service.aclose()


async def test_settings_that_change_nothing_of_the_replica_leave_it_alone() -> None:
    ahead = Ahead()
    ahead.service.prepare()
    await ahead.runtime.until("prepare")
    ahead.service.configure(ahead.service.config.model_copy(update={"pinned": True}), ahead.runtime)
    ahead.runtime.may_prepare.set()
    await ahead.runtime.until("prepared")
    await ahead.service.aclose()


async def test_the_model_is_read_while_the_image_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, wished = tmp_path / "m.gguf", asyncio.Event()
    with model.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(os, "posix_fadvise", lambda *_: loop.call_soon_threadsafe(wished.set))
    owner, runtime = RecordingOwner(), FakeRuntime()
    runtime.may_prepare.clear()
    service = service_of(owner, runtime, FakeProbe(), command=f"serve -m {model}")
    service.prepare()
    async with asyncio.timeout(20):
        await wished.wait()
    await service.aclose()


async def test_a_thread_is_told_to_stop_and_not_waited_for() -> None:
    told, may_end = threading.Event(), threading.Event()
    loop, began = asyncio.get_running_loop(), asyncio.Event()

    def work(stop: threading.Event) -> None:
        loop.call_soon_threadsafe(began.set)
        assert stop.wait(5)
        told.set()
        may_end.wait(5)

    task = asyncio.create_task(in_thread(work))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(told.wait, 5)
    may_end.set()


async def test_a_thread_hands_on_what_it_made_and_what_it_raised() -> None:
    def fail(stop: threading.Event) -> None:
        raise OSError("no disk")

    assert await in_thread(lambda stop: 42) == 42
    with pytest.raises(OSError, match="no disk"):
        await in_thread(fail)


@virtual_time
async def test_nothing_is_prepared_that_nobody_asked_for() -> None:
    ahead = Ahead()
    await ahead.load()
    await pause()
    assert "prepare" not in ahead.runtime.journal
    await ahead.service.aclose()
