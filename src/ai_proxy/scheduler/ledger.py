"""The ledger: what each device has, what of it is charged to whom, and what a demand finds there.

Pure book-keeping in MiB. It knows no service and no time; a holder is a name. Every figure is kept as it changes, so
that a question costs no walk over the holders. What is known of a device is a value that is replaced, never changed:
a ledger in which some have left shares all the rest with its original. Several GPUs of one placement are of one make,
and none of them is a MIG instance, of which a process can use only one.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ai_proxy.devices import Device, Placement, Vendor


@dataclass(frozen=True, slots=True)
class Demand:
    """What a service needs to run.

    Attributes:
        gpus: Number of GPUs.
        pins: Ids or UUIDs of the very GPUs it must have; then `gpus` is their number.
        vram_mb: On each GPU; None for a GPU to itself.
        memory_mb: Of the host's memory.
        custom: Of the resources that the config names, by name.
    """

    gpus: int = 0
    pins: tuple[str, ...] = ()
    vram_mb: int | None = None
    memory_mb: int = 0
    custom: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        """Say it for people.

        Example:
            >>> str(Demand(gpus=2, vram_mb=9000, memory_mb=4000, custom=(("tokens", 1),)))
            '2 GPUs with 9,000 MB each and 4,000 MB of host memory and 1 of tokens'
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
        wants += [f"{amount:,} of {name}" for name, amount in self.custom]
        return " and ".join(wants) or "nothing"

    @property
    def least_vram_mb(self) -> int:
        """What a GPU must have free for it: whoever runs on one takes some of it.

        Example:
            >>> Demand(gpus=1, vram_mb=0).least_vram_mb
            1
        """
        return max(1, self.vram_mb or 0)


class Books(NamedTuple):
    """What is written of one device.

    Attributes:
        device: Which.
        place: Its place in the inventory's order.
        free_mb: As of `Ledger.free_mb`.
        foreign_mb: As of `Ledger.foreign_mb`.
        charges: As of `Ledger.holders_on`; never changed in place.
    """

    device: Device
    place: int
    free_mb: int
    foreign_mb: int
    charges: Mapping[str, int]


