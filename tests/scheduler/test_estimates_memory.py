"""What the estimates have learned is bounded, and outlives the proxy."""

import json
from random import Random
from typing import Any

import pytest

from ai_proxy.scheduler.estimates import Estimates
from ai_proxy.sim.traces import chains, zipf

FLEET = [f"s{number}" for number in range(12)]


def experienced(memory_mb: float = 40_000) -> tuple[Estimates, float]:
    estimates = Estimates(memory_mb)
    for number, service in enumerate(FLEET):
        estimates.configure(service, reload_s=5.0 + number, size_mb=4_000 + 1_000 * number)
    trace = chains(FLEET, 6_000, 0.05, 3)
    for request in trace:
        estimates.used(request.service, request.at)
    return estimates, trace[-1].at


def test_the_next_life_expects_what_this_one_expected() -> None:
    before, end = experienced(memory_mb=0)
    after = Estimates()
    for number, service in enumerate(FLEET):
        after.configure(service, reload_s=5.0 + number, size_mb=4_000 + 1_000 * number)

    memo = json.loads(json.dumps(before.dump()))
    after.load(memo, 100.0)

    assert json.loads(json.dumps(after.dump()))["links"] == memo["links"]
    for service in FLEET:
        assert after.regret(service, 700.0) == pytest.approx(before.regret(service, end + 600.0))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda memo: None, id="nothing"),
        pytest.param(lambda memo: memo | {"rhythm": 1}, id="another shape"),
        pytest.param(lambda memo: memo | {"rhythm": memo["rhythm"] | {"explained": [1.0] * 4}}, id="other spans"),
        pytest.param(lambda memo: memo | {"rhythm": memo["rhythm"] | {"expected": [0.0] * 5}}, id="zero"),
        pytest.param(lambda memo: memo | {"saved": {"rhythm": float("nan")}}, id="no number"),
        pytest.param(
            lambda memo: memo | {"links": {"a": {"b": {"brought": 1, "uses": -1, "lag_s": 1}}}}, id="negative"
        ),
    ],
)
def test_a_memo_of_another_shape_is_refused_and_changes_nothing(spoil: Any) -> None:
    estimates, end = experienced()
    expected = [estimates.regret(service, end) for service in FLEET]

    with pytest.raises(ValueError, match=r"Expected|Invalid"):
        estimates.load(spoil(estimates.dump()), end)

    assert [estimates.regret(service, end) for service in FLEET] == expected


def test_what_is_remembered_does_not_grow_with_the_uses() -> None:
    def size(uses: int) -> int:
        estimates = Estimates(400_000)
        dice = Random(1)
        services = [f"s{number}" for number in range(20)]
        for service in services:
            estimates.configure(service, reload_s=10.0, size_mb=8_000)
        for now in range(uses):
            estimates.used(dice.choice(services), float(now))
        return len(json.dumps(estimates.dump()))

    assert size(1_600) < 1.2 * size(800)


def test_the_same_uses_give_the_same_estimates() -> None:
    first, end = experienced()
    second, _ = experienced()

    assert [first.regret(service, end) for service in FLEET] == [second.regret(service, end) for service in FLEET]


def test_regret_is_finite_and_not_negative_whatever_comes() -> None:
    for seed in range(3):
        dice = Random(seed)
        estimates = Estimates(30_000)
        now = 0.0
        for request in zipf(FLEET, 1_000, 0.3, seed):
            now = request.at if dice.random() < 0.9 else now
            estimates.used(request.service, now)
            if dice.random() < 0.05:
                estimates.configure(request.service, reload_s=dice.uniform(0, 100), size_mb=dice.choice([0, 1, 50_000]))
            if dice.random() < 0.02:
                estimates.forget(dice.choice(FLEET))
            later = now + dice.choice([0.0, 1.0, 1e4, 1e9])
            assert 0.0 <= estimates.regret(dice.choice(FLEET), later) < float("inf")
