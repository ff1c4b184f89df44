"""What is compared on: fleets that want more than there is, and traces drawn or recorded."""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ai_proxy.config.sharing import SchedulingConfig
from ai_proxy.devices import Device
from ai_proxy.scheduler.ledger import Demand
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.scheduler.terms import settings_of
from ai_proxy.sim.model import EngineModel, Fleet, assumed_ready_s
from ai_proxy.sim.recorded import read_rows
from ai_proxy.sim.simulate import simulate
from ai_proxy.sim.traces import GENERATORS, Request, sessions

SERVICES = 16
LEAST_MB, MOST_MB = 4 * 1024, 40 * 1024
OVERSUBSCRIPTIONS = (1.5, 2.5, 4.0)
DAY_S = 86_400.0
RATES_PER_S = {"poisson": 0.03, "zipf": 0.03, "diurnal": 0.03, "chains": 0.03, "bursty": 0.15}
"""Requests a second in the mean. A burst is one cold start at most, so there are more requests in them."""

RECORDED = "azure"

FIGURES = (
    "requests", "refused", "unanswered", "cold_starts", "cold_start_s", "loads", "load_s", "evictions", "waits",
    "fairness",
)  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One trace on one fleet."""

    generator: str
    oversubscription: float
    seed: int

    @property
    def number(self) -> int:
        """A seed for its draws, of its own and the same in every process."""
        return int.from_bytes(hashlib.sha256(f"{self.generator} {self.seed}".encode()).digest()[:4])


def fleet_of(case: Case) -> Fleet:
    """Sixteen services of 4 to 40 GB on one GPU (even seeds) or two equal ones (odd seeds)."""
    dice = random.Random(case.number)
    sizes_mb = [int(dice.uniform(LEAST_MB, MOST_MB)) for _ in range(SERVICES)]
    gpus = 1 + case.seed % 2
    vram_mb = max(int(sum(sizes_mb) / case.oversubscription / gpus), *sizes_mb)
    specs = tuple(
        ServiceSpec(f"s{index:02}", demand=Demand(1, vram_mb=size_mb)) for index, size_mb in enumerate(sizes_mb)
    )
    return Fleet(
        devices=tuple(Device(str(index), f"GPU-{index}", vram_mb) for index in range(gpus)),
        memory_mb=0,
        specs=specs,
        engines={
            spec.id: EngineModel(size_mb, assumed_ready_s(size_mb))
            for spec, size_mb in zip(specs, sizes_mb, strict=True)
        },
        settings=settings_of(SchedulingConfig()),
    )


def trace_of(case: Case, fleet: Fleet, recorded: Path | None) -> list[Request]:
    """A day of requests; the recorded hour is stretched to one, and its requests are dealt to the services."""
    services = [spec.id for spec in fleet.specs]
    if case.generator == RECORDED:
        if recorded is None:
            raise ValueError("the recorded trace was not given")
        return sessions(_recorded(recorded), services, case.number)
    return GENERATORS[case.generator](services, DAY_S, RATES_PER_S[case.generator], case.number)


def run(case: Case, policies: tuple[str, ...], recorded: Path | None) -> tuple[Case, Mapping[str, Any]]:
    """All policies on one trace and fleet: what the page and a second look need of their reports, by policy."""
    fleet = fleet_of(case)
    trace = trace_of(case, fleet, recorded)
    reports = {policy: simulate(fleet, trace, policy=policy).report.as_json() for policy in policies}
    return case, {policy: {figure: report[figure] for figure in FIGURES} for policy, report in reports.items()}


@cache
def _recorded(path: Path) -> list[tuple[float, float]]:
    rows = read_rows(path)
    begin, end = min(row.at for row in rows), max(row.at for row in rows)
    return [((row.at - begin) * DAY_S / (end - begin), row.service_time_s) for row in rows]


def cases(generators: list[str], seeds: int) -> list[Case]:
    """The grid, the seeds of a case next to each other."""
    return [Case(name, times, seed) for name in generators for times in OVERSUBSCRIPTIONS for seed in range(seeds)]
