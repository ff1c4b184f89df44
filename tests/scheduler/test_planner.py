"""The planner's five answers, and the order in which it comes to them."""

from itertools import product

import pytest
from hypothesis import given

from ai_proxy.scheduler.ledger import Ledger
from ai_proxy.scheduler.planner import Ask, Evict, Plan, Refuse, Start, Victim, Wait, plan, vacated
from tests.scheduler.fleets import Crowd, Occupant, asks, crowds


def planned(crowd: Crowd, ask: Ask) -> Plan:
    return plan(ask, crowd.ledger, crowd.residents)


def rivals(crowd: Crowd, ask: Ask) -> set[str]:
    return {holder for holder, resident in crowd.residents.items() if resident.service in ask.conflicts}


def resting(crowd: Crowd) -> Ledger:
    """What is held once those on their way out have left."""
    return crowd.ledger.without(crowd.holders(leaving=True))


def asked(resident: Occupant, level: int) -> Victim:
    (keeps,) = [rung.keeps for rung in resident.rungs if rung.level == level]
    return Victim(resident.holder, level, keeps)


def cheapest(crowd: Crowd, ask: Ask, avoid: frozenset[str]) -> float | None:
    """The least regret, found by trying every way to ask every candidate."""
    rest, residents = resting(crowd), crowd.residents
    names = [h for h in crowd.candidates(ask) if residents[h].service not in ask.requires | {ask.service}]
    gone = rivals(crowd, ask) - set(crowd.holders(leaving=True))
    best: float | None = None
    for levels in product(*([None, *(rung.level for rung in residents[name].rungs)] for name in names)):
        chosen = {name: level for name, level in zip(names, levels, strict=True) if level is not None}
        brings = {other for name in chosen for other in residents[name].along if other in rest}
        if not brings <= chosen.keys() or any(chosen.get(holder) != 0 for holder in gone):
            continue
        left = vacated(rest, [asked(residents[name], level) for name, level in chosen.items()])
        if (left.free_memory_mb < 0 <= rest.free_memory_mb) or left.fit(ask.demand, avoid) is None:
            continue
        regrets = {name: {rung.level: rung.regret for rung in residents[name].rungs} for name in names}
        regret = sum(regrets[name][level] for name, level in chosen.items())
        best = regret if best is None else min(best, regret)
    return best


@pytest.mark.slow
@given(crowds(), asks())
def test_a_start_is_never_over_capacity_nor_where_something_loads(crowd: Crowd, ask: Ask) -> None:
    match planned(crowd, ask):
        case Start(placement):
            assert not rivals(crowd, ask)
            assert all(device.uuid not in ask.loading for device in placement.devices)
            assert ask.demand.vram_mb is not None or not any(
                crowd.ledger.holders_on(device.uuid) for device in placement.devices
            )
            crowd.ledger.reserve("new", placement)
            if ask.demand.vram_mb is not None:
                assert all(crowd.ledger.free_mb(device) >= 0 for device in placement.devices)
            assert crowd.ledger.free_memory_mb >= 0 or not ask.demand.memory_mb
            assert all(crowd.ledger.free_custom(name) >= 0 for name, _ in ask.demand.custom)
        case _:
            assert rivals(crowd, ask) or crowd.ledger.fit(ask.demand, ask.loading) is None


@pytest.mark.slow
@given(crowds(), asks())
def test_victims_may_leave_and_so_may_all_that_leave_with_them(crowd: Crowd, ask: Ask) -> None:
    match planned(crowd, ask):
        case Evict(victims=victims):
            names = {victim.holder for victim in victims}
            assert len(names) == len(victims) > 0
            assert names <= set(crowd.candidates(ask))
            gone = names | set(crowd.holders(leaving=True))
            for name in names:
                resident = crowd.residents[name]
                assert set(resident.along) <= gone
                assert resident.service not in ask.requires | {ask.service}


@pytest.mark.slow
@given(crowds(), asks())
def test_victims_are_enough_and_none_of_them_leaves_in_vain(crowd: Crowd, ask: Ask) -> None:
    match planned(crowd, ask):
        case Evict(victims=victims, placement=placement, exact=exact):
            assert exact
            rest = resting(crowd)
            after = vacated(rest, victims)
            avoid = ask.loading if after.fit(ask.demand, ask.loading) else frozenset[str]()
            assert after.fit(ask.demand, avoid) == placement
            assert after.free_memory_mb >= min(0, rest.free_memory_mb)
            for spared in victims:
                others = [victim for victim in victims if victim != spared]
                left = vacated(rest, others)
                staying = set(left.held)
                assert (
                    left.fit(ask.demand, avoid) is None
                    or staying & rivals(crowd, ask)
                    or any(staying & set(crowd.residents[victim.holder].along) for victim in others)
                    or left.free_memory_mb < 0
                )


@pytest.mark.slow
@given(crowds(most=6), asks())
def test_no_other_choice_has_less_regret(crowd: Crowd, ask: Ask) -> None:
    verdict = planned(crowd, ask)
    if isinstance(verdict, Start) or (isinstance(verdict, Wait) and verdict.placement is not None):
        return
    best = cheapest(crowd, ask, ask.loading)
    if best is None:
        best = cheapest(crowd, ask, frozenset())
    assert (verdict.regret if isinstance(verdict, Evict) else None) == best


@pytest.mark.slow
@given(crowds(), asks())
def test_refuses_exactly_what_would_not_fit_beside_the_pinned_and_the_required_alone(crowd: Crowd, ask: Ask) -> None:
    residents = crowd.residents.items()
    staying = [h for h, each in residents if not each.leaving and (each.pinned or each.service in ask.requires)]
    alone = crowd.ledger.with_only(staying)
    never = bool(rivals(crowd, ask) & set(staying)) or alone.fit(ask.demand) is None
    assert isinstance(planned(crowd, ask), Refuse) == never


@pytest.mark.slow
@given(crowds(), asks())
def test_nobody_is_evicted_while_those_on_their_way_out_make_enough_room(crowd: Crowd, ask: Ask) -> None:
    rest = resting(crowd)
    if rest.fit(ask.demand) is not None and not rivals(crowd, ask) & set(rest.held):
        match planned(crowd, ask):
            case Start(placement) | Wait(_, placement):
                assert placement in {rest.fit(ask.demand), rest.fit(ask.demand, ask.loading)} or isinstance(
                    planned(crowd, ask), Start
                )
            case other:
                pytest.fail(f"not needed: {other}")
