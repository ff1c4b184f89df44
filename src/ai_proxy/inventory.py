"""What this machine has: the GPUs that the config declares or NVML finds, and the host's memory.

Looks once, under a deadline. It decides nothing: what fits is the ledger's question. A machine without a GPU, a
driver or NVML's library is an ordinary machine with no devices.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

import psutil

from ai_proxy.config.models import Config
from ai_proxy.devices import Device

DEADLINE_S = 15.0
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Inventory:
    """The devices and the memory that services may be given.

    Attributes:
        devices: The GPUs, in nvidia-smi's order.
        memory_mb: Host memory, in MiB.
        problems: What could not be found out, for the log; a GPU named here is not in `devices`.
    """

    devices: tuple[Device, ...]
    memory_mb: int
    problems: tuple[str, ...] = ()


def detect_now(config: Config) -> Inventory:
    """Find out what the machine has, blocking for as long as it takes."""
    memory_mb = config.memory_mb or psutil.virtual_memory().total // _MIB
    if config.devices == "auto":
        devices, problems = _nvidia()
        return Inventory(devices, memory_mb, problems)
    declared = (Device(it.id, it.uuid or it.id, it.vram_mb, it.name) for it in config.devices)
    return Inventory(tuple(declared), memory_mb)


async def look_around(
    config: Config, *, deadline_s: float = DEADLINE_S, detect: Callable[[Config], Inventory] = detect_now
) -> Inventory:
    """Find out what the machine has; a driver that does not answer in time is one without GPUs.

    Args:
        config: What it declares is believed and not looked for.
        deadline_s: For all of it.
        detect: Does it, blocking; NVML by default.
    """
    found: Future[Inventory] = Future()
    found.set_running_or_notify_cancel()

    def look() -> None:
        try:
            found.set_result(detect(config))
        except Exception as error:  # noqa: BLE001  # raised where it is awaited
            found.set_exception(error)

    # A daemon: a call into a driver that hangs never returns, and must not keep the process from ending.
    threading.Thread(target=look, name="inventory", daemon=True).start()
    try:
        async with asyncio.timeout(deadline_s):
            return await asyncio.wrap_future(found)
    except TimeoutError:
        problem = (
            f"NVIDIA's driver did not answer within {deadline_s:g} s: no GPU is used; see whether nvidia-smi works"
        )
        return replace(detect_now(config.model_copy(update={"devices": ()})), problems=(problem,))


def _nvidia() -> tuple[tuple[Device, ...], tuple[str, ...]]:
    import pynvml  # noqa: PLC0415 - 80 ms that a declared inventory does not need

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        is_absent = error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
        return (), () if is_absent else (f"NVIDIA's driver can't be asked for GPUs: {error}",)
    devices, problems = [], []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                vram_mb = pynvml.nvmlDeviceGetMemoryInfo(handle).total // _MIB
                uuid, name = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
                devices.append(Device(str(index), uuid, vram_mb, name))
            except pynvml.NVMLError as error:
                problems.append(f"GPU {index} can't be used: {error}")
    except pynvml.NVMLError as error:
        problems.append(f"NVIDIA's driver can't be asked for GPUs: {error}")
    finally:
        pynvml.nvmlShutdown()
    return tuple(devices), tuple(problems)
