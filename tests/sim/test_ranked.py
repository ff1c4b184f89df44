"""Fixed rules as regrets: the planner does with them what the rule says."""

from collections.abc import Collection

from hypothesis import given, settings
from hypothesis import strategies as st

from ai_proxy.devices import Device, Placement
from ai_proxy.scheduler.ledger import Demand, Ledger
from ai_proxy.scheduler.planner import Ask, Rung, least_regret
from ai_proxy.sim.policies import Footprint, Lru
from ai_proxy.sim.ranked import Ranked
from tests.scheduler.fleets import Occupant, Occupants


def greedily(ledger: Ledger, demand: Demand, order: Collection[str]) -> set[str] | None:
    """The rule itself: in its order until it fits, then back, the most valuable first, who is not needed."""
    victims: list[str] = []
    for holder in order:
        victims.append(holder)
        if ledger.without(victims).fit(demand) is not None:
            break
    else:
        return None
    for victim in reversed(list(victims)):
        others = [other for other in victims if other != victim]
        if ledger.without(others).fit(demand) is not None:
            victims = others
    return set(victims)


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    order=st.permutations(range(8)),
    wanted=st.integers(1, 30),
    gpus=st.integers(1, 2),
)
def test_least_regret_over_ranks_is_the_rule_with_nobody_evicted_in_vain(
    sizes: list[int], order: list[int], wanted: int, gpus: int
) -> None:
    devices = [Device(str(index), f"GPU-{index}", 24) for index in range(gpus)]
    ledger = Ledger(devices, 0)
    policy = Lru([Footprint(f"s{index}", mb, 1.0) for index, mb in enumerate(sizes)])
    ranked = Ranked(policy, [f"s{index}" for index in range(len(sizes))])
    for now, index in enumerate(order):
        if index < len(sizes):
            ranked.came(f"s{index}", float(now))
    residents = Occupants()
    for index, mb in enumerate(sizes):
        placement = ledger.fit(Demand(1, vram_mb=mb))
        if placement is not None:
            ledger.reserve(f"s{index}", placement)
            rung = Rung(0, Placement(), ranked.regret(f"s{index}", 99.0))
            residents[f"s{index}"] = Occupant(f"s{index}", placement, rungs=(rung,))
    demand = Demand(1, vram_mb=wanted)
    if ledger.fit(demand) is not None:
        return

    choice = least_regret(Ask("new", demand), ledger, residents, list(residents))

    by_rule = greedily(ledger, demand, [f"s{index}" for index in order if f"s{index}" in residents])
    assert ({victim.holder for victim in choice.victims} if choice else None) == by_rule


def test_a_use_changes_the_order_at_once() -> None:
    ranked = Ranked(Lru([Footprint("a", 1, 1.0), Footprint("b", 1, 1.0)]), ["a", "b"])
    ranked.came("a", 1.0)
    ranked.came("b", 2.0)
    assert ranked.regret("a", 3.0) < ranked.regret("b", 3.0)

    ranked.came("a", 3.0)

    assert ranked.regret("a", 3.0) > ranked.regret("b", 3.0)


def test_a_thousand_services_have_finite_regrets() -> None:
    fleet = [Footprint(f"s{index}", 1, 1.0) for index in range(2000)]

    assert Ranked(Lru(fleet), [one.service for one in fleet]).regret("s1999", 0.0) < float("inf")
