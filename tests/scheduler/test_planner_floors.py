"""What a resident costs at least: never more than its cheapest way to give room, whatever was measured of it.

A floor that is too low costs time, one that is too high would spare the wrong ones.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.scheduler.planner import Ask, Evict, plan
from ai_proxy.scheduler.residents import Residents
from ai_proxy.scheduler.spec import Nap
from tests.scheduler.fleets import Crowd, Occupant, asks, crowds, gpus
from tests.scheduler.world import World, spec

NAPS = ((), (Nap(1, 500, moves=True),), (Nap(2, 0, moves=False),), (Nap(1, 500, moves=True), Nap(2, 0, moves=False)))
SECONDS = st.sampled_from((0.0, 0.1, 1.0, 7.0, 60.0))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Services of up to three replicas, used at different times, some of them measured."""
    services = {
        f"s{index}": spec(
            f"s{index}", naps=draw(st.sampled_from(NAPS)), min_replicas=draw(st.sampled_from((0, 0, 2))), max_replicas=3
        )
        for index in range(draw(st.integers(1, 4)))
    }
    world = World(gpus(*[24_000] * 4), services.values(), memory_mb=64_000)
    for name in draw(st.lists(st.sampled_from(sorted(services)), max_size=6)):
        world.now += draw(SECONDS)
        world.arrive(name)
        world.run_all()
    for service in world.state.services.values():
        for level in (1, 2):
            if draw(st.booleans()):
                service.figures = service.figures.with_wake(level, draw(SECONDS))
        if draw(st.booleans()):
            service.figures = service.figures.with_load(draw(SECONDS))
    world.now += draw(SECONDS)
    return world


@pytest.mark.slow
@given(worlds())
def test_no_way_to_give_room_costs_less_than_the_floor(world: World) -> None:
    residents = Residents(world.state, world.now)
    for resident in residents.values():
        assert 0.0 <= resident.floor <= min(rung.regret for rung in resident.rungs)


def lowered(resident: Occupant, share: float) -> Occupant:
    other = replace(resident)
    object.__setattr__(other, "floor", resident.floor * share)
    return other


@pytest.mark.slow
@given(crowds(), asks(), st.lists(st.sampled_from((0.0, 0.5, 1.0)), min_size=7, max_size=7))
def test_a_low_floor_changes_nothing_but_the_work(crowd: Crowd, ask: Ask, shares: list[float]) -> None:
    pairs = zip(crowd.residents.items(), shares, strict=False)
    low = {holder: lowered(resident, share) for (holder, resident), share in pairs}
    exact, verdict = plan(ask, crowd.ledger, crowd.residents), plan(ask, crowd.ledger, low)
    assert type(verdict) is type(exact)
    if isinstance(verdict, Evict) and isinstance(exact, Evict):
        assert verdict.regret == pytest.approx(exact.regret)
