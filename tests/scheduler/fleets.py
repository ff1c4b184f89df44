"""Random fleets: devices, demands, and who holds what, for the property tests of this package."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from ai_proxy.devices import Device, Placement, Vendor
from ai_proxy.scheduler.ledger import Demand, Ledger
from ai_proxy.scheduler.planner import Ask, Fleet, Rung

SIZES_MB = (8_000, 12_000, 24_000)
DEMANDS_MB = (1_000, 4_000, 7_000, 12_000, 20_000)
HOST_MB = 32_000
TOKENS = {"tokens": 3}


def gpus(*sizes_mb: int) -> tuple[Device, ...]:
    return tuple(Device(str(index), f"GPU-{index}", size_mb) for index, size_mb in enumerate(sizes_mb))


@st.composite
def devices(draw: st.DrawFn, *, most: int = 4) -> tuple[Device, ...]:
    """GPUs; some are AMD's, some MIG instances."""
    kinds = st.sampled_from(("GPU", "GPU", "GPU", "AMD", "MIG"))
    found = []
    for gpu in gpus(*draw(st.lists(st.sampled_from(SIZES_MB), max_size=most))):
        kind = draw(kinds)
        vendor = Vendor.AMD if kind == "AMD" else Vendor.NVIDIA
        found.append(replace(gpu, uuid=f"{kind}-{gpu.id}", vendor=vendor))
    return tuple(found)


@st.composite
def demands(draw: st.DrawFn, *, custom: bool = False) -> Demand:
    memory_mb = draw(st.sampled_from((0, 0, 4_000, 20_000)))
    vram_mb = draw(st.sampled_from((None, *DEMANDS_MB)))
    tokens = (("tokens", draw(st.integers(1, 2))),) if custom and draw(st.booleans()) else ()
    if draw(st.integers(0, 4)) == 0:
        pins = tuple(draw(st.lists(st.sampled_from(("0", "1", "GPU-2")), min_size=1, max_size=2, unique=True)))
        return Demand(len(pins), pins, vram_mb, memory_mb, tokens)
    return Demand(draw(st.integers(0, 3)), (), vram_mb, memory_mb, tokens)


@dataclass(frozen=True, slots=True)
class Occupant:
    """A resident as plain data."""

    holder: str
    placement: Placement = field(default_factory=Placement)
    idle: bool = True
    pinned: bool = False
    leaving: bool = False
    priority: int = 0
    rungs: Sequence[Rung] = (Rung(0, Placement(), 1.0),)
    along: tuple[str, ...] = ()
    service: str = ""
    floor: float = math.inf

    def __post_init__(self) -> None:
        object.__setattr__(self, "service", self.service or self.holder)
        object.__setattr__(self, "floor", min(self.floor, *(rung.regret for rung in self.rungs)))


class Occupants(dict[str, Occupant], Fleet):
    """A fleet as plain data."""

    @property
    def leaving(self) -> list[str]:
        return [holder for holder, each in self.items() if each.leaving]

    @property
    def pinned(self) -> list[str]:
        return [holder for holder, each in self.items() if each.pinned and not each.leaving]

    @property
    def idle(self) -> dict[str, int]:
        return {
            holder: each.priority for holder, each in self.items() if each.idle and not each.pinned and not each.leaving
        }

    def floors(self, holders: Iterable[str]) -> dict[str, float]:
        return {holder: self[holder].floor for holder in holders}


@dataclass(frozen=True, slots=True)
class Crowd:
    """A ledger with residents in it."""

    ledger: Ledger
    residents: Occupants

    def holders(self, *, leaving: bool) -> list[str]:
        return [holder for holder, resident in self.residents.items() if resident.leaving is leaving]

    def candidates(self, ask: Ask) -> list[str]:
        """Who may be asked to give room for this ask."""
        return [
            holder
            for holder, resident in self.residents.items()
            if resident.idle and not resident.pinned and not resident.leaving and resident.priority <= ask.priority
        ]


@st.composite
def rungs(draw: st.DrawFn, placement: Placement) -> tuple[Rung, ...]:
    """To stop, and perhaps to sleep, which keeps some of the VRAM and takes host memory."""
    stop = Rung(0, Placement(), float(draw(st.integers(0, 20))))
    if draw(st.booleans()):
        return (stop,)
    kept_mb = draw(st.sampled_from((0, 500)))
    keeps = Placement(placement.devices * bool(kept_mb), kept_mb, placement.memory_mb + draw(st.integers(0, 9)) * 1_000)
    return (Rung(1, keeps, draw(st.integers(0, 10)) / 2), stop)


@st.composite
def crowds(draw: st.DrawFn, *, most: int = 7) -> Crowd:
    """Residents that were placed one by one wherever they fitted; then others may have taken some of the devices."""
    ledger = Ledger(draw(devices()), HOST_MB, headroom_mb=draw(st.sampled_from((0, 512))), capacities=TOKENS)
    residents = Occupants()
    for index in range(draw(st.integers(0, most))):
        placement = ledger.fit(draw(demands(custom=True)))
        if placement is None:
            continue
        holder = f"r{index}"
        ledger.reserve(holder, placement)
        leaving = draw(st.integers(0, 4)) == 0
        residents[holder] = Occupant(
            holder,
            placement,
            idle=draw(st.integers(0, 3)) > 0 and not leaving,
            pinned=draw(st.integers(0, 4)) == 0,
            leaving=leaving,
            priority=draw(st.sampled_from((0, 0, 0, 1))),
            rungs=draw(rungs(placement)),
            along=tuple(draw(st.sets(st.sampled_from(sorted(residents)), max_size=1))) if residents else (),
            service=f"s{index // 2}",
        )
    for device in ledger.devices:
        ledger.measure(device.uuid, draw(st.sampled_from((0, 0, 0, 3_000))))
    return Crowd(ledger, residents)


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    return Ask(
        draw(st.sampled_from(("new", "new", "s0"))),
        draw(demands(custom=True)),
        priority=draw(st.integers(0, 1)),
        conflicts=frozenset(draw(st.sets(st.sampled_from(("s1", "s2")), max_size=1))),
        requires=frozenset(draw(st.sets(st.sampled_from(("s1", "s3")), max_size=1))),
        loading=frozenset(draw(st.sets(st.sampled_from(("GPU-0", "GPU-1")), max_size=1))),
    )
