"""The vocabulary of measurements: what was read of each device, when, and by whom its memory is used. Pure data.

It knows no library and no file: `nvidia.py` and `amd.py` fill it in, `monitor.py` hands it on.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from ai_proxy.devices import Device, Vendor

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """A process that holds memory of a device.

    Attributes:
        pid: As the driver says it, in the host's numbering.
        name: The program's name; empty where no such process is visible from here (it has just ended, or the proxy
            runs in a container of its own).
        used_mb: What it holds, in MiB; None where the driver does not say.
    """

    pid: int
    name: str
    used_mb: int | None


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """One device at one moment.

    Attributes:
        device: Which.
        total_mb: What the driver says it has; a declared capacity may differ.
        used_mb: Not free, whoever uses it, the driver included.
        processes: Who uses it; None where the driver does not tell.
        utilisation_percent: Share of the time in which it computed; None where unknown, as the next two.
        temperature_c: In degrees Celsius.
        power_w: In watts.
    """

    device: Device
    total_mb: int
    used_mb: int
    processes: tuple[ProcessUse, ...] | None = None
    utilisation_percent: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What one source had to say.

    Attributes:
        devices: Those that could be read.
        problems: What could not be, in words for the log.
        is_silent: The source as a whole could not be asked: of its devices nothing is known, not even that they left.
    """

    devices: tuple[DeviceReading, ...] = ()
    problems: tuple[str, ...] = ()
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """All devices at one moment.

    Attributes:
        began_at: When the reading began, in monotonic seconds: what was true before may not show in it.
        devices: Those that could be read, NVIDIA's first.
        lost: Devices that were there before and that their driver no longer answers for.
        added: Devices that were not there when the first reading was done; nobody uses them before the next start.
        problems: What else could not be read.
    """

    began_at: float
    devices: tuple[DeviceReading, ...] = ()
    lost: tuple[Device, ...] = ()
    added: tuple[Device, ...] = ()
    problems: tuple[str, ...] = ()

    def of(self, uuid: str) -> DeviceReading | None:
        """What was read of a device; None for one that was not read.

        Example:
            >>> gpu = Device("0", "GPU-a", 24576)
            >>> Reading(0.0, (DeviceReading(gpu, 24576, 900),)).of("GPU-a").used_mb
            900
        """
        return next((it for it in self.devices if it.device.uuid == uuid), None)


class Source(Protocol):
    """Reads the devices of one vendor. Its methods block; one thread calls them."""

    @property
    def vendor(self) -> Vendor:
        """Whose devices."""
        ...

    def read(self) -> Found:
        """Read all devices now."""
        ...

    def close(self) -> None:
        """Give back what reading took."""
        ...


def as_declared(found: tuple[DeviceReading, ...], declared: tuple[Device, ...]) -> tuple[DeviceReading, ...]:
    """Keep what was read of declared devices, under the ids and with the capacities that the config gives them.

    A declared device is the one that was found under its UUID, else the one under its id.

    Example:
        >>> found = (DeviceReading(Device("0", "GPU-a", 24576, "RTX 4090"), 24576, 900),)
        >>> [it.device for it in as_declared(found, (Device("0", "0", 20000), Device("9", "9", 8000)))]
        [Device(id='0', uuid='0', vram_mb=20000, name='RTX 4090', vendor=<Vendor.NVIDIA: 'nvidia'>)]
    """
    by_uuid = {it.device.uuid: it for it in found}
    by_id = {it.device.id: it for it in found}
    matched = ((device, by_uuid.get(device.uuid) or by_id.get(device.id)) for device in declared)
    return tuple(
        replace(it, device=replace(device, name=device.name or it.device.name)) for device, it in matched if it
    )
