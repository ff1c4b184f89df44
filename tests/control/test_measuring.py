"""Who holds what of the GPUs, over a programmable source and replicas whose processes the test makes up."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from ai_proxy.control.measuring import Measuring, Picture
from ai_proxy.devices import Device, Placement
from ai_proxy.errors import RuntimeUnavailable
from ai_proxy.inventory.monitor import Monitor
from ai_proxy.inventory.reading import ProcessUse
from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler.measured import Measured
from tests.fakes.gpus import GPU, OTHER, FakeGpus, reading

GUARD_S = 20


class Hands:
    """Of one replica; `pids` is what its runtime tells, or how it fails."""

    def __init__(self, key: str, pids: set[int] | Exception | None, *devices: Device) -> None:
        placement = Placement(devices or (GPU,), vram_mb=9000)
        self.instance: Instance | None = Instance(key, key, "127.0.0.1", 1, placement)
        self.told = pids
        self.asked = 0
        self.hangs = False

    async def pids(self) -> frozenset[int] | None:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if isinstance(self.told, Exception):
            raise self.told
        return None if self.told is None else frozenset(self.told)


class Bench:
    """Measuring, running, with what it needs around it.

    Args:
        stale_after_s: How long the source may be silent; by default longer than a busy machine makes it.
    """

    def __init__(self, *, stale_after_s: float = GUARD_S) -> None:
        self.gpus = FakeGpus(reading(GPU))
        self.hands: dict[str, Hands] = {}
        self.told: list[Measured] = []
        self.monitor = Monitor((self.gpus,), every_s=0.005, stale_after_s=stale_after_s)
        self.measuring = Measuring(
            self.monitor, occupants=lambda: self.hands, tell=self.told.append, ask_deadline_s=0.02
        )
        self._run = asyncio.create_task(self.measuring.run())
        self.monitor.start()

    def occupy(self, key: str, pids: set[int] | Exception | None, *devices: Device) -> Hands:
        """Have a replica run."""
        self.hands[key] = Hands(key, pids, *devices)
        return self.hands[key]

    async def sees(self, measured: Measured) -> None:
        """Wait until exactly this was measured."""
        async with asyncio.timeout(GUARD_S):
            while not self.told or self.told[-1] != measured:
                await asyncio.sleep(0.002)

    async def looks(self, times: int = 3) -> None:
        """Wait for some more readings."""
        seen = len(self.told)
        async with asyncio.timeout(GUARD_S):
            while len(self.told) < seen + times:
                await asyncio.sleep(0.002)

    async def aclose(self) -> None:
        self.gpus.resume()
        self._run.cancel()
        await asyncio.gather(self._run, return_exceptions=True)
        await self.monitor.aclose()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.aclose()


@pytest.fixture
async def impatient() -> AsyncIterator[Bench]:
    """One that soon takes a source for silent."""
    bench = Bench(stale_after_s=0.2)
    yield bench
    await bench.aclose()


async def test_what_a_replica_holds_is_told_apart_from_what_others_hold(bench: Bench) -> None:
    bench.occupy("chat", {41, 42}, GPU, OTHER)
    bench.gpus.show(reading(GPU, 9500, {41: 5000, 42: 1000, 77: 3000}), reading(OTHER, 800, {42: 800}))
    await bench.sees(Measured({GPU.uuid: 9500, OTHER.uuid: 800}, {"chat": {GPU.uuid: 6000, OTHER.uuid: 800}}))
    picture = bench.measuring.picture
    assert picture is not None
    assert picture.foreign(GPU.uuid) == (ProcessUse(77, "p77", 3000),)
    assert picture.foreign(OTHER.uuid) == ()


async def test_each_process_is_asked_about_once(bench: Bench) -> None:
    chat = bench.occupy("chat", {41})
    bench.gpus.show(reading(GPU, 9500, {41: 5000, 77: 3000}))
    await bench.sees(Measured({GPU.uuid: 9500}, {"chat": {GPU.uuid: 5000}}))
    asked = chat.asked
    await bench.looks()
    assert chat.asked == asked

    chat.told = {41, 43}
    bench.gpus.show(reading(GPU, 9500, {41: 5000, 43: 1000, 77: 3000}))
    await bench.sees(Measured({GPU.uuid: 9500}, {"chat": {GPU.uuid: 6000}}))
    assert chat.asked == asked + 1


async def test_a_replica_that_comes_after_its_processes_were_seen_is_asked_for_them(bench: Bench) -> None:
    bench.gpus.show(reading(GPU, 5000, {41: 5000}))
    await bench.sees(Measured({GPU.uuid: 5000}))
    bench.occupy("chat#1", {41})
    await bench.sees(Measured({GPU.uuid: 5000}, {"chat#1": {GPU.uuid: 5000}}))


async def test_a_replica_of_unknown_processes_is_named_and_others_are_measured(bench: Bench) -> None:
    bench.occupy("chat", {41})
    bench.occupy("dark", None)
    bench.gpus.show(reading(GPU, 9500, {41: 5000, 77: 3000}))
    await bench.sees(Measured({GPU.uuid: 9500}, {"chat": {GPU.uuid: 5000}}, frozenset({"dark"})))


@pytest.mark.parametrize("failure", [RuntimeUnavailable("away"), OSError("a driver's fault")], ids=["away", "fault"])
async def test_a_runtime_that_does_not_answer_is_asked_again_until_it_does(bench: Bench, failure: Exception) -> None:
    chat = bench.occupy("chat", failure)
    bench.gpus.show(reading(GPU, 5000, {41: 5000}))
    await bench.sees(Measured({GPU.uuid: 5000}, {}, frozenset({"chat"})))
    chat.told = {41}
    await bench.sees(Measured({GPU.uuid: 5000}, {"chat": {GPU.uuid: 5000}}))


async def test_a_runtime_that_hangs_holds_no_reading_back_for_long(bench: Bench) -> None:
    bench.occupy("chat", {41}).hangs = True
    bench.gpus.show(reading(GPU, 5000, {41: 5000}))
    await bench.sees(Measured({GPU.uuid: 5000}, {}, frozenset({"chat"})))


async def test_a_process_whose_memory_is_not_told_makes_its_replica_unknown(bench: Bench) -> None:
    bench.occupy("chat", {41, 42})
    bench.gpus.show(reading(GPU, 5000, {41: 5000, 42: None}))
    await bench.sees(Measured({GPU.uuid: 5000}, {"chat": {GPU.uuid: 5000}}, frozenset({"chat"})))


async def test_a_device_that_does_not_tell_who_uses_it_makes_its_replicas_unknown(bench: Bench) -> None:
    bench.occupy("chat", {41})
    bench.gpus.show(reading(GPU, 5000))
    await bench.sees(Measured({GPU.uuid: 5000}, {}, frozenset({"chat"})))


async def test_a_replica_may_be_a_process_that_is_not_visible_from_here(bench: Bench) -> None:
    bench.occupy("chat", {7})
    hidden = replace(reading(GPU, 5000), processes=(ProcessUse(41, "", 5000),))
    bench.gpus.show(hidden)
    await bench.sees(Measured({GPU.uuid: 5000}, {}, frozenset({"chat"})))


async def test_figures_that_are_too_old_are_told_as_unknown(impatient: Bench) -> None:
    impatient.occupy("chat", {41})
    await impatient.sees(Measured({GPU.uuid: 0}, {}, frozenset({"chat"})))
    impatient.gpus.hang()
    await impatient.sees(Measured(unknown=frozenset({"chat"})))
    assert impatient.measuring.picture is None
    assert repr(impatient.measuring) == "<Measuring 1 replicas: nothing known>"


async def test_l20_a_lost_device_is_told(bench: Bench) -> None:
    bench.gpus.show(reading(GPU), reading(OTHER))
    await bench.sees(Measured({GPU.uuid: 0, OTHER.uuid: 0}))
    bench.gpus.show(reading(OTHER))
    await bench.sees(Measured({OTHER.uuid: 0}, lost=frozenset({GPU.uuid})))


async def test_services_without_a_device_are_not_asked(bench: Bench) -> None:
    small = bench.occupy("small", None)
    small.instance = replace(small.instance or Instance("x", "x", "h", 1), placement=Placement())
    stopped = bench.occupy("stopped", None)
    stopped.instance = None
    await bench.sees(Measured({GPU.uuid: 0}))
    assert (small.asked, stopped.asked) == (0, 0)


async def end(bench: Bench, key: str) -> Instance:
    """Have a replica's runtime say that it is gone."""
    instance = bench.hands[key].instance
    assert instance is not None
    bench.hands[key].instance = None
    return instance


