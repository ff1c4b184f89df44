"""What one decision of the planner costs: by services and devices, with room, with victims to choose, without hope.

`extra_info` says how many decisions a second that is, and what the slowest percent took. Every fleet is full: each
device is packed with replicas of 4 to 12 GB, a fifth of them busy, every other one able to sleep.
"""

import gc
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from tests.scheduler.fleets import Occupant, Occupants, gpus

from ai_proxy.devices import Placement
from ai_proxy.scheduler.ledger import Demand, Ledger
from ai_proxy.scheduler.planner import Ask, Evict, Plan, Rung, Start, Wait, plan

pytestmark = pytest.mark.benchmark(timer=time.thread_time)
"""What else the machine does meanwhile is not counted."""

GPU_MB = 24_000
HOST_MB = 4_000_000
TURNS, RUNS = 50, 3
"""So many decisions for each fleet, and all of them so often; of each the fastest counts."""

FLEETS = 8
"""So many different fleets take turns: the caches of the machine are as cold as they would be."""


@dataclass(slots=True)
class Fleet:
    """A ledger, and who is in it."""

    ledger: Ledger
    residents: Occupants


def full(services: int, devices: int, seed: int) -> Fleet:
    """As many of the services as fit."""
    chance = random.Random(seed)
    ledger = Ledger(gpus(*[GPU_MB] * devices), HOST_MB, headroom_mb=512)
    residents = Occupants()
    for number in range(services):
        size_mb = chance.choice((4_000, 5_000, 6_000, 8_000, 12_000))
        placement = ledger.fit(Demand(2 if devices > 1 and chance.random() < 0.1 else 1, (), size_mb))
        if placement is None:
            continue
        holder, regret = f"s{number}", chance.expovariate(1 / 20)
        ledger.reserve(holder, placement)
        asleep = Rung(1, Placement(placement.devices, 500, 4_000), regret / 5)
        rungs = (asleep,) * (number % 2) + (Rung(0, Placement(), regret),)
        residents[holder] = Occupant(holder, placement, idle=chance.random() > 0.2, rungs=rungs)
    return Fleet(ledger, residents)


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Collect garbage as the server does: nothing that was built before, and not at every turn."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def measure(benchmark: BenchmarkFixture, fleets: list[Fleet], ask: Ask, expected: type[Plan]) -> None:
    """Let the fleets take turns, as far as the answer is the expected one."""

    def decide(ask: Ask, fleet: Fleet) -> Plan:
        return plan(ask, fleet.ledger, fleet.residents)

    fleets = [fleet for fleet in fleets if isinstance(decide(ask, fleet), expected)]
    assert fleets
    verdicts = [decide(ask, fleet) for fleet in fleets]
    turns = cycle(fleets)

    def next_fleet() -> tuple[tuple[Ask, Fleet], dict[str, object]]:
        return (ask, next(turns)), {}

    once = TURNS * len(fleets)
    benchmark.pedantic(  # type: ignore[no-untyped-call]  # the plugin ships no types for it
        decide, setup=next_fleet, rounds=RUNS * once, warmup_rounds=20
    )
    if benchmark.stats is not None:
        taken_s: list[float] = benchmark.stats.stats.data
        # What holds up a machine that others use too strikes another decision each time.
        runs = [taken_s[run * once : (run + 1) * once] for run in range(RUNS)]
        fastest_s = list(map(min, zip(*runs, strict=True)))
        benchmark.extra_info["p99_ms"] = round(statistics.quantiles(fastest_s, n=100)[98] * 1e3, 3)
        benchmark.extra_info["raw_p99_ms"] = round(statistics.quantiles(taken_s, n=100)[98] * 1e3, 3)
        benchmark.extra_info["decisions_per_s"] = round(1 / statistics.median(taken_s))
        benchmark.extra_info["exact"] = all(v.exact for v in verdicts if isinstance(v, Evict))


ALL = [(services, devices) for services in (10, 100, 1000) for devices in (1, 8, 256)]
CROWDED = [(services, devices) for services, devices in ALL if services > 3 * devices]


def fleets(services: int, devices: int) -> list[Fleet]:
    return [full(services, devices, seed) for seed in range(FLEETS)]


@pytest.mark.parametrize(("services", "devices"), ALL)
def test_it_fits(benchmark: BenchmarkFixture, services: int, devices: int) -> None:
    crowd = fleets(services, devices)
    for fleet in crowd:
        last, _ = fleet.residents.popitem()
        fleet.ledger.release(last)
    measure(benchmark, crowd, Ask("new", Demand(1, (), 3_000)), Start)


@pytest.mark.parametrize(("services", "devices"), CROWDED)
def test_victims_on_one_gpu(benchmark: BenchmarkFixture, services: int, devices: int) -> None:
    measure(benchmark, fleets(services, devices), Ask("new", Demand(1, (), 12_000)), Evict)


@pytest.mark.parametrize(("services", "devices"), [size for size in CROWDED if size[1] > 1])
def test_victims_on_four_gpus(benchmark: BenchmarkFixture, services: int, devices: int) -> None:
    measure(benchmark, fleets(services, devices), Ask("new", Demand(4, (), 12_000, memory_mb=64_000)), Evict)


@pytest.mark.parametrize(("services", "devices"), CROWDED)
def test_all_are_busy(benchmark: BenchmarkFixture, services: int, devices: int) -> None:
    crowd = fleets(services, devices)
    for fleet in crowd:
        busy = {holder: replace(resident, idle=False) for holder, resident in fleet.residents.items()}
        fleet.residents = Occupants(busy)
    measure(benchmark, crowd, Ask("new", Demand(1, (), 12_000)), Wait)
