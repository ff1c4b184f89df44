"""The vocabulary of devices: what one is, and what a placement on some of them looks like.

Pure data. Which devices this machine has is found out by `inventory.py`; what fits is the ledger's question, who
leaves is the planner's.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU.

    Attributes:
        id: Its index as nvidia-smi shows it, as text.
        uuid: What a runtime is told (`GPU-…`, `MIG-…`); the id again where the config declared the device.
        vram_mb: Capacity in MiB.
        name: The product's name, for people.
    """

    id: str
    uuid: str
    vram_mb: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Placement:
    """The devices chosen for a demand.

    Attributes:
        devices: The GPUs, in the inventory's order; empty for a service that runs on CPUs.
        vram_mb: Reserved on each of them, in MiB.
        memory_mb: Reserved of the host's memory, in MiB.
        vram_fraction: `vram_mb` over the capacity of the smallest chosen device, rounded down to two decimals.
    """

    devices: tuple[Device, ...] = ()
    vram_mb: int = 0
    memory_mb: int = 0

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
