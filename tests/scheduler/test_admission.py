"""Who is let in to wait: not who can't be served in time, and not who may not cause what it would take."""

from typing import Any

import pytest

from ai_proxy.errors import NotReady, TooLate
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.figures import Figures
from ai_proxy.scheduler.spec import Nap
from ai_proxy.services.machine import State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, expect_rejected, one_gpu, ready, spec

LOADS_40_S = Figures(loads_s=(40.0,), stops_s=(10.0,), wakes_s={1: (5.0,)})


def slow(*services: str, **more: Any) -> World:
    """One GPU for one service at a time, each of which takes 40 s to load."""
    world = one_gpu(*services, **more)
    for service in services:
        world.take(do.Recalled(service, LOADS_40_S))
    return world


# Too late


def test_who_can_not_wait_for_the_load_is_told_at_once_how_long_it_takes() -> None:
    world = slow("a")
    error = expect_rejected(world, world.arrive("a", 20.0))
    assert isinstance(error, TooLate)
    assert error.retry_after_s == pytest.approx(36.0)
    assert world.at("a") is State.STOPPED


def test_who_can_just_wait_for_the_load_is_let_in() -> None:
    world = slow("a")
    number = world.arrive("a", 41.0)
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)


def test_of_a_load_that_is_under_way_only_the_rest_counts() -> None:
    world = slow("a")
    world.arrive("a")
    world.advance(30)
    assert world.arrive("a", 8.0) in world.waiting
    assert isinstance(expect_rejected(world, world.arrive("a", 4.0)), TooLate)


def test_a_load_that_takes_longer_than_usual_turns_nobody_away() -> None:
    world = slow("a")
    world.arrive("a")
    world.advance(300)
    assert world.arrive("a", 1.0) in world.waiting


def test_what_a_service_requires_is_loaded_first_and_counts_too() -> None:
    world = World(gpus(20_000), [spec("app", requires=("engine",)), spec("engine")])
    for service in ("app", "engine"):
        world.take(do.Recalled(service, LOADS_40_S))
    assert isinstance(expect_rejected(world, world.arrive("app", 60.0)), TooLate)
    assert world.arrive("app", 80.0) in world.waiting


def test_a_sleeper_takes_only_what_waking_takes() -> None:
    world = World(gpus(10_000), [spec("a", naps=(Nap(1, moves=True),)), spec("b")], memory_mb=64_000)
    ready(world, "a", "b")
    world.take(do.Recalled("a", LOADS_40_S))
    assert world.at("a") is State.SLEEPING
    assert world.arrive("a", 6.0) in world.waiting
    assert isinstance(expect_rejected(world, world.arrive("a", 3.0)), TooLate)


def test_a_stop_under_way_counts_unless_another_replica_may_start_beside_it() -> None:
    for most, let_in in ((1, False), (2, True)):
        world = ready(slow("a", max_replicas=most), "a")
        world.take(do.StopAsked("a", "an operator"))
        number = world.arrive("a", 41.0)
        assert (number in world.waiting) is let_in


def test_where_nothing_was_measured_nobody_is_turned_away() -> None:
    assert one_gpu("a").arrive("a", 0.001) == 1


def test_a_ready_service_that_is_full_turns_nobody_away_for_its_load() -> None:
    world = ready(slow("a", max_in_flight=1), "a")
    world.ask("a")
    assert world.arrive("a", 1.0) in world.waiting


# Guests: requests that may not cause a swap


def test_a_guest_is_turned_away_where_it_would_cause_a_start() -> None:
    world = slow("a")
    error = expect_rejected(world, world.arrive("a", may_swap=False))
    assert isinstance(error, NotReady)
    assert error.retry_after_s is not None
    assert world.at("a") is State.STOPPED


def test_a_guest_waits_for_a_start_that_others_have_caused() -> None:
    world = slow("a")
    world.arrive("a")
    guest = world.arrive("a", may_swap=False)
    world.run_all()
    assert isinstance(world.answers[guest], do.Admit)


def test_a_guest_is_not_let_in_while_the_start_still_waits_for_room() -> None:
    world = ready(slow("a", "b"), "b")
    world.ask("b")
    world.arrive("a")
    assert isinstance(expect_rejected(world, world.arrive("a", may_swap=False)), NotReady)


def test_a_guest_does_not_wake_a_sleeper() -> None:
    world = World(gpus(10_000), [spec("a", naps=(Nap(1, moves=True),)), spec("b")], memory_mb=64_000)
    ready(world, "a", "b")
    assert isinstance(expect_rejected(world, world.arrive("a", may_swap=False)), NotReady)
    assert world.at("a") is State.SLEEPING


def test_a_guest_waits_for_a_slot_of_a_ready_service_in_its_turn() -> None:
    world = ready(slow("a", max_in_flight=1), "a")
    world.ask("a")
    guest = world.arrive("a", may_swap=False)
    other = world.arrive("a")
    world.close()
    assert isinstance(world.answers[guest], do.Admit)
    assert other in world.waiting


def test_a_guest_never_makes_a_claim() -> None:
    world = ready(slow("a", "b", max_in_flight=1), "a")
    world.ask("a")
    world.arrive("a", may_swap=False)
    world.arrive("b")
    world.advance(30)
    assert world.at("a") is State.DRAINING


def test_a_guest_is_told_when_what_it_waits_for_has_to_leave() -> None:
    world = ready(slow("a", "b", max_in_flight=1), "a")
    world.ask("a")
    guest = world.arrive("a", may_swap=False)
    world.arrive("b")
    world.advance(30)
    assert isinstance(expect_rejected(world, guest), NotReady)
