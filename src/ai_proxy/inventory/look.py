"""What services may be given of this machine: the GPUs that the config declares or that are found, and host memory.

Looked up once, at the start, under a deadline. It decides nothing: what fits is the ledger's question. A machine
without a GPU or a driver is an ordinary machine with no devices; declared devices are believed at once.
"""

import asyncio
from dataclasses import dataclass

from loguru import logger

from ai_proxy.config.models import Config
from ai_proxy.devices import AMD_PREFIX, Device, Vendor
from ai_proxy.inventory import host
from ai_proxy.inventory.amd import Amdgpu
from ai_proxy.inventory.monitor import Monitor
from ai_proxy.inventory.nvidia import Nvml

DEADLINE_S = 15.0


@dataclass(frozen=True, slots=True)
class Inventory:
    """The devices and the memory that services may be given.

    Attributes:
        devices: The GPUs: declared ones in the config's order, else NVIDIA's as nvidia-smi numbers them, then AMD's.
        memory_mb: Host memory, in MiB.
    """

    devices: tuple[Device, ...]
    memory_mb: int


def monitor_of(config: Config) -> Monitor:
    """Make what watches the machine's GPUs, not started yet."""
    return Monitor((Nvml(), Amdgpu()), declared=None if config.devices == "auto" else declared_of(config))


def declared_of(config: Config) -> tuple[Device, ...]:
    """The GPUs that a config lists.

    Example:
        >>> devices = [{"id": "0", "vram_mb": 24576}, {"id": "amd0", "vram_mb": 24560}]
        >>> config = Config(services={"a": {"command": "x"}}, devices=devices)
        >>> [(device.uuid, device.vendor.value) for device in declared_of(config)]
        [('0', 'nvidia'), ('amd0', 'amd')]
    """
    if config.devices == "auto":
        return ()
    return tuple(Device(it.id, it.uuid or it.id, it.vram_mb, it.name, _vendor_of(it.id)) for it in config.devices)


async def look_around(config: Config, monitor: Monitor, *, deadline_s: float = DEADLINE_S) -> Inventory:
    """Find out what the machine has; drivers that do not answer in time are those of a machine without GPUs.

    Args:
        config: What it declares is believed and not looked for.
        monitor: Reads the GPUs; it is started here where they are to be found.
        deadline_s: For all of it.
    """
    memory_mb = config.memory_mb or host.memory().total_mb
    if config.devices != "auto":
        return Inventory(declared_of(config), memory_mb)
    monitor.start()
    try:
        async with asyncio.timeout(deadline_s):
            reading = await monitor.other_than(None)
    except TimeoutError:
        logger.warning(
            "NVIDIA's driver did not answer within {:g} s: no GPU is used; see whether nvidia-smi works", deadline_s
        )
        return Inventory((), memory_mb)
    return Inventory(tuple(it.device for it in reading.devices) if reading else (), memory_mb)


def _vendor_of(device_id: str) -> Vendor:
    return Vendor.AMD if device_id.startswith(AMD_PREFIX) else Vendor.NVIDIA
