"""What the core tells the planner of its replicas: who may leave, and what each is missed for at least.

The core looks at all of them at once and takes short cuts; here each is looked at by itself and in full.
"""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.devices import Placement
from ai_proxy.scheduler.needs import awaited_since, dependents_of, is_pinned, is_worked_on
from ai_proxy.scheduler.residents import PROMISED, Residents
from ai_proxy.scheduler.spec import Nap
from ai_proxy.scheduler.state import Replica
from ai_proxy.services.machine import State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import DONE, World, spec

NAPS = ((), (Nap(1, 500, moves=True),), (Nap(2, 0, moves=False),), (Nap(1, 500, moves=True), Nap(2, 0, moves=False)))
SECONDS = st.sampled_from((0.0, 0.1, 1.0, 7.0, 60.0))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Services of up to three replicas, used at different times, some of them at work, some of them measured."""
    rarely = st.sampled_from((*[False] * 7, True))
    names = [f"s{index}" for index in range(5)]
    services = [
        spec(
            name,
            naps=draw(st.sampled_from(NAPS)),
            min_replicas=2 * draw(rarely),
            max_replicas=3,
            pinned=draw(rarely),
            priority=draw(st.integers(0, 1)),
            requires=tuple(draw(st.sets(st.sampled_from(names[:place]), max_size=1))) if place and draw(rarely) else (),
            tells_work=draw(rarely),
        )
        for place, name in enumerate(names)
    ]
    residency_s = draw(st.sampled_from((0.0, 15.0)))
    world = World(gpus(24_000), services, memory_mb=64_000, min_residency_s=residency_s)
    moves = st.lists(
        st.tuples(SECONDS, st.sampled_from(names), st.sampled_from((0, 1, 2, 5)), st.booleans()),
        min_size=6,
        max_size=12,
    )
    for seconds, name, done, closes in draw(moves):
        world.arrive(name)
        for _ in range(done):
            world.advance(seconds / done)
            if under_way := [key for key, work in world.work.items() if work in DONE]:
                world.finish(under_way[0])
        while closes and world.open:
            world.close()
    for service in world.state.services.values():
        for level in (1, 2):
            if draw(st.booleans()):
                service.figures = service.figures.with_wake(level, draw(SECONDS))
        if draw(st.booleans()):
            service.figures = service.figures.with_load(draw(SECONDS))
    world.now += draw(SECONDS)
    return world


def is_leaving(replica: Replica) -> bool:
    falls_asleep = replica.state is State.SLEEPING and replica.live is not None and not replica.live.slept
    return falls_asleep or replica.state in {State.DRAINING, State.STOPPING}


def could_leave(world: World, replica: Replica) -> bool:
    """It rests, has been there for long enough, and nobody needs it, as the rules say."""
    state, live = world.state, replica.live
    if live is None or replica.waking or replica.state not in {State.READY, State.SLEEPING}:
        return False
    if is_worked_on(state, replica.service):
        return False
    if any(awaited_since(state, dependent) < math.inf for dependent in dependents_of(state, replica.service)):
        return False
    if replica.state is State.SLEEPING:
        return True
    assert live.ready_at is not None
    stays_s = min(state.settings.min_residency_s, live.ready_at - live.placed_at)
    return live.is_idle and world.now >= live.ready_at + stays_s


@pytest.mark.slow
@given(worlds())
def test_who_may_leave_is_the_same_at_one_look_as_one_by_one(world: World) -> None:
    residents = Residents(world.state, world.now)
    there = {key: each for key, each in world.state.replicas.items() if key in world.state.ledger}
    staying = {key: each for key, each in there.items() if not is_leaving(each)}

    assert set(residents.leaving) == set(there) - set(staying)
    assert set(residents.pinned) == {key for key, each in staying.items() if is_pinned(world.state, each)}
    assert residents.idle == {
        key: each.service.spec.priority
        for key, each in staying.items()
        if could_leave(world, each) and key not in residents.pinned
    }


@pytest.mark.slow
@given(worlds(), st.sets(st.sampled_from(("s0", "s1", "nobody"))))
def test_all_may_be_drained_but_those_who_leave_are_pinned_or_spared(world: World, spared: set[str]) -> None:
    world.state.ledger.reserve("s0" + PROMISED, Placement())
    residents = Residents(world.state, world.now)
    assert residents.drainable(spared) == [
        holder
        for holder in residents
        if (replica := world.state.replicas.get(holder)) is not None
        and not is_leaving(replica)
        and not is_pinned(world.state, replica)
        and replica.service.id not in spared
    ]


@pytest.mark.slow
@given(worlds())
def test_no_way_to_give_room_costs_less_than_the_floor(world: World) -> None:
    residents = Residents(world.state, world.now)
    for holder, floor in residents.floors(residents).items():
        assert 0.0 <= floor <= min(rung.regret for rung in residents[holder].rungs)
