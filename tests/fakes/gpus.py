"""GPUs that are as the test says, read as a vendor's are.

gpus = FakeGpus()
gpus.show(reading(GPU, 900, {41: 900}))   what is read from now on; several for several GPUs
gpus.problem("GPU 1 can't be used")       told with it
gpus.silence("driver not loaded")         the source can't be asked, until the next `show`
gpus.crash()                              the next reading raises
gpus.hang(), gpus.resume()                readings block in between
gpus.reads                                how many were done
"""

import threading
from collections.abc import Mapping

from ai_proxy.devices import Device, Vendor
from ai_proxy.inventory.reading import DeviceReading, Found, ProcessUse

GUARD_S = 5
GPU = Device("0", "GPU-a", 24_000, "RTX 4090")
OTHER = Device("1", "GPU-b", 12_000, "RTX 3060")


def reading(device: Device, used_mb: int = 0, processes: Mapping[int, int | None] | None = None) -> DeviceReading:
    """A GPU at one moment; `processes` are MiB by pid, none of them told if it is left out."""
    told = None if processes is None else tuple(ProcessUse(pid, f"p{pid}", mb) for pid, mb in processes.items())
    return DeviceReading(device, device.vram_mb, used_mb, told)


class FakeGpus:
    """A programmable source."""

    vendor = Vendor.NVIDIA

    def __init__(self, *devices: DeviceReading) -> None:
        self._found = Found(devices)
        self._crashes = False
        self._may_read = threading.Event()
        self._may_read.set()
        self.reads = 0
        self.is_closed = False
        self.threads: set[str] = set()

    def __repr__(self) -> str:
        return f"FakeGpus({len(self._found.devices)})"

    def show(self, *devices: DeviceReading) -> None:
        """Read these from now on."""
        self._found = Found(devices)

    def problem(self, words: str) -> None:
        """Tell of this beside the GPUs."""
        self._found = Found(self._found.devices, (words,))

    def silence(self, words: str) -> None:
        """Be a driver that can't be asked."""
        self._found = Found(problems=(words,), is_silent=True)

    def crash(self) -> None:
        """Raise, once."""
        self._crashes = True

    def hang(self) -> None:
        """Answer nothing."""
        self._may_read.clear()

    def resume(self) -> None:
        """Answer again."""
        self._may_read.set()

    def read(self) -> Found:
        self.threads.add(threading.current_thread().name)
        self._may_read.wait(GUARD_S)
        self.reads += 1
        if self._crashes:
            self._crashes = False
            raise RuntimeError("a driver's fault")
        return self._found

    def close(self) -> None:
        self.is_closed = True
