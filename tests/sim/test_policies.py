"""Each fixed policy lets leave first whom its rule names."""

import pytest

from ai_proxy.sim.policies import POLICIES, Footprint, Policy
from ai_proxy.sim.traces import Request

FLEET = [
    Footprint("small", size_mb=1_000, reload_s=4.0),
    Footprint("large", size_mb=8_000, reload_s=8.0),
    Footprint("dear", size_mb=8_000, reload_s=60.0),
]
TRACE = [Request(200.0, "large", 1.0), Request(101.0, "small", 1.0), Request(5.0, "dear", 1.0)]


def made(name: str) -> Policy:
    return POLICIES[name](FLEET, TRACE, 9_000)


def order(policy: Policy, now: float) -> list[str]:
    return sorted((footprint.service for footprint in FLEET), key=lambda service: policy.value(service, now))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lru", ["small", "large", "dear"]),
        ("lfu", ["dear", "large", "small"]),
        ("lemonade", ["small", "large", "dear"]),
        ("gdsf", ["large", "dear", "small"]),
        ("clairvoyant", ["dear", "large", "small"]),
    ],
)
def test_who_leaves_first(name: str, expected: list[str]) -> None:
    policy = made(name)
    for service, now in (("small", 1.0), ("small", 2.0), ("small", 3.0), ("large", 4.0), ("large", 5.0), ("dear", 9.0)):
        policy.used(service, now)

    assert order(policy, 100.0) == expected


def test_with_gdsf_what_was_often_used_long_ago_ages_as_others_leave() -> None:
    policy = made("gdsf")
    for _ in range(3):
        policy.used("large", 1.0)
    for now in range(10, 20):
        policy.used("small", float(now))
        policy.left("small", float(now))

    policy.used("dear", 30.0)

    assert order(policy, 31.0)[0] == "large"


def test_groups_are_what_fits_together_and_conflict_with_all_others() -> None:
    assert made("groups").conflicts == {
        "dear": frozenset({"large"}),
        "large": frozenset({"dear", "small"}),
        "small": frozenset({"large"}),
    }


def test_no_other_policy_knows_conflicts() -> None:
    assert all(not made(name).conflicts for name in POLICIES if name != "groups")
