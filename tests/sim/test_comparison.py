"""Policies under the real scheduler: each evicts by its own rule, and the promises hold under all of them."""

import pytest

from ai_proxy.scheduler.spec import Nap
from ai_proxy.sim.policies import POLICIES
from ai_proxy.sim.simulate import OURS, simulate
from ai_proxy.sim.spans import Phase, Span
from ai_proxy.sim.traces import GENERATORS, Request
from tests.sim.fleets import fleet, trace

NAMES = [OURS, *POLICIES]


def evicted(policy: str, *requests: tuple[float, str, float]) -> list[str]:
    """Who had to leave, in order, where two of three services of one size fit."""
    outcome = simulate(fleet(5_000, 5_000, 5_000), trace(*requests), policy=policy, record=True)
    return [span.holder for span in outcome.spans if span.state is Phase.STOPPING]


def test_lru_evicts_whom_nobody_used_for_longest() -> None:
    assert evicted("lru", (0, "s0", 1), (100, "s1", 1), (200, "s0", 1), (300, "s2", 1)) == ["s1"]


def test_lfu_evicts_whom_fewest_asked_for() -> None:
    often = [(float(at), "s0", 0.1) for at in range(50, 60)]

    assert evicted("lfu", (0, "s0", 1), *often, (100, "s1", 1), (300, "s2", 1)) == ["s1"]


def test_the_clairvoyant_evicts_whom_nobody_will_ask_for() -> None:
    assert evicted("clairvoyant", (0, "s0", 1), (100, "s1", 1), (300, "s2", 1), (400, "s1", 1)) == ["s0"]


def test_a_group_is_there_alone() -> None:
    services = fleet(6_000, 5_000, 4_000, 4_000)
    requests = [Request(100.0 * index, f"s{(0, 2, 1, 3)[index % 4]}", 1.0) for index in range(12)]

    outcome = simulate(services, requests, policy="groups", record=True)

    together = {frozenset({a.holder, b.holder}) for a in outcome.spans for b in outcome.spans if _beside(a, b)}
    assert together == {frozenset({"s0", "s2"}), frozenset({"s1", "s3"})}


@pytest.mark.parametrize("policy", NAMES)
@pytest.mark.parametrize("generator", ["chains", "bursty"])
def test_nothing_is_lost_and_nobody_waits_too_long_under(policy: str, generator: str) -> None:
    services = fleet(4_000, 3_000, 6_000, 5_000, 2_000)
    requests = GENERATORS[generator]([spec.id for spec in services.specs], 400.0, 0.2, 5)

    report = simulate(services, requests, policy=policy).report

    assert (report.policy, report.unanswered, report.refused) == (policy, 0, {})
    assert report.fairness.violations == 0


def test_no_policy_beats_the_clairvoyant_on_a_loop() -> None:
    services = fleet(5_000, 5_000, 5_000)
    requests = [Request(60.0 * index, f"s{index % 3}", 1.0) for index in range(24)]

    totals = {policy: simulate(services, requests, policy=policy).report.cold_start_s for policy in NAMES}

    assert totals["clairvoyant"] == min(totals.values())
    assert totals["clairvoyant"] < totals["lru"]


def test_a_service_that_can_sleep_makes_room_that_way_and_wakes() -> None:
    services = fleet(8_000, 8_000, naps=(Nap(1, keeps_mb=500),))

    outcome = simulate(services, trace((0, "s0", 1), (100, "s1", 1), (200, "s0", 1)), record=True)

    assert (outcome.report.sleeps, outcome.report.wakes, outcome.report.loads) == (2, 1, 2)
    asleep = [span for span in outcome.spans if span.state is Phase.SLEEPING and span.end_s - span.start_s > 10]
    assert asleep[0].holder == "s0"
    assert asleep[0].mb == 500
    assert outcome.report.unanswered == 0


def _beside(a: Span, b: Span) -> bool:
    """Both were there at some moment, and neither on its way out."""
    stays = Phase.STOPPING not in {a.state, b.state}
    return stays and a.holder != b.holder and a.start_s < b.end_s and b.start_s < a.end_s
