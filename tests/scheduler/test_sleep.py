"""Making room by sleeping: who sleeps, what it keeps, how it wakes, and what happens if it can't."""

from typing import Any

from ai_proxy.errors import StartFailed
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.ledger import Demand
from ai_proxy.scheduler.messages import Eviction
from ai_proxy.scheduler.spec import Nap
from ai_proxy.services.machine import Action, Event, State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, ready, spec

LIGHT, DEEP = Nap(1, 1_000, moves=True), Nap(2, 500)


def pair(*naps: Nap, memory_mb: int = 64_000, **more: Any) -> World:
    """Two services of which the one GPU holds one at a time; the first runs and can sleep."""
    world = World(gpus(10_000), [spec("a", naps=naps, **more), spec("b")], memory_mb=memory_mb)
    return ready(world, "a")


def test_it_sleeps_instead_of_stopping_and_its_room_is_given_on_only_once_it_sleeps() -> None:
    world = pair(LIGHT)
    number = world.arrive("b")
    assert (world.at("a"), world.work["a"], world.at("b")) == (State.SLEEPING, Action.SLEEP, State.QUEUED)
    assert (world.moves[-1].eviction, world.moves[-1].beneficiary, world.moves[-1].level) == (Eviction.ROOM, "b", 1)
    world.finish("a")
    assert world.at("b") is State.STARTING
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)


def test_what_moves_to_the_hosts_memory_is_charged_there_while_it_sleeps() -> None:
    world = pair(LIGHT)
    world.arrive("b")
    world.finish("a")
    kept = world.state.ledger.placement("a")
    assert (kept.vram_mb, kept.memory_mb) == (1_000, 7_000)
    assert world.state.ledger.free_memory_mb == 64_000 - 7_000


def test_without_the_host_memory_for_it_it_takes_the_level_that_needs_none() -> None:
    world = pair(LIGHT, DEEP, memory_mb=2_000)
    world.arrive("b")
    assert world.moves[-1].level == 2


def test_a_sleeper_is_woken_for_who_waits_and_not_started() -> None:
    world = pair(LIGHT)
    world.arrive("b")
    world.run_all()
    world.close()
    number = world.arrive("a")
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)
    assert [move.state for move in world.moves if move.replica == "a"][-2:] == [State.LOADING, State.READY]


def test_a_sleeper_that_nobody_needs_any_more_is_stopped_when_it_has_idled_for_its_time() -> None:
    world = pair(LIGHT, idle_timeout_s=60.0)
    world.arrive("b")
    world.run_all()
    assert world.at("a") is State.SLEEPING
    world.advance(60)
    assert (world.at("a"), world.moves[-1].eviction) == (State.STOPPING, Eviction.IDLE)


def test_a_sleeper_is_stopped_where_its_memory_is_needed() -> None:
    world = World(
        gpus(10_000, 10_000), [spec("a", naps=(LIGHT,)), spec("b", vram_mb=10_000), spec("c")], memory_mb=8_000
    )
    ready(world, "a", "b")
    world.take(do.Configured(spec("c", demand=Demand(1, vram_mb=8_000, memory_mb=4_000))))
    world.arrive("c")
    world.run_all()
    assert world.at("c") is State.READY


def test_one_that_can_not_fall_asleep_is_stopped_and_not_asked_again() -> None:
    world = pair(LIGHT)
    first = world.arrive("b")
    world.report("a", Event.UNWANTED, StartFailed("/sleep answered 404"))
    assert (world.at("a"), world.moves[-1].reason) == (State.STOPPING, "/sleep answered 404")
    world.run_all()
    assert isinstance(world.answers[first], do.Admit)
    world.close()
    world.arrive("a")
    world.run_all()
    world.close()
    world.arrive("b")
    assert world.at("a") is State.STOPPING


def test_one_that_does_not_wake_is_started_anew_for_who_waits() -> None:
    world = pair(LIGHT)
    world.arrive("b")
    world.run_all()
    world.close()
    number = world.arrive("a")
    world.finish("b")
    assert (world.at("a"), world.work["a"]) == (State.LOADING, Action.WAKE)
    world.report("a", Event.UNWANTED, StartFailed("/wake_up did not answer"))
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)


def test_a_sleeper_that_dies_is_started_anew_for_the_next_request() -> None:
    world = pair(LIGHT)
    world.arrive("b")
    world.run_all()
    world.close()
    world.break_("a")
    world.run_all()
    world.advance(1)
    number = world.arrive("a")
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)


def test_what_a_claim_drains_may_sleep_too() -> None:
    world = pair(LIGHT)
    world.ask("a")
    world.arrive("b")
    world.advance(30)
    assert world.at("a") is State.DRAINING
    world.close()
    assert (world.at("a"), world.moves[-1].eviction) == (State.SLEEPING, Eviction.CLAIM)


def test_a_request_that_comes_while_it_falls_asleep_is_served_when_it_has_woken() -> None:
    world = pair(LIGHT)
    leaving = world.arrive("b")
    number = world.arrive("a")
    world.leave(leaving)
    assert world.at("a") is State.SLEEPING
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)


def test_a_replica_that_was_to_stand_in_for_one_that_sleeps_by_now_gives_way_to_waking_it() -> None:
    services = [spec("a", 9_500, naps=(LIGHT,), max_replicas=2), spec("b", 4_000)]
    world = ready(World(gpus(10_000), services, memory_mb=64_000, claim_after_s=0.0), "a")
    world.ask("a")
    served_first = world.arrive("b")
    number = world.arrive("a")
    assert (world.at("a"), world.at("a#1")) == (State.DRAINING, State.QUEUED)
    world.close()
    world.run_all()
    assert isinstance(world.answers[served_first], do.Admit)
    assert world.at("a#1") is State.STOPPED
    world.close()
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)


def test_what_a_sleeper_keeps_in_the_hosts_memory_is_not_free_for_those_who_leave_for_it() -> None:
    world = World(gpus(10_000), [spec("a", naps=(LIGHT,)), spec("b", naps=(LIGHT,))], memory_mb=10_000)
    ready(world, "a", "b")
    assert (world.at("a"), world.state.ledger.free_memory_mb) == (State.SLEEPING, 3_000)
    number = world.arrive("a")
    assert (world.at("b"), world.state.ledger.free_memory_mb) == (State.STOPPING, 3_000)
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)
    assert world.state.ledger.free_memory_mb == 10_000
