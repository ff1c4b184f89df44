"""What this machine has: the GPUs that the config declares or NVML finds, and the host's memory.

Looks once and blocks while it looks (run it in a thread, under a deadline). It decides nothing: what fits is the
ledger's question. A machine without a GPU, a driver or NVML's library is an ordinary machine with no devices.
"""

from dataclasses import dataclass

import psutil

from ai_proxy.config.models import Config
from ai_proxy.devices import Device

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


def detect(config: Config) -> Inventory:
    """Find out what the machine has; what the config declares is believed and not looked for."""
    memory_mb = config.memory_mb or psutil.virtual_memory().total // _MIB
    if config.devices == "auto":
        devices, problems = _nvidia()
        return Inventory(devices, memory_mb, problems)
    declared = (Device(it.id, it.uuid or it.id, it.vram_mb, it.name) for it in config.devices)
    return Inventory(tuple(declared), memory_mb)


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