class Ledger:
    """Capacities and reservations.

    A holder is charged, on each device, what it reserved or what was measured of it, whichever is more. A reservation
    as large as the device, or larger, takes the device as a whole: that is how a service without a figure gets a GPU
    to itself.

    Args:
        devices: The GPUs, MIG devices among them, in the inventory's order.
        memory_mb: Host memory that may be reserved, in MiB.
        headroom_mb: Left free on each GPU, in MiB.
        capacities: What there is of the resources that the config names.

    Attributes:
        free_memory_mb: Host memory not reserved; negative where adopted replicas hold more than there is.
    """

    def __init__(
        self,
        devices: Iterable[Device],
        memory_mb: int,
        *,
        headroom_mb: int = 0,
        capacities: Mapping[str, int] | None = None,
    ) -> None:
        self.devices = tuple(devices)
        self.memory_mb = memory_mb
        self.headroom_mb = headroom_mb
        self.capacities = dict(capacities or {})
        self._empty = {
            device.uuid: Books(device, place, device.vram_mb - headroom_mb, 0, {})
            for place, device in enumerate(self.devices)
        }

        self._makes = _by_make(self.devices)

        self.free_memory_mb = memory_mb
        self._free_custom = dict(self.capacities)
        self._books = dict(self._empty)
        self._held: dict[str, Placement] = {}
        self._charged: dict[str, tuple[str, ...]] = {}

    def __repr__(self) -> str:
        free = ", ".join(f"{books.device.id}: {books.free_mb}/{books.device.vram_mb}" for books in self._books.values())
        return f"<Ledger {len(self._held)} held, free MB {{{free}}}, memory {self.free_memory_mb}/{self.memory_mb}>"

    def __contains__(self, holder: str) -> bool:
        return holder in self._held

    @property
    def holders(self) -> int:
        """How many hold something."""
        return len(self._held)

    @property
    def held(self) -> dict[str, Placement]:
        """All reservations by holder; a copy."""
        return dict(self._held)

    def placement(self, holder: str) -> Placement:
        """What a holder reserved.

        Raises:
            KeyError: It holds nothing.
        """
        return self._held[holder]

    def free_mb(self, device: Device) -> int:
        """VRAM that a demand may have; negative where more is used than there is.

        Example:
            >>> gpu = Device("0", "GPU-a", 1000)
            >>> ledger = Ledger([gpu], 0, headroom_mb=50)
            >>> ledger.reserve("chat", Placement((gpu,), vram_mb=600))
            >>> ledger.measure("GPU-a", 100)
            >>> ledger.free_mb(gpu)
            250
        """
        return self._books[device.uuid].free_mb

    def foreign_mb(self, device: Device) -> int:
        """VRAM of a device that none of the holders uses."""
        return self._books[device.uuid].foreign_mb

    def free_custom(self, name: str) -> int:
        """What is left of a resource that the config names; one that it does not name has nothing."""
        return self._free_custom.get(name, 0)

    def holders_on(self, uuid: str) -> Mapping[str, int]:
        """Who is on a device, with what it is charged there in MiB; to be read only."""
        return self._books[uuid].charges

    def books(self, devices: Iterable[Device]) -> list[Books]:
        """All that is written of some devices, in their order."""
        books = self._books
        return [books[device.uuid] for device in devices]

    def spread(self, holder: str) -> int:
        """On how many devices a holder is charged."""
        return len(self._charged[holder])

    def shared_out(self, costs: Mapping[str, float]) -> dict[str, float]:
        """What each of some holders costs each device that it is on; all of it for one that is on none."""
        charged = self._charged
        return {holder: cost / (len(charged[holder]) or 1) for holder, cost in costs.items()}

    def reserve(self, holder: str, placement: Placement) -> None:
        """Note what a holder has; a second note replaces the first and what was measured under it."""
        self.release(holder)
        self._held[holder] = placement
        self.free_memory_mb -= placement.memory_mb
        for name, amount in placement.custom:
            self._free_custom[name] = self.free_custom(name) - amount
        # What was adopted may be on a device that this machine does not show any more.
        uuids = dict.fromkeys(device.uuid for device in placement.devices if device.uuid in self._books)
        self._charged[holder] = tuple(uuids)
        for uuid in uuids:
            self._write(uuid, holder, _reserved_mb(placement, self._books[uuid].device))

    def repeat(self, holder: str, other: "Ledger") -> None:
        """Have a holder hold in another ledger of these devices what it holds here, with what was measured of it."""
        other.reserve(holder, self._held[holder])
        for uuid in self._charged[holder]:
            other.charge(holder, uuid, self._books[uuid].charges[holder])

    def release(self, holder: str) -> None:
        """Forget a holder; idempotent."""
        placement = self._held.pop(holder, None)
        if placement is None:
            return
        self.free_memory_mb += placement.memory_mb
        for name, amount in placement.custom:
            self._free_custom[name] += amount
        for uuid in self._charged.pop(holder):
            self._write(uuid, holder, None)

    def measure(self, uuid: str, foreign_mb: int) -> None:
        """Note what others than the holders use of a device; it replaces the last such note."""
        books = self._books[uuid]
        if foreign_mb != books.foreign_mb:
            free_mb = books.free_mb + books.foreign_mb - foreign_mb
            self._books[uuid] = books._replace(free_mb=free_mb, foreign_mb=foreign_mb)

    def charge(self, holder: str, uuid: str, measured_mb: int) -> None:
        """Note what a holder was seen to use of a device, its own or another; it counts if more than was reserved.

        Whoever holds nothing is not charged: what is left of it is foreign use, or in quarantine under another name.
        """
        placement, books = self._held.get(holder), self._books.get(uuid)
        if placement is None or books is None:
            return
        reserved_mb = _reserved_mb(placement, books.device)
        charged_mb = max(reserved_mb or 0, measured_mb)
        if charged_mb == books.charges.get(holder, 0):
            return
        gone = reserved_mb is None and not charged_mb
        others = tuple(other for other in self._charged[holder] if other != uuid)
        self._charged[holder] = others if gone else (*others, uuid)
        self._write(uuid, holder, None if gone else charged_mb)

    def without(self, holders: Iterable[str]) -> "Ledger":
        """A ledger of its own in which these have left; it costs a copy of two tables, not of what is in them."""
        other = Ledger((), self.memory_mb, headroom_mb=self.headroom_mb)
        other.devices, other.capacities = self.devices, self.capacities
        other.free_memory_mb = self.free_memory_mb
        other._free_custom = self._free_custom.copy()
        other._empty, other._makes, other._books = self._empty, self._makes, self._books.copy()
        other._held, other._charged = self._held.copy(), self._charged.copy()
        for holder in holders:
            other.release(holder)
        return other

    def with_only(self, holders: Iterable[str]) -> "Ledger":
        """A ledger of its own in which these hold what they reserved, and nobody else uses anything."""
        other = Ledger((), self.memory_mb, headroom_mb=self.headroom_mb, capacities=self.capacities)
        other.devices, other._makes = self.devices, self._makes
        other._empty, other._books = self._empty, self._empty.copy()
        for holder in holders:
            other.reserve(holder, self._held[holder])
        return other

    def eligible(self, demand: Demand) -> list[Device]:
        """The devices that a demand may be placed on, whatever is on them."""
        devices: Iterable[Device] = self.devices
        if demand.pins:
            devices = [device for device in devices if device.id in demand.pins or device.uuid in demand.pins]
        return [device for device in devices if not _is_part(device)] if demand.gpus > 1 else list(devices)

    def alike(self, demand: Demand) -> list[list[Device]]:
        """The devices that a demand may be placed on, in the sets whose members may be combined.

        Example:
            >>> ledger = Ledger([Device("0", "GPU-a", 8), Device("amd0", "b", 8, vendor=Vendor.AMD)], 0)
            >>> [[device.id for device in some] for some in ledger.alike(Demand(gpus=2))]
            [['0'], ['amd0']]
            >>> [[device.id for device in some] for some in ledger.alike(Demand(gpus=1))]
            [['0', 'amd0']]
        """
        if demand.gpus < 2:
            return [self.eligible(demand) if demand.gpus else []]
        return _by_make(self.eligible(demand)) if demand.pins else self._makes

    def fit(self, demand: Demand, avoid: Collection[str] = ()) -> Placement | None:
        """Place a demand on the devices with the least room to spare.

        One that takes GPUs as a whole gets those with the most room: what it will use of them is not known yet, and
        neither what others use of them nor the headroom forbids it. Several GPUs are of one make, none of them a MIG
        instance.

        Args:
            demand: What is asked for.
            avoid: UUIDs of devices that are out of question for now.

        Returns:
            Where it fits now; None where it does not.

        Example:
            >>> ledger = Ledger([Device("0", "GPU-a", 24000), Device("1", "GPU-b", 12000)], 0)
            >>> [device.id for device in ledger.fit(Demand(gpus=1, vram_mb=9000)).devices]
            ['1']
            >>> [device.id for device in ledger.fit(Demand(gpus=1, vram_mb=9000), avoid={"GPU-b"}).devices]
            ['0']
            >>> ledger.fit(Demand(gpus=2, vram_mb=13000)) is None
            True
        """
        if not self._has_shared(demand):
            return None
        if not demand.gpus:
            return Placement(memory_mb=demand.memory_mb, custom=demand.custom)
        if not demand.pins and (demand.gpus == 1 or self._are_alike):
            return self._fit_on(self._books.values(), demand, avoid)
        found = [self._fit_on(self.books(some), demand, avoid) for some in self.alike(demand)]
        # Like the devices of one make: the tightest, or the roomiest if they are taken as a whole.
        sign = -1 if demand.vram_mb is None else 1
        fitting = [placement for placement in found if placement is not None]
        return min(fitting, key=lambda p: sign * sum([self.free_mb(d) for d in p.devices]), default=None)

    def _fit_on(self, books: Iterable[Books], demand: Demand, avoid: Collection[str]) -> Placement | None:
        """Place a demand on some of these devices."""
        whole, least_mb = demand.vram_mb is None, demand.least_vram_mb
        fitting = [b for b in books if not b.charges] if whole else [b for b in books if b.free_mb >= least_mb]
        if avoid:
            fitting = [b for b in fitting if b.device.uuid not in avoid]
        if len(fitting) < demand.gpus:
            return None
        fitting.sort(key=lambda b: -b.free_mb if whole else b.free_mb)
        chosen = sorted(fitting[: demand.gpus], key=lambda b: b.place)
        devices = tuple(b.device for b in chosen)
        vram_mb = max(d.vram_mb for d in devices) if demand.vram_mb is None else demand.vram_mb
        return Placement(devices, vram_mb, demand.memory_mb, demand.custom)

    @property
    def _are_alike(self) -> bool:
        """All devices may be combined."""
        return len(self._makes) == 1 and len(self._makes[0]) == len(self.devices)

    def _has_shared(self, demand: Demand) -> bool:
        """What devices share is there: host memory, and what the config names."""
        return (not demand.memory_mb or demand.memory_mb <= self.free_memory_mb) and all(
            amount <= self.free_custom(name) for name, amount in demand.custom
        )

    def _write(self, uuid: str, holder: str, charged_mb: int | None) -> None:
        """Set what a holder is charged on a device; None: it is not on it."""
        device, place, free_mb, foreign_mb, charges = self._books[uuid]
        charges = dict(charges)
        free_mb += charges.pop(holder, 0)
        if charged_mb is not None:
            charges[holder] = charged_mb
            free_mb -= charged_mb
        self._books[uuid] = Books(device, place, free_mb, foreign_mb, charges)


def _is_part(device: Device) -> bool:
    """Whether it is a MIG instance; one that the config declares may have no UUID."""
    return device.uuid.startswith("MIG-") or (device.vendor is Vendor.NVIDIA and ":" in device.id)


def _by_make(devices: Iterable[Device]) -> list[list[Device]]:
    """Sets of devices of which an engine can use several at once."""
    found: dict[Vendor, list[Device]] = {}
    for device in devices:
        if not _is_part(device):
            found.setdefault(device.vendor, []).append(device)
    return list(found.values())


def _reserved_mb(placement: Placement, device: Device) -> int | None:
    """What a placement takes of a device; None if it is not on it."""
    if all(held.uuid != device.uuid for held in placement.devices):
        return None
    return min(placement.vram_mb, device.vram_mb)
