"""Who is planned for anew, and when: not without cause, and no more of them in one step than requests can wait for."""

import pytest

from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler import place
from ai_proxy.scheduler.messages import Eviction
from ai_proxy.scheduler.place import LOOKS, PAUSE_S
from ai_proxy.scheduler.spec import Nap
from ai_proxy.services.machine import State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, one_gpu, ready, spec

CROWD = 60


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """One plan takes all looks of a step, as at some hundreds of holders."""
    monkeypatch.setattr(place, "LOOKS", 300)


def planned(world: World) -> set[str]:
    """Who waits for room with a plan of the present state."""
    waiting = [each for each in world.state.replicas.values() if each.waits_for_room]
    return {each.key for each in waiting if each.outlook is not None and each.outlook.version == world.state.version}


def test_one_that_waits_to_wake_up_has_nobody_planned_for_anew() -> None:
    world = World(gpus(10_000), [spec("a", naps=(Nap(1, 500, moves=True),)), spec("b")], memory_mb=64_000)
    ready(world, "a", "b")
    world.ask("b")
    world.arrive("a")
    assert (world.at("a"), world.state.replicas["a"].waking) == (State.SLEEPING, True)
    version = world.state.version
    world.take(do.Tick())
    world.arrive("a")
    assert world.state.version == version


def test_a_request_that_takes_the_place_of_another_has_nobody_planned_for_anew() -> None:
    world = one_gpu("hot", "other", max_in_flight=1)
    ready(world, "hot")
    world.ask("hot")
    world.arrive("other")
    for _ in range(3):
        world.arrive("hot")
    version = world.state.version
    world.close()
    world.close()
    assert (len(world.waiting), world.state.version) == (2, version)
    world.close()
    world.close()
    assert world.state.replicas["hot"].state is State.STOPPING


def test_a_claim_sees_that_who_waited_for_longer_has_been_served() -> None:
    world = one_gpu("hot", "other", max_in_flight=1)
    ready(world, "hot")
    world.ask("hot")
    world.arrive("hot")
    world.now += 1
    world.arrive("other")
    world.now += 1
    world.arrive("hot")
    world.advance(40)
    assert world.at("hot") is State.READY
    world.close()
    assert world.at("hot") is State.DRAINING


def test_of_many_that_wait_a_few_are_planned_for_in_one_step_and_the_others_soon() -> None:
    names = [f"s{number:02}" for number in range(CROWD)]
    world = World(gpus(10_000), [spec("busy"), *[spec(name) for name in names]])
    ready(world, "busy")
    world.ask("busy")
    for name in names:
        world.arrive(name)
    world.advance(1)
    assert planned(world) == set(names)
    world.take(do.Configured(spec("idle")))
    first = planned(world)
    assert 0 < len(first) <= LOOKS // 100
    world.now = world.state.timers.nearest
    world.take(do.Tick())
    assert first < planned(world)
    world.advance(1)
    assert planned(world) == set(names)
    assert world.state.timers.nearest > world.now + PAUSE_S


@pytest.mark.usefixtures("narrow")
def test_where_a_plan_takes_all_looks_of_a_step_a_claim_has_one_of_its_own() -> None:
    world = ready(one_gpu("a", "b", "c"), "a")
    world.ask("a")
    world.arrive("b")
    world.now += world.state.settings.claim_after_s
    world.arrive("c")
    assert world.at("a") is State.READY
    assert world.state.timers.nearest <= world.now
    world.take(do.Tick())
    assert world.at("a") is State.DRAINING
    world.close()
    world.run_all()
    assert world.at("b") is State.READY


@pytest.mark.usefixtures("narrow")
def test_room_that_comes_before_the_step_of_a_claim_is_taken_and_nobody_drained() -> None:
    world = ready(World(gpus(10_000, 10_000), [spec(name) for name in "abc"]), "a", "b")
    for name in "ab":
        world.ask(name)
    world.arrive("c")
    world.now += world.state.settings.claim_after_s
    world.take(do.Tick())
    world.take(do.StopAsked("b", "an operator stops it"))
    world.close(1)
    world.run_all()
    assert (world.at("a"), world.at("c")) == (State.READY, State.READY)


@pytest.mark.usefixtures("narrow")
def test_nobody_is_drained_for_a_client_that_left_before_the_step_of_its_claim() -> None:
    world = ready(one_gpu("a", "b"), "a")
    world.ask("a")
    number = world.arrive("b")
    world.now += world.state.settings.claim_after_s
    world.take(do.Tick())
    world.leave(number)
    world.take(do.Tick())
    assert world.at("a") is State.READY


@pytest.mark.usefixtures("narrow")
def test_a_claim_that_is_over_before_its_step_is_planned_for_anew() -> None:
    world = ready(one_gpu("a", "b"), "a")
    world.ask("a")
    number = world.arrive("b")
    world.now += 1
    world.arrive("b")
    world.now += world.state.settings.claim_after_s - 1
    world.take(do.Tick())
    (_, live) = world.open.pop()
    live.open, live.last_used = 0, world.now  # what the core has not heard of yet
    world.leave(number)
    assert world.moves[-1].eviction is Eviction.ROOM
