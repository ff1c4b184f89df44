"""What the runs say: ratios of the policies, and whether the bars are met."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

from benchmarks.policies.cases import Case

OURS, FLOOR = "ours", "clairvoyant"
BAR_TO_FLOOR = 1.35
BAR_TO_BEST = 1.05

type Cell = tuple[str, float]
"""A generator and an oversubscription; its seeds are added up."""

type Runs = Mapping[Case, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that is demanded, and whether it is so."""

    demand: str
    figure: str
    met: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison.

    Attributes:
        totals: Seconds of cold starts over all seeds, by cell and policy.
        means: Geometric mean over all cells of the ratio to the floor, by policy.
        best_fixed: The fixed policy with the smallest of these.
        bars: What is demanded of ours.
        failing: Cells in which ours is beyond the bar to the cell's own best fixed policy, with that policy and ratio.
        single_runs: How many runs of one seed are beyond that bar, of how many.
    """

    totals: Mapping[Cell, Mapping[str, float]]
    means: Mapping[str, float]
    best_fixed: str
    bars: tuple[Bar, ...]
    failing: tuple[tuple[Cell, str, float], ...]
    single_runs: tuple[int, int]


def judge(runs: Runs, policies: Sequence[str]) -> Verdict:
    """Compare the policies over all runs."""
    fixed = [policy for policy in policies if policy not in {OURS, FLOOR}]
    totals: dict[Cell, dict[str, float]] = {}
    for case, reports in runs.items():
        cell = totals.setdefault((case.generator, case.oversubscription), dict.fromkeys(policies, 0.0))
        for policy in policies:
            cell[policy] += reports[policy]["cold_start_s"]
    means = {policy: geometric_mean([cell[policy] / cell[FLOOR] for cell in totals.values()]) for policy in policies}
    best_fixed = min(fixed, key=lambda policy: means[policy])
    to_best = {name: _to_best(cell, fixed) for name, cell in totals.items()}
    failing = tuple((name, policy, ratio) for name, (policy, ratio) in to_best.items() if ratio > BAR_TO_BEST)
    singles = [_to_best({p: reports[p]["cold_start_s"] for p in policies}, fixed)[1] for reports in runs.values()]
    worst = max(to_best, key=lambda name: to_best[name][1])
    ours = [reports[OURS] for reports in runs.values()]
    unanswered = sum(report["unanswered"] for report in ours)
    late = sum(report["fairness"]["violations"] for report in ours)
    bars = (
        Bar(
            f"geometric mean of ours ≤ that of the best single fixed policy ({best_fixed})",
            f"{means[OURS]:.3f} against {means[best_fixed]:.3f}",
            means[OURS] <= means[best_fixed],
        ),
        Bar(f"ours ≤ {BAR_TO_FLOOR} × the clairvoyant", f"{means[OURS]:.3f}", means[OURS] <= BAR_TO_FLOOR),
        Bar(
            f"in no case > {BAR_TO_BEST} × that case's own best fixed policy",
            f"{to_best[worst][1]:.3f} at worst ({label(worst)}, against {to_best[worst][0]})",
            not failing,
        ),
        Bar("no request of ours without an answer", f"{unanswered}", not unanswered),
        Bar("no wait of ours beyond the fairness bound", f"{late}", not late),
    )
    return Verdict(totals, means, best_fixed, bars, failing, (sum(r > BAR_TO_BEST for r in singles), len(singles)))


def label(cell: Cell) -> str:
    """A cell, for people.

    Example:
        >>> label(("zipf", 2.5))
        'zipf × 2.5'
    """
    return f"{cell[0]} × {cell[1]:g}"


def _to_best(cell: Mapping[str, float], fixed: Sequence[str]) -> tuple[str, float]:
    """The best fixed policy, and ours as a multiple of it."""
    best = min(fixed, key=lambda policy: cell[policy])
    return best, cell[OURS] / cell[best] if cell[best] else 1.0
