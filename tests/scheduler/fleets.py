"""Random fleets: devices, demands and reservations, for the property tests of this package."""

from dataclasses import dataclass

from hypothesis import strategies as st

from ai_proxy.devices import Device
from ai_proxy.scheduler.ledger import Demand, Ledger
from ai_proxy.scheduler.planner import Resident

SIZES_MB = (8_000, 12_000, 24_000)
DEMANDS_MB = (1_000, 4_000, 7_000, 12_000, 20_000)
HOST_MB = 32_000


def gpus(*sizes_mb: int) -> tuple[Device, ...]:
    return tuple(Device(str(index), f"GPU-{index}", size_mb) for index, size_mb in enumerate(sizes_mb))


def devices() -> st.SearchStrategy[tuple[Device, ...]]:
    return st.lists(st.sampled_from(SIZES_MB), max_size=4).map(lambda sizes: gpus(*sizes))


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    memory_mb = draw(st.sampled_from((0, 0, 4_000, 20_000)))
    vram_mb = draw(st.sampled_from((None, *DEMANDS_MB)))
    if draw(st.integers(0, 4)) == 0:
        pins = tuple(draw(st.lists(st.sampled_from(("0", "1", "GPU-2")), min_size=1, max_size=2, unique=True)))
        return Demand(len(pins), pins, vram_mb, memory_mb)
    return Demand(draw(st.integers(0, 3)), (), vram_mb, memory_mb)


@dataclass(frozen=True, slots=True)
class Crowd:
    """A ledger with residents in it."""

    ledger: Ledger
    residents: tuple[Resident, ...]


@st.composite
def crowds(draw: st.DrawFn) -> Crowd:
    """Residents that were placed one by one wherever they fitted."""
    ledger = Ledger(draw(devices()), HOST_MB)
    residents = []
    for index in range(draw(st.integers(0, 7))):
        placement = ledger.fit(draw(demands()))
        if placement is None:
            continue
        ledger.reserve(f"r{index}", placement)
        idle, pinned = draw(st.booleans()), draw(st.integers(0, 4)) == 0
        leaving = draw(st.integers(0, 4)) == 0
        age = float(draw(st.integers(0, 5)))
        residents.append(Resident(f"r{index}", age, idle=idle and not leaving, pinned=pinned, leaving=leaving))
    return Crowd(ledger, tuple(residents))
