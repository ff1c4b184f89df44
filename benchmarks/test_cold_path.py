"""What the core costs where services swap: every start needs another to leave, its stop, its launch, its readiness.

In a storm all are idle soon; in a jam all work and many wait, and with each request that ends somebody may start. Time
is that of the thread, which the neighbours on a busy machine change least. `extra_info` has what counts: grants and
steps a second, how long the longest steps hold the loop, and how often garbage was collected meanwhile, since the
fastest of several runs would hide what a collection takes.
"""

import gc
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import accumulate

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from tests.scheduler.fleets import gpus

from ai_proxy.config.sharing import SchedulingConfig
from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler import core
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.ledger import Demand, Ledger
from ai_proxy.scheduler.lines import Waiter
from ai_proxy.scheduler.place import PAUSE_S
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.scheduler.state import SchedulerState
from ai_proxy.scheduler.terms import settings_of
from ai_proxy.services.machine import Action, Event

GRANTS = 1500
CROWD = 8
"""Requests that wait for one start."""

ROUNDS = 3
"""So often the same storm blows."""

JAM = 60
"""Services that wait where all work."""

REPORTS = {Action.LAUNCH: Event.LAUNCHED, Action.PROBE: Event.HEALTHY, Action.STOP: Event.GONE}


class Storm:
    """Services that are asked for at random, three of which fit on a device; what is started is ready at once."""

    def __init__(self, services: int, devices: int) -> None:
        self.state = SchedulerState(Ledger(gpus(*[24_000] * devices), 0), settings_of(SchedulingConfig()))
        self.names = [f"s{number}" for number in range(services)]
        self.odds = list(accumulate(1 / (rank + 1) ** 0.6 for rank in range(services)))
        self.draws = random.Random(1)  # which service comes next guards nothing
        self.now = 1.0
        self.granted = 0
        self.asked = 0
        self.steps_s: list[float] = []
        self.is_jammed = False
        for name in self.names:
            core.step(self.state, 0.0, do.Configured(ServiceSpec(name, Demand(1, vram_mb=8_000))))

    def blow(self, grants: int, crowd: int) -> None:
        """Let clients come in crowds until so many of them had to wait and got their grants."""
        until = self.granted + grants
        while self.granted < until:
            (name,) = self.draws.choices(self.names, cum_weights=self.odds)
            self.now += 1.0
            if (live := self.state.ready.get(name)) is not None:
                live.last_used = self.now
                continue
            self._settle([self._arrival(name) for _ in range(crowd)])

    def jam(self, grants: int) -> None:
        """Let a request end, and another service be asked for in the place of the one that starts for that."""
        until = self.granted + grants
        while self.granted < until:
            self.now += 1.0
            working = [each.live for each in self.state.replicas.values() if each.live is not None and each.live.open]
            live = self.draws.choice(working)
            live.open, live.last_used = 0, self.now
            asked = [name for name in self.names if name not in self.state.ready | self.state.interested]
            missing = max(0, JAM - len(self.state.interested))
            arrivals = [self._arrival(name) for name in self.draws.sample(asked, missing)]
            self._settle([do.Closed(live.replica.service.id), *arrivals])

    def _arrival(self, name: str) -> do.Event:
        self.asked += 1
        return do.Arrived(Waiter(self.asked, name, self.now, self.now + 600.0))

    def _settle(self, events: list[do.Event]) -> None:
        ahead = deque(events)
        while ahead or self.state.timers.nearest <= self.now + PAUSE_S:
            self.now = max(self.now, self.state.timers.nearest) if not ahead else self.now
            event = ahead.popleft() if ahead else do.Tick()
            began = time.thread_time()
            actions = core.step(self.state, self.now, event)
            self.steps_s.append(time.thread_time() - began)
            for action in actions:
                if isinstance(action, do.Admit):
                    self.granted += 1
                    action.live.open -= not self.is_jammed
                    action.live.last_used = self.now
                elif isinstance(action, do.Run) and (report := REPORTS.get(action.action)) is not None:
                    instance = Instance("i", action.replica, "127.0.0.1", 1) if report is Event.LAUNCHED else None
                    ahead.append(do.Reported(action.replica, report, instance))


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Collect garbage as the server does."""
    thresholds = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    yield
    gc.set_threshold(*thresholds)


@pytest.mark.parametrize("crowd", [1, CROWD], ids=["one waits", "a crowd waits"])
@pytest.mark.parametrize(
    ("services", "devices"),
    [(10, 1), (100, 1), (100, 8), (1000, 1), (1000, 8), (1000, 256)],
    ids=lambda size: f"{size}",
)
def test_swap_storm(benchmark: BenchmarkFixture, services: int, devices: int, crowd: int) -> None:
    grants = GRANTS if devices < 256 or crowd > 1 else 200
    measure(benchmark, lambda: stormy(services, devices), lambda storm: storm.blow(grants, crowd))


@pytest.mark.parametrize(("services", "devices"), [(100, 8), (1000, 8), (1000, 256)], ids=lambda size: f"{size}")
def test_jam(benchmark: BenchmarkFixture, services: int, devices: int) -> None:
    measure(benchmark, lambda: jammed(services, devices), lambda storm: storm.jam(60))


def stormy(services: int, devices: int) -> Storm:
    """All rest, and hold all the room."""
    storm = Storm(services, devices)
    storm.blow(min(services, 6 * devices), 1)
    return storm


def jammed(services: int, devices: int) -> Storm:
    """All work, and as many wait as may."""
    storm = stormy(services, devices)
    storm.is_jammed = True
    for live in storm.state.ready.values():
        live.open = 1
    storm.jam(3)
    return storm


def measure(benchmark: BenchmarkFixture, prepare: Callable[[], Storm], blow: Callable[[Storm], None]) -> None:
    """Let the same storm blow a few times, and say what its steps took.

    What holds up a machine that others use too strikes another step each time, and ten times as long as a step takes:
    of each step the fastest time counts for how long it holds the loop. `step_raw_max_us` is the longest of all.
    """
    storms: list[Storm] = []
    before: list[int] = []
    collected: list[int] = []

    def blown(storm: Storm) -> None:
        earlier = _collections()
        blow(storm)
        collected.append(_collections() - earlier)

    def calm() -> tuple[tuple[Storm], dict[str, object]]:
        storms.append(prepare())
        before.append(storms[-1].granted)
        storms[-1].steps_s.clear()
        gc.collect()
        gc.freeze()  # as the proxy does once it is up
        return (storms[-1],), {}

    benchmark.pedantic(blown, setup=calm, rounds=ROUNDS)  # type: ignore[no-untyped-call]  # untyped plugin

    gc.unfreeze()
    runs = [storm.steps_s for storm in storms]
    steps_s = sorted(map(min, zip(*runs, strict=True)))
    spent_s = statistics.median(map(sum, runs))
    benchmark.extra_info |= {
        "grants_per_s": round((storms[0].granted - before[0]) / spent_s),
        "steps_per_s": round(len(steps_s) / spent_s),
        "step_p50_us": round(steps_s[len(steps_s) // 2] * 1e6),
        "step_p99_us": round(steps_s[len(steps_s) * 99 // 100] * 1e6),
        "step_max_us": round(steps_s[-1] * 1e6),
        "step_raw_max_us": round(max(map(max, runs)) * 1e6),
        "collections": sum(collected),
    }


def _collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())
