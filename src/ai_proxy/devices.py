"""The vocabulary of devices: what one is, and what a placement on some of them looks like.

Pure data. Which devices this machine has is found out by `inventory/`; what fits is the ledger's question, who
leaves is the planner's.
"""

from dataclasses import dataclass
from enum import StrEnum

AMD_PREFIX = "amd"
"""Of the ids of AMD's GPUs, so that they are never taken for NVIDIA's of the same index."""


class Vendor(StrEnum):
    """Who made a GPU: it decides how a replica is shown it."""

    NVIDIA = "nvidia"
    AMD = "amd"


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU, or one MIG instance of one.

    Attributes:
        id: Its index as nvidia-smi shows it, as text; `0:1` for a MIG instance, `amd0` for AMD's first.
        uuid: What its driver calls it (`GPU-…`, `MIG-…`); the id again where the config declared the device without.
        vram_mb: Capacity in MiB.
        name: The product's name, for people.
        vendor: Who made it.
    """

    id: str
    uuid: str
    vram_mb: int
    name: str = ""
    vendor: Vendor = Vendor.NVIDIA

    @property
    def handle(self) -> str:
        """What an engine is told of it: the UUID, or the bare index where its vendor's tools know no such UUID.

        Example:
            >>> Device("0", "GPU-a", 24576).handle, Device("0:1", "MIG-b", 4864).handle
            ('GPU-a', 'MIG-b')
            >>> Device("amd1", "0000:0b:00.0", 12272, vendor=Vendor.AMD).handle
            '1'
        """
        if self.vendor is Vendor.AMD and not self.uuid.startswith("GPU-"):
            return self.id.removeprefix(AMD_PREFIX)
        return self.uuid


@dataclass(frozen=True, slots=True)
class Placement:
    """The devices chosen for a demand.

    Attributes:
        devices: The GPUs, in the inventory's order; empty for a service that runs on CPUs.
        vram_mb: Reserved on each of them, in MiB.
        memory_mb: Reserved of the host's memory, in MiB.
        custom: Reserved of the resources that the config names, by name.
        vram_fraction: `vram_mb` over the capacity of the smallest chosen device, rounded down to two decimals.
    """

    devices: tuple[Device, ...] = ()
    vram_mb: int = 0
    memory_mb: int = 0
    custom: tuple[tuple[str, int], ...] = ()

    @property
    def vram_fraction(self) -> float:
        """The share of a device that the reservation is, rounded down to two decimals.

        Example:
            >>> Placement((Device("0", "GPU-a", 24576),), vram_mb=9000).vram_fraction
            0.36
            >>> Placement().vram_fraction
            0.0
        """
        if not self.devices:
            return 0.0
        smallest_mb = min(device.vram_mb for device in self.devices)
        return min(self.vram_mb * 100 // smallest_mb, 100) / 100