async def test_what_has_ended_is_the_replicas_for_as_long_as_it_shows(bench: Bench) -> None:
    bench.occupy("chat", {41})
    held = Measured({GPU.uuid: 5000}, {"chat": {GPU.uuid: 5000}})
    bench.gpus.show(reading(GPU, 5000, {41: 5000}))
    await bench.sees(held)
    instance = await end(bench, "chat")
    await bench.looks()
    assert bench.told[-1] == held
    assert await bench.measuring.released(instance) == ("p41 (pid 41, 5,000 MB on GPU 0)",)

    bench.gpus.show(reading(GPU, 0, {}))
    assert await bench.measuring.released(instance) == ()
    assert bench.told[-1] == Measured({GPU.uuid: 0})


async def test_a_look_at_what_is_released_is_never_an_old_one(bench: Bench) -> None:
    bench.occupy("chat", {41})
    bench.gpus.show(reading(GPU, 5000, {41: 5000}))
    await bench.sees(Measured({GPU.uuid: 5000}, {"chat": {GPU.uuid: 5000}}))
    instance = await end(bench, "chat")
    asked_at = bench.monitor.clock()
    await bench.measuring.released(instance)
    assert isinstance(bench.measuring.picture, Picture)
    assert bench.measuring.picture.reading.began_at >= asked_at


async def test_where_nothing_can_be_asked_everything_is_released_at_once(impatient: Bench) -> None:
    unknown = impatient.occupy("dark", None).instance
    assert unknown is not None
    await impatient.looks()
    assert await impatient.measuring.released(unknown) == ()
    impatient.gpus.hang()
    await impatient.sees(Measured(unknown=frozenset({"dark"})))
    assert await impatient.measuring.released(unknown) == ()
