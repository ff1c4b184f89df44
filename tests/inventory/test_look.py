"""What services may be given of a machine."""

from typing import Any

import psutil

from ai_proxy.config.models import Config
from ai_proxy.devices import Device
from ai_proxy.inventory.look import look_around, monitor_of
from ai_proxy.inventory.monitor import Monitor
from tests.fakes.gpus import GPU, OTHER, FakeGpus, reading


def config(**keys: Any) -> Config:
    return Config(services={"a": {"command": "x"}}, **keys)


async def test_declared_devices_are_believed_and_no_driver_is_asked() -> None:
    gpus = FakeGpus()
    declared = [{"id": "0", "vram_mb": 24576, "name": "big"}, {"id": "1", "vram_mb": 8192, "uuid": "GPU-b"}]
    found = await look_around(config(devices=declared), Monitor((gpus,)))
    assert found.devices == (Device("0", "0", 24576, "big"), Device("1", "GPU-b", 8192))
    assert gpus.reads == 0


async def test_devices_are_found_where_none_are_declared() -> None:
    monitor = Monitor((FakeGpus(reading(GPU)), FakeGpus(reading(OTHER))))
    assert (await look_around(config(), monitor)).devices == (GPU, OTHER)
    await monitor.aclose()


async def test_memory_is_the_hosts_unless_declared() -> None:
    found = [
        (await look_around(config(devices=[], memory_mb=declared), Monitor(()))).memory_mb for declared in (None, 1000)
    ]
    assert found == [psutil.virtual_memory().total // 1024**2, 1000]


async def test_a_driver_that_hangs_is_not_waited_for_and_the_machine_counts_as_one_without_gpus(
    logged: list[str],
) -> None:
    gpus = FakeGpus(reading(GPU))
    gpus.hang()
    monitor = Monitor((gpus,))
    found = await look_around(config(memory_mb=1000), monitor, deadline_s=0.05)
    assert (found.devices, found.memory_mb) == ((), 1000)
    assert "did not answer within 0.05 s" in logged[0]
    gpus.resume()
    await monitor.aclose()


async def test_this_machine_can_be_looked_at() -> None:
    monitor = monitor_of(config())
    found = await look_around(config(), monitor)
    assert found.memory_mb > 0
    await monitor.aclose()
