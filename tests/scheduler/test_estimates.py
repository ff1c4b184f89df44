"""What the absence of a service is expected to cost, learned from its uses."""

from random import Random

import pytest

from ai_proxy.scheduler.estimates import Estimates

HOUR_S = 3_600.0


def fleet(*services: str, memory_mb: float = 0.0) -> Estimates:
    estimates = Estimates(memory_mb)
    for service in services:
        estimates.configure(service, reload_s=10.0, size_mb=8_000)
    return estimates


def test_who_is_used_more_often_is_missed_more() -> None:
    estimates = fleet("often", "seldom")
    for minute in range(600):
        estimates.used("often", minute * 60.0)
        if minute % 20 == 0:
            estimates.used("seldom", minute * 60.0)

    assert estimates.regret("often", 36_100.0) > 3 * estimates.regret("seldom", 36_100.0) > 0


def test_regret_grows_with_the_reload_and_the_weight() -> None:
    estimates = fleet("quick", "slow", "dear")
    estimates.configure("slow", reload_s=30.0, size_mb=8_000)
    estimates.configure("dear", reload_s=10.0, size_mb=8_000, weight=5.0)
    for service in ("quick", "slow", "dear"):
        estimates.used(service, 0.0)

    quick = estimates.regret("quick", 60.0)

    assert estimates.regret("slow", 60.0) == pytest.approx(3 * quick)
    assert estimates.regret("dear", 60.0) == pytest.approx(5 * quick)


def test_a_service_that_nobody_asks_for_any_more_is_missed_less_and_less() -> None:
    estimates = fleet("a")
    for minute in range(60):
        estimates.used("a", minute * 60.0)

    regrets = [estimates.regret("a", HOUR_S + hours * HOUR_S) for hours in (0, 1, 4, 24, 240)]

    assert regrets == sorted(regrets, reverse=True)
    assert regrets[-1] > 0


def test_after_a_the_successor_b_is_missed_until_it_came() -> None:
    estimates = fleet("a", "b", "c")
    dice = Random(1)
    for task in range(200):
        estimates.used("c", task * 600.0 + dice.uniform(0, 300))
        estimates.used("a", task * 600.0 + 400)
        estimates.used("b", task * 600.0 + 415)
    now = 200 * 600.0

    before = estimates.regret("b", now)
    estimates.used("a", now)
    after = estimates.regret("b", now + 1)
    estimates.used("b", now + 15)

    assert after > 5 * before


def test_a_service_that_was_forgotten_is_as_one_never_seen() -> None:
    estimates = fleet("a", "b", memory_mb=10_000)
    for now in range(0, 1000, 10):
        estimates.used("a", float(now))
        estimates.used("b", float(now) + 5)

    estimates.forget("b")

    assert estimates.regret("b", 1000.0) == estimates.regret("never seen", 1000.0)
    estimates.used("a", 1010.0)
    assert estimates.regret("b", 1011.0) == estimates.regret("never seen", 1011.0)


def test_a_crowd_that_comes_together_is_one_use() -> None:
    crowd, one = fleet("a"), fleet("a")
    one.used("a", 0.0)
    for number in range(50):
        crowd.used("a", number / 60)

    assert crowd.regret("a", 600.0) == one.regret("a", 600.0)


def test_where_nothing_but_popularity_counts_the_popular_are_kept() -> None:
    """Draws without memory: after a while the estimates follow an expert that looks at the long run."""
    names = [f"s{number}" for number in range(12)]
    estimates = fleet(*names, memory_mb=40_000)
    dice = Random(2)
    shares = [1 / (rank + 1) for rank in range(12)]
    now = 0.0
    for service in dice.choices(names, shares, k=4_000):
        now += dice.expovariate(0.05)
        estimates.used(service, now)

    order = sorted(names, key=lambda service: estimates.regret(service, now + 30), reverse=True)

    assert set(order[:3]) <= set(names[:4])
