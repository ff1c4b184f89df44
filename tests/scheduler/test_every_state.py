"""A waiter in each state, and everything that may happen there: it is always answered."""

import math
from collections.abc import Callable

import pytest

from ai_proxy.devices import Placement
from ai_proxy.errors import StartFailed
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.ledger import Demand
from ai_proxy.scheduler.spec import Nap
from ai_proxy.services.machine import TRANSITIONS, Event, IllegalTransition, State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, one_gpu, ready, settle_down, spec

# Every state


def in_state(state: State, *, waiting: bool = True) -> tuple[World, int]:
    """A world whose service `a` is in a state, one request of which waits for it wherever one can."""
    if state is State.SLEEPING:
        world = ready(one_gpu("a", "b", max_in_flight=1, naps=(Nap(1),)), "a")
        world.arrive("b")
        return world, world.arrive("a")
    world = ready(one_gpu("a", "b", max_in_flight=1), "b")
    if state in {State.STOPPED, State.FAILED}:
        if state is State.FAILED:
            world.arrive("a")
            world.finish("b")
            world.break_("a")
            world.run_all()
        world.take(do.Held("a"))
        return world, world.arrive("a") if waiting else 0
    world.ask("b")
    number = world.arrive("a")
    if state is State.QUEUED:
        return world, number
    world.close()
    world.finish("b")
    for reached in (State.STARTING, State.LOADING):
        if state is reached:
            return world, number
        world.finish("a")
    number = world.arrive("a")
    if state is State.DRAINING:
        world.take(do.StopAsked("a", "an operator", restart=True))
    elif state is State.STOPPING:
        world.take(do.StopAsked("a", "an operator", restart=True))
        world.close()
    return world, number


@pytest.mark.parametrize("state", State)
def test_a_waiter_can_be_in_every_state(state: State) -> None:
    world, number = in_state(state)
    assert world.at("a") is state
    assert number in world.waiting


def wake(world: World) -> None:
    """Let it sleep first, and whoever took its room be done."""
    world.finish("a")
    world.run_all()
    world.close()
    world.run_all()


TAKES: dict[Event, Callable[[World], None]] = {
    Event.WANTED: lambda world: world.take(do.Released("a")),
    Event.UNWANTED: lambda world: world.take(do.ShutDown()),
    Event.PLACED: lambda world: world.close() if world.open else wake(world),
    Event.LAUNCHED: lambda world: world.finish("a"),
    Event.HEALTHY: lambda world: world.finish("a"),
    Event.GONE: lambda world: world.finish("a"),
    Event.SLEPT: lambda world: world.finish("a"),
    Event.BROKE: lambda world: world.break_("a"),
    Event.DRAIN: lambda world: world.take(do.StopAsked("a", "an operator", restart=True)),
    Event.RESET: lambda world: world.take(do.StopAsked("a", "an operator")),
    Event.ADOPTED: lambda world: world.adopt("a", Placement(world.devices, vram_mb=8_000)),
}


@pytest.mark.parametrize("restless", [False, True], ids=["then all goes well", "then its life breaks"])
@pytest.mark.parametrize(
    ("state", "event"), [(state, event) for state in State for event in TRANSITIONS[state] if event in TAKES]
)
def test_whatever_happens_in_whatever_state_the_waiter_is_answered(state: State, event: Event, restless: bool) -> None:
    world, number = in_state(state)
    TAKES[event](world)
    if restless and world.work.get("a") not in {None, "stop"}:
        world.break_("a")
    if world.state.services["a"].held:
        world.take(do.Released("a"))
    settle_down(world)
    assert number in world.answers


@pytest.mark.parametrize(
    ("state", "event"), [(state, event) for state in State for event in Event if event not in TRANSITIONS[state]]
)
def test_an_event_that_can_not_be_is_refused_and_changes_nothing(state: State, event: Event) -> None:
    world, _ = in_state(state)
    service, replica = world.state.services["a"], world.state.replicas["a"]

    def known() -> tuple[object, ...]:
        return (replica.state, replica.broken, service.failures, service.failure, dict(service.queue))

    before = known()
    with pytest.raises(IllegalTransition):
        world.take(do.Reported("a", event, None, StartFailed("late")))
    assert known() == before
    world.check()


def test_nothing_is_asked_of_time_where_nothing_waits() -> None:
    assert World(gpus(10_000), [spec("a", demand=Demand())]).state.timers.nearest == math.inf
