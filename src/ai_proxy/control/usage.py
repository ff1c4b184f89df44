"""Devices as an operator sees them: what the ledger says of each beside what was measured. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from ai_proxy.control.measuring import Picture
from ai_proxy.devices import Device, Placement
from ai_proxy.inventory.reading import DeviceReading
from ai_proxy.metrics import DeviceUse
from ai_proxy.scheduler.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Usage:
    """What of a device is reserved, used and free.

    Attributes:
        device: Which.
        reserved_mb: By whoever is on it, in MiB.
        free_mb: What a start may have, in MiB.
        foreign_mb: What others use, in MiB; None where nothing is measured.
        reading: What was read of it; None where nothing is known.
        is_lost: It was there and does not answer any more.
    """

    device: Device
    reserved_mb: Mapping[str, int]
    free_mb: int
    foreign_mb: int | None = None
    reading: DeviceReading | None = None
    is_lost: bool = False

    @property
    def used_mb(self) -> int | None:
        """What is not free, whoever uses it, in MiB; None where nothing is measured."""
        return self.reading.used_mb if self.reading else None


def usage_of(device: Device, ledger: Ledger, picture: Picture | None) -> Usage:
    """Put together what is known of a device.

    Example:
        >>> gpu = Device("0", "GPU-a", 24_000)
        >>> ledger = Ledger([gpu], 0)
        >>> ledger.reserve("chat", Placement((gpu,), vram_mb=9_000))
        >>> usage = usage_of(gpu, ledger, None)
        >>> dict(usage.reserved_mb), usage.free_mb, usage.used_mb
        ({'chat': 9000}, 15000, None)
    """
    holders = ledger.holders_on(device.uuid)
    reserved_mb = {holder: _reserved_mb(ledger.placement(holder), device) for holder in holders}
    free_mb = max(0, ledger.free_mb(device))
    if picture is None:
        return Usage(device, reserved_mb, free_mb)
    return Usage(
        device,
        reserved_mb,
        free_mb,
        picture.measured.foreign_mb(device.uuid, holders),
        picture.reading.of(device.uuid),
        device.uuid in picture.measured.lost,
    )


def uses_of(ledger: Ledger, picture: Picture | None) -> list[DeviceUse]:
    """All devices and the host's memory, for the metrics."""
    uses = [
        DeviceUse(
            f"gpu{it.device.id}",
            it.device.vram_mb,
            sum(it.reserved_mb.values()),
            free_mb=it.free_mb,
            used_mb=it.used_mb,
            foreign_mb=it.foreign_mb,
        )
        for it in (usage_of(device, ledger, picture) for device in ledger.devices)
    ]
    memory_mb, free_mb = ledger.memory_mb, ledger.free_memory_mb
    return [*uses, DeviceUse("memory", memory_mb, memory_mb - free_mb, free_mb=max(0, free_mb))]


def _reserved_mb(placement: Placement, device: Device) -> int:
    """Nothing on a device where a holder was only seen to use some."""
    is_on_it = any(it.uuid == device.uuid for it in placement.devices)
    return min(placement.vram_mb, device.vram_mb) if is_on_it else 0
