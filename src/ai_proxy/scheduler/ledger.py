"""The ledger: what each device has, what of it is reserved, and for whom.

Pure book-keeping in MiB. It knows no service and no time; a holder is a name. A reservation larger than a device is
a reservation of the whole device: that is how a service without a figure gets a GPU to itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ai_proxy.devices import Device, Placement


@dataclass(frozen=True, slots=True)
class Demand:
    """What a service needs to run.

    Attributes:
        gpus: Number of GPUs.
        pins: Ids or UUIDs of the very GPUs it must have; then `gpus` is their number.
        vram_mb: On each GPU; None for a GPU to itself.
        memory_mb: Of the host's memory.
    """

    gpus: int = 0
    pins: tuple[str, ...] = ()
    vram_mb: int | None = None
    memory_mb: int = 0

    def __str__(self) -> str:
        """Say it for people.

        Example:
            >>> str(Demand(gpus=2, vram_mb=9000, memory_mb=4000))
            '2 GPUs with 9,000 MB each and 4,000 MB of host memory'
            >>> str(Demand(gpus=1))
            'a GPU to itself'
        """
        wants = []
        if self.gpus and self.vram_mb is None:
            wants.append("a GPU to itself" if self.gpus == 1 else f"{self.gpus} GPUs to themselves")
        elif self.gpus:
            wants.append(f"{self.gpus} GPU{'s' * (self.gpus > 1)} with {self.vram_mb:,} MB" + " each" * (self.gpus > 1))
        if self.memory_mb:
            wants.append(f"{self.memory_mb:,} MB of host memory")
        return " and ".join(wants) or "nothing"


class Ledger:
    """Capacities and reservations.

    Args:
        devices: The GPUs, in the inventory's order.
        memory_mb: Host memory that may be reserved, in MiB.
    """

    def __init__(self, devices: Iterable[Device], memory_mb: int) -> None:
        self.devices = tuple(devices)
        self.memory_mb = memory_mb
        self._held: dict[str, Placement] = {}

    def __repr__(self) -> str:
        free = ", ".join(f"{device.id}: {self.free_mb(device)}/{device.vram_mb}" for device in self.devices)
        return f"<Ledger {len(self._held)} held, free MB {{{free}}}, memory {self.free_memory_mb}/{self.memory_mb}>"

    @property
    def held(self) -> dict[str, Placement]:
        """All reservations by holder; a copy."""
        return dict(self._held)

    @property
    def free_memory_mb(self) -> int:
        """Host memory not reserved; negative where adopted replicas hold more than there is."""
        return self.memory_mb - sum(placement.memory_mb for placement in self._held.values())

    def free_mb(self, device: Device) -> int:
        """VRAM of a device not reserved; negative where adopted replicas hold more than there is.

        Example:
            >>> gpu = Device("0", "GPU-a", 1000)
            >>> ledger = Ledger([gpu], 0)
            >>> ledger.reserve("chat", Placement((gpu,), vram_mb=600))
            >>> ledger.free_mb(gpu)
            400
        """
        return device.vram_mb - sum(
            min(placement.vram_mb, device.vram_mb)
            for placement in self._held.values()
            if any(held.uuid == device.uuid for held in placement.devices)
        )

    def reserve(self, holder: str, placement: Placement) -> None:
        """Note what a holder has; a second note replaces the first."""
        self._held[holder] = placement

    def release(self, holder: str) -> None:
        """Forget a holder; idempotent."""
        self._held.pop(holder, None)

    def without(self, holders: Iterable[str]) -> "Ledger":
        """A copy in which these holders have left."""
        copy = Ledger(self.devices, self.memory_mb)
        gone = set(holders)
        copy._held = {holder: placement for holder, placement in self._held.items() if holder not in gone}
        return copy

    def fit(self, demand: Demand) -> Placement | None:
        """Place a demand on the devices with the least room to spare.

        Returns:
            Where it fits now; None where it does not.

        Example:
            >>> ledger = Ledger([Device("0", "GPU-a", 24000), Device("1", "GPU-b", 12000)], 0)
            >>> [device.id for device in ledger.fit(Demand(gpus=1, vram_mb=9000)).devices]
            ['1']
            >>> ledger.fit(Demand(gpus=2, vram_mb=13000)) is None
            True
        """
        if demand.memory_mb > self.free_memory_mb:
            return None
        if not demand.gpus:
            return Placement(memory_mb=demand.memory_mb)
        fitting = [device for device in self._eligible(demand) if self._has_room(device, demand)]
        if len(fitting) < demand.gpus:
            return None
        tightest = sorted(fitting, key=self.free_mb)[: demand.gpus]
        chosen = tuple(device for device in self.devices if device in tightest)
        vram_mb = demand.vram_mb if demand.vram_mb is not None else max(device.vram_mb for device in chosen)
        return Placement(chosen, vram_mb, demand.memory_mb)

    def _eligible(self, demand: Demand) -> list[Device]:
        if not demand.pins:
            return list(self.devices)
        return [device for device in self.devices if device.id in demand.pins or device.uuid in demand.pins]

    def _has_room(self, device: Device, demand: Demand) -> bool:
        needed = device.vram_mb if demand.vram_mb is None else demand.vram_mb
        return self.free_mb(device) >= needed
