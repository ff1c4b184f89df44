"""The judgement over a comparison of policies: what counts as met, and which cases are named."""

from collections.abc import Mapping
from typing import Any

import pytest
from benchmarks.policies.cases import Case, fleet_of
from benchmarks.policies.plot import plot
from benchmarks.policies.report import page, summary
from benchmarks.policies.verdict import Verdict, judge

POLICIES = ("ours", "lru", "lfu", "clairvoyant")


def reports(*, unanswered: int = 0, violations: int = 0, **totals: float) -> Mapping[str, Any]:
    """What one trace cost under each policy."""
    return {
        policy: {
            "cold_start_s": total,
            "unanswered": unanswered,
            "fairness": {"violations": violations},
        }
        for policy, total in totals.items()
    }


def judged(*runs: Mapping[str, Any]) -> Verdict:
    """Each run a case of its own."""
    return judge({Case("zipf", float(times), 0): run for times, run in enumerate(runs, 1)}, POLICIES)


def test_seeds_of_a_case_are_added_up_before_they_are_compared() -> None:
    runs = {
        Case("zipf", 2.5, 0): reports(ours=12.0, lru=10.0, lfu=30.0, clairvoyant=10.0),
        Case("zipf", 2.5, 1): reports(ours=8.0, lru=10.0, lfu=30.0, clairvoyant=10.0),
    }

    verdict = judge(runs, POLICIES)

    assert verdict.totals == {("zipf", 2.5): {"ours": 20.0, "lru": 20.0, "lfu": 60.0, "clairvoyant": 20.0}}
    assert verdict.failing == ()
    assert verdict.single_runs == (1, 2)


def test_the_best_fixed_policy_is_the_one_that_is_best_in_the_mean() -> None:
    verdict = judged(
        reports(ours=10.0, lru=10.0, lfu=20.0, clairvoyant=10.0),
        reports(ours=10.0, lru=12.0, lfu=10.0, clairvoyant=10.0),
    )

    assert verdict.best_fixed == "lru"
    assert verdict.means["lfu"] == pytest.approx(2.0**0.5)


def test_a_case_that_is_worse_than_its_own_best_is_named_with_it() -> None:
    verdict = judged(
        reports(ours=10.0, lru=20.0, lfu=9.0, clairvoyant=9.0),
        reports(ours=10.0, lru=20.0, lfu=20.0, clairvoyant=9.0),
    )

    assert [(cell, policy) for cell, policy, _ in verdict.failing] == [(("zipf", 1.0), "lfu")]
    assert [bar.met for bar in verdict.bars] == [True, True, False, True, True]
    assert "beyond: zipf × 1, 1.111 × lfu" in summary(verdict)


def test_lost_requests_and_broken_promises_of_ours_are_missed_bars() -> None:
    verdict = judged(reports(ours=1.0, lru=1.0, lfu=1.0, clairvoyant=1.0, unanswered=1, violations=2))

    assert [bar.met for bar in verdict.bars] == [True, True, True, False, False]


def test_page_and_plot_show_every_case_and_policy() -> None:
    verdict = judged(reports(ours=10.0, lru=20.0, lfu=9.0, clairvoyant=9.0))
    about = {"date": "2030-01-01", "command": "c", "duration_s": 1.0, "machine": "m", "cases": 1, "seeds": 1}

    text, picture = page({**about, "recorded": ""}, verdict, POLICIES, "plot.svg"), plot(verdict, POLICIES)

    assert "| zipf × 1 | 1.11 | 2.22 | **1.00** | 1.00 | 9 |" in text
    assert "![Ratios by case](plot.svg)" in text
    assert all(word in picture for word in ("zipf × 1", "ours: 1.111", "geometric mean"))


def test_a_fleet_wants_as_much_more_than_there_is_as_its_case_says() -> None:
    for seed in range(4):
        fleet = fleet_of(Case("zipf", 2.5, seed))

        assert len(fleet.devices) == 1 + seed % 2
        assert round(fleet.oversubscription, 2) == 2.5
