"""NVIDIA's GPUs, as its management library NVML tells of them.

Owns the library from the first reading on. A machine without it is an ordinary machine without such GPUs; a driver
that can't be asked is asked anew at each reading. Everything here blocks, for ever if the driver hangs: `monitor.py`
gives it a thread of its own. A GPU in MIG mode is shown as its instances, for it can't be used as a whole.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

from ai_proxy.devices import Device, Vendor
from ai_proxy.inventory.host import process_name
from ai_proxy.inventory.reading import MIB, DeviceReading, Found, ProcessUse

LIBRARY = "libnvidia-ml.so.1"
_MILLIWATTS = 1000
_USES = (
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetGraphicsRunningProcesses",
    "nvmlDeviceGetMPSComputeRunningProcesses",
)


class Nvml:
    """NVIDIA's GPUs.

    Args:
        name_of: Tells what a process is called.
    """

    vendor = Vendor.NVIDIA

    def __init__(self, name_of: Callable[[int], str] = process_name) -> None:
        self._name_of = name_of
        # From the first reading on, where there is a library.
        self._bindings: ModuleType | None = None
        # From a reading to the next failure.
        self._session: _Session | None = None

    def __repr__(self) -> str:
        return f"<Nvml {'open' if self._session else 'closed'}>"

    def read(self) -> Found:
        """Read all GPUs."""
        nvml = self._bindings = self._bindings or _load()
        if nvml is None:
            return Found()
        try:
            if self._session is None:
                self._session = _Session(nvml, self._name_of)
            found = self._session.read()
        except nvml.NVMLError as error:
            self.close()
            return Found(problems=(f"NVIDIA's driver can't be asked for GPUs: {error}",), is_silent=True)
        if self._session.is_stale:
            self.close()
        return found

    def close(self) -> None:
        """Leave the library: a GPU can only be reset while nobody has it open."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


class _Session:
    """The library between its initialisation and its shutdown.

    Attributes:
        is_stale: A GPU has failed: whether it comes back shows only in another session.

    Raises:
        NVMLError: The driver can't be asked.
    """

    def __init__(self, nvml: ModuleType, name_of: Callable[[int], str]) -> None:
        nvml.nvmlInit()
        self.is_stale = False
        self._nvml = nvml
        self._name_of = name_of

    def close(self) -> None:
        with suppress(self._nvml.NVMLError):  # it is of no use any more either way
            self._nvml.nvmlShutdown()

    def read(self) -> Found:
        """Read all GPUs; one that fails does not hide the others."""
        nvml = self._nvml
        read: list[DeviceReading] = []
        problems = []
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                read += self._gpu(index)
            except nvml.NVMLError_NotSupported:
                problems.append(f"GPU {index} does not tell how much memory it has: give its vram_mb under `devices`")
            except nvml.NVMLError as error:
                problems.append(f"GPU {index} can't be used: {error}")
                self.is_stale = True
        return Found(tuple(read), tuple(problems))

    def _gpu(self, index: int) -> Iterator[DeviceReading]:
        nvml = self._nvml
        board = nvml.nvmlDeviceGetHandleByIndex(index)
        mode = self._ask(nvml.nvmlDeviceGetMigMode, board)
        if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            yield self._measured(str(index), board, board)
            return
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(board)):
            try:
                instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(board, number)
            except nvml.NVMLError_NotFound:
                continue  # the board could hold more instances than were made
            yield self._measured(f"{index}:{number}", instance, board)

    def _measured(self, device_id: str, handle: object, board: object) -> DeviceReading:
        """Read a GPU or an instance of one; heat and power are the board's."""
        nvml = self._nvml
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        total_mb = memory.total // MIB
        rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        power_mw = self._ask(nvml.nvmlDeviceGetPowerUsage, board)
        return DeviceReading(
            Device(device_id, nvml.nvmlDeviceGetUUID(handle), total_mb, nvml.nvmlDeviceGetName(handle)),
            total_mb=total_mb,
            used_mb=-(-(memory.total - memory.free) // MIB),
            processes=self._processes(handle),
            utilisation_percent=None if rates is None else rates.gpu,
            temperature_c=self._ask(nvml.nvmlDeviceGetTemperature, board, nvml.NVML_TEMPERATURE_GPU),
            power_w=None if power_mw is None else power_mw / _MILLIWATTS,
        )

    def _processes(self, handle: object) -> tuple[ProcessUse, ...] | None:
        """Who uses a GPU, to compute or to draw; one that does both is in both lists with the same figure."""
        told = [processes for kind in _USES if (processes := self._listed(kind, handle)) is not None]
        if not told:
            return None
        used: dict[int, int | None] = {}
        for process in (process for processes in told for process in processes):
            size = process.usedGpuMemory
            used[process.pid] = used.get(process.pid) if size is None else -(-size // MIB)
        return tuple(ProcessUse(pid, self._name_of(pid), size_mb) for pid, size_mb in used.items())

    def _listed(self, kind: str, handle: object) -> list[Any] | None:
        """One list of processes; the bindings refuse to choose the version that an older library has."""
        for version in ("v3", "v2"):
            processes: list[Any] | None = self._ask(getattr(self._nvml, f"{kind}_{version}"), handle)
            if processes is not None:
                return processes
        return None

    def _ask(self, question: Callable[..., Any], *of: object) -> Any:
        """What the driver says, None where it does not; a GPU that is lost is lost."""
        try:
            return question(*of)
        except self._nvml.NVMLError_GpuIsLost:
            raise
        except self._nvml.NVMLError:
            return None


def _load() -> ModuleType | None:
    """Import the bindings, which takes 80 ms, only where there is a library to bind."""
    import ctypes  # noqa: PLC0415 - nobody else needs it

    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    import pynvml  # noqa: PLC0415 - see above

    bindings: ModuleType = pynvml
    return bindings
