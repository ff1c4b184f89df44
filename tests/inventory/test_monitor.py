"""The monitor over a programmable source, and over NVML's real bindings in a process of its own."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from ai_proxy.devices import Device
from ai_proxy.inventory.monitor import Monitor
from ai_proxy.inventory.reading import Reading
from tests.fakes.gpus import GPU, OTHER, FakeGpus, reading
from tests.fixtures.nvml import NvmlStub

GUARD_S = 20
FOLLOW = """
import asyncio, json, sys
from ai_proxy.inventory.nvidia import Nvml
from ai_proxy.inventory.monitor import Monitor

async def follow(monitor):
    seen, said = None, "nothing yet"
    while True:
        seen = await monitor.other_than(seen)
        line = seen and [[[d.device.id, d.used_mb, [[p.pid, p.used_mb] for p in d.processes]] for d in seen.devices],
                         [device.id for device in seen.lost], list(seen.problems)]
        if line != said:
            print(json.dumps(line))
            said = line

async def main():
    monitor = Monitor((Nvml(),), every_s=0.02, stale_after_s=1.0)
    monitor.start()
    following = asyncio.create_task(follow(monitor))
    await asyncio.to_thread(sys.stdin.read)
    following.cancel()
    await monitor.aclose()

asyncio.run(main())
"""
BIG = "GPU-a|RTX 4090|24564|{}|0|30|20000|{}"
SMALL = "GPU-b|RTX 3060|12288|0|0|30|20000|"


def watch(*sources: FakeGpus, declared: tuple[Device, ...] | None = None, stale_after_s: float = 60.0) -> Monitor:
    monitor = Monitor(sources, declared=declared, every_s=0.005, stale_after_s=stale_after_s)
    monitor.start()
    return monitor


async def following(monitor: Monitor, seen: Reading | None = None) -> Reading | None:
    """What is known next."""
    async with asyncio.timeout(GUARD_S):
        return await monitor.other_than(seen)


@pytest.fixture
def gpus() -> FakeGpus:
    return FakeGpus(reading(GPU, 900, {41: 900}), reading(OTHER))


@pytest.fixture
async def monitor(gpus: FakeGpus) -> AsyncIterator[Monitor]:
    monitor = watch(gpus)
    yield monitor
    gpus.resume()
    await monitor.aclose()


async def until(monitor: Monitor, used_mb: int) -> Reading:
    """Wait until so much of the first GPU is used."""
    seen: Reading | None = None
    while True:
        seen = await following(monitor, seen)
        if seen is not None and seen.devices and seen.devices[0].used_mb == used_mb:
            return seen


async def test_use_that_comes_and_goes_is_seen(monitor: Monitor, gpus: FakeGpus) -> None:
    for used_mb in (900, 20_000, 900):
        gpus.show(reading(GPU, used_mb, {41: used_mb}))
        seen = await until(monitor, used_mb)
        assert seen.devices[0].processes is not None


async def test_one_thread_of_its_own_does_all_readings(monitor: Monitor, gpus: FakeGpus) -> None:
    for _ in range(3):
        await following(monitor, monitor.latest)
    assert gpus.threads == {"inventory"}


async def test_a_driver_that_hangs_makes_nothing_known_and_is_told_once_as_is_its_return(
    gpus: FakeGpus, logged: list[str]
) -> None:
    monitor = watch(gpus, stale_after_s=0.1)
    seen = await following(monitor)
    gpus.hang()
    while seen is not None:
        seen = await following(monitor, seen)
    assert monitor.latest is None
    gpus.show(reading(GPU, 100))
    gpus.resume()
    await until(monitor, 100)
    await monitor.aclose()
    # A machine that is too busy to ask may seem to have such a driver, once more.
    told = ["again" if "answer again" in line else "silent" for line in logged if "The GPUs' drivers" in line]
    assert told[:2] == ["silent", "again"]
    assert all(one != next_one for one, next_one in pairwise(told))
    assert "have not answered for 0.1 s" in logged[0]


async def test_a_lost_gpu_is_told_once_and_so_is_its_return(
    monitor: Monitor, gpus: FakeGpus, logged: list[str]
) -> None:
    await following(monitor)
    gpus.show(reading(OTHER, 1))
    seen = await until(monitor, 1)
    assert seen.lost == (GPU,)
    await following(monitor, seen)
    gpus.show(reading(GPU, 2), reading(OTHER))
    assert (await until(monitor, 2)).lost == ()
    assert [line for line in logged if line.startswith("GPU 0")] == [
        "GPU 0 (RTX 4090) is lost: nothing can start on it until its driver shows it again",
        "GPU 0 (RTX 4090) is back",
    ]


async def test_a_driver_that_can_not_be_asked_has_lost_no_gpu(
    monitor: Monitor, gpus: FakeGpus, logged: list[str]
) -> None:
    seen = await following(monitor)
    gpus.silence("no driver")
    while seen is None or seen.devices:
        seen = await following(monitor, seen)
    assert (seen.lost, seen.problems) == ((), ("no driver",))
    assert logged == ["no driver"]


async def test_a_gpu_that_is_added_is_told(monitor: Monitor, gpus: FakeGpus, logged: list[str]) -> None:
    await following(monitor)
    third = Device("2", "GPU-c", 8000, "T4")
    gpus.show(reading(GPU, 1), reading(OTHER), reading(third))
    seen = await until(monitor, 1)
    assert seen.added == (third,)
    assert logged == ["GPU 2 (T4) has appeared: it is used from the proxy's next start on"]


async def test_a_source_that_fails_does_not_end_the_watch(monitor: Monitor, gpus: FakeGpus, logged: list[str]) -> None:
    await following(monitor)
    gpus.crash()
    gpus.show(reading(GPU, 7))
    await until(monitor, 7)
    assert [line for line in logged if "a driver's fault" in line]


async def test_a_reading_can_be_had_before_its_time() -> None:
    gpus = FakeGpus(reading(GPU))
    monitor = Monitor((gpus,), every_s=60, stale_after_s=60)
    monitor.start()
    seen = await following(monitor)
    monitor.hurry()
    assert await following(monitor, seen) is not None
    await monitor.aclose()


async def test_declared_gpus_have_the_readings_of_those_that_are_found(gpus: FakeGpus) -> None:
    by_id, by_uuid, missing = Device("0", "0", 20_000), Device("x", "GPU-b", 8000, "mine"), Device("9", "9", 1)
    monitor = watch(gpus, declared=(by_id, by_uuid, missing))
    seen = await following(monitor)
    assert seen is not None
    assert [(it.device.uuid, it.device.vram_mb, it.device.name, it.total_mb) for it in seen.devices] == [
        ("0", 20_000, "RTX 4090", 24_000),
        ("GPU-b", 8000, "mine", 12_000),
    ]
    assert seen.lost == ()
    await monitor.aclose()


async def test_where_no_gpu_is_declared_nothing_is_read() -> None:
    others = set(threading.enumerate())  # one that has done its work may still be on its way out
    monitor = watch(FakeGpus(), declared=())
    assert set(threading.enumerate()) <= others
    await monitor.aclose()


async def test_the_end_closes_the_sources_but_waits_for_no_driver_that_hangs(
    gpus: FakeGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai_proxy.inventory.monitor.CLOSE_DEADLINE_S", 0.01)
    hanging = FakeGpus()
    hanging.hang()
    monitors = watch(gpus), watch(hanging)
    await following(monitors[0])
    for monitor in monitors:
        await monitor.aclose()
    assert (gpus.is_closed, hanging.is_closed) == (True, False)
    hanging.resume()


async def test_it_shows_what_it_knows(monitor: Monitor) -> None:
    assert repr(Monitor(())) == "<Monitor of (): nothing known>"
    await following(monitor)
    assert repr(monitor) == "<Monitor of (FakeGpus(2),): 2 GPUs>"


@pytest.mark.slow
async def test_a_game_comes_and_goes_a_gpu_is_lost_and_comes_back_and_a_driver_hangs(nvml: NvmlStub) -> None:
    quiet: Any = [[["0", 500, []], ["1", 0, []]], [], []]
    nvml.show(BIG.format(500, ""), SMALL)
    async with nvml.follow(FOLLOW) as line:

        async def comes(wanted: Any) -> None:
            # A process that is held up for a while may seem to have a driver that hangs.
            while await line() != wanted:
                pass

        await comes(quiet)

        nvml.show(BIG.format(9500, "g77:9000"), SMALL)
        await comes([[["0", 9500, [[77, 9000]]], ["1", 0, []]], [], []])
        nvml.show(BIG.format(500, ""), SMALL)
        await comes(quiet)

        nvml.show(BIG.format(500, ""), "lost")
        await comes([[["0", 500, []]], ["1"], ["GPU 1 can't be used: GPU is lost"]])
        nvml.show(BIG.format(500, ""), SMALL)
        await comes(quiet)

        nvml.show("hang", BIG.format(500, ""), SMALL)
        await comes(None)
        nvml.show(BIG.format(500, ""), SMALL)
        await comes(quiet)

        nvml.show("count 999", BIG.format(500, ""), SMALL)
        await comes([[], [], ["NVIDIA's driver can't be asked for GPUs: Unknown Error"]])
        nvml.show(BIG.format(500, ""), SMALL)
        await comes(quiet)


async def test_a_signal_that_keeps_the_thread_beyond_its_time_does_not_end_the_readings(gpus: FakeGpus) -> None:
    monitor = Monitor((gpus,), every_s=0.02)
    monitor.start()
    former = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        await following(monitor)
        (thread,) = (it for it in threading.enumerate() if it.name == "inventory")
        signal.pthread_kill(thread.ident or 0, signal.SIGUSR1)
        sum(range(3_000_000))  # for as long as this call lasts, no other thread can go on
        before = gpus.reads
        async with asyncio.timeout(GUARD_S):
            while gpus.reads < before + 2:
                await asyncio.sleep(0.01)
    finally:
        signal.signal(signal.SIGUSR1, former)
        await monitor.aclose()
