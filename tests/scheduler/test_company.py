"""Services that may not run beside each other, and services that can't run without each other."""

from typing import Any

import pytest

from ai_proxy.errors import NoRoom, RuntimeUnavailable, StartFailed
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.spec import Nap
from ai_proxy.services.machine import Action, State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, expect_rejected, ready, spec

# Conflicts


@pytest.mark.parametrize(("running", "wanted"), [("a", "b"), ("b", "a")])
def test_a_conflict_works_in_both_directions_whoever_declared_it(running: str, wanted: str) -> None:
    world = World(gpus(40_000), [spec("a", conflicts=frozenset({"b"})), spec("b")])
    ready(world, running)
    world.arrive(wanted)
    assert (world.at(running), world.at(wanted)) == (State.STOPPING, State.QUEUED)
    world.run_all()
    assert world.at(wanted) is State.READY


def test_a_busy_service_in_conflict_is_waited_for_and_drained_by_a_claim() -> None:
    world = ready(World(gpus(40_000), [spec("a", conflicts=frozenset({"b"})), spec("b")]), "a")
    world.ask("a")
    world.arrive("b")
    assert world.at("a") is State.READY
    world.advance(30)
    assert world.at("a") is State.DRAINING
    world.close()
    world.run_all()
    assert world.at("b") is State.READY


def test_a_sleeper_in_conflict_has_to_stop() -> None:
    world = World(gpus(10_000), [spec("a", naps=(Nap(1),)), spec("b"), spec("c", 1_000, conflicts=frozenset({"a"}))])
    ready(world, "a")
    world.arrive("b")
    world.run_all()
    world.close()
    assert world.at("a") is State.SLEEPING
    world.arrive("c")
    assert world.at("a") is State.STOPPING


def test_services_in_conflict_that_take_turns_do_not_keep_out_one_that_is_in_conflict_with_all() -> None:
    """Once its claim is made, none of them starts before it, though there is room for them."""
    world = World(gpus(40_000), [spec("lone", conflicts=frozenset({"a", "b"})), spec("a"), spec("b")])
    ready(world, "a")
    world.ask("a")
    world.arrive("lone")
    world.advance(30)
    assert world.at("a") is State.DRAINING
    world.arrive("b")
    assert world.at("b") is State.QUEUED
    world.close()
    world.run_all()
    assert (world.at("lone"), world.at("b")) == (State.READY, State.QUEUED)


def test_a_service_that_returns_without_its_conflict_is_in_none() -> None:
    world = World(gpus(40_000), [spec("a", conflicts=frozenset({"b"})), spec("b")])
    world.take(do.Removed("a"))
    world.take(do.Configured(spec("a")))
    ready(world, "a", "b")
    assert {world.at("a"), world.at("b")} == {State.READY}


# Requirements


def fleet(*, room_mb: int = 40_000, **of_required: Any) -> World:
    """An app that requires an engine, and a third service, all of 8,000 MB."""
    specs = [spec("app", requires=("engine",)), spec("engine", **of_required), spec("other")]
    return World(gpus(room_mb), specs)


def test_what_a_service_requires_is_ready_before_it_starts() -> None:
    world = fleet()
    number = world.arrive("app")
    assert (world.at("engine"), world.at("app")) == (State.STARTING, State.QUEUED)
    world.finish("engine")
    assert world.at("app") is State.QUEUED
    world.finish("engine")
    assert (world.at("engine"), world.at("app")) == (State.READY, State.STARTING)
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)


def test_what_is_required_stays_while_a_service_that_requires_it_waits() -> None:
    world = ready(fleet(room_mb=20_000), "engine", "other")
    world.ask("other")
    world.arrive("app")
    assert (world.at("engine"), world.at("app")) == (State.READY, State.QUEUED)


def test_what_is_required_stays_while_a_service_that_requires_it_works() -> None:
    world = ready(fleet(room_mb=20_000), "app")
    world.ask("app")
    number = world.arrive("other")
    assert {world.at("engine"), world.at("app")} == {State.READY}
    assert number in world.waiting  # it may have the room later: that is no refusal


def test_what_is_required_leaves_with_the_idle_service_that_requires_it_and_not_alone() -> None:
    world = World(
        gpus(20_000), [spec("app", 2_000, requires=("engine",)), spec("engine", 16_000), spec("other", 10_000)]
    )
    ready(world, "app")
    world.arrive("other")
    assert {world.at("engine"), world.at("app")} == {State.STOPPING}


def test_a_claim_on_what_is_required_lets_the_service_that_requires_it_end_its_work_first() -> None:
    world = World(
        gpus(20_000), [spec("app", 2_000, requires=("engine",)), spec("engine", 16_000), spec("other", 10_000)]
    )
    ready(world, "app")
    world.ask("app")
    world.arrive("other")
    world.advance(30)
    assert {world.at("engine"), world.at("app")} == {State.DRAINING}
    world.close()
    assert {world.at("engine"), world.at("app")} == {State.STOPPING}
    world.run_all()
    assert world.at("other") is State.READY


def test_what_is_required_does_not_idle_out_from_under_a_service_and_does_after_it() -> None:
    world = ready(fleet(idle_timeout_s=60.0), "app")
    world.advance(300)
    assert world.at("engine") is State.READY
    world.take(do.StopAsked("app", "an operator"))
    world.advance(0)
    assert world.at("engine") is State.STOPPING


def test_a_required_service_that_fails_is_the_cause_that_all_who_wait_get() -> None:
    world = fleet()
    number = world.arrive("app")
    world.break_("engine", "no such model")
    assert isinstance(expect_rejected(world, number), StartFailed)
    assert "no such model" in str(expect_rejected(world, number))
    assert world.at("app") is State.STOPPED


def test_a_runtime_that_does_not_answer_is_the_cause_for_those_too_who_require_its_services() -> None:
    world = fleet()
    world.take(do.Held("engine", RuntimeUnavailable("dockerd is gone")))
    assert isinstance(expect_rejected(world, world.arrive("app")), RuntimeUnavailable)
    assert world.at("app") is State.STOPPED


def test_nothing_is_started_for_the_sake_of_a_service_that_can_never_run() -> None:
    world = World(gpus(10_000), [spec("app", vram_mb=50_000, requires=("engine",)), spec("engine", 1_000)])
    assert isinstance(expect_rejected(world, world.arrive("app")), NoRoom)
    assert world.at("engine") is State.STOPPED


def test_who_does_not_fit_beside_what_it_requires_is_told_so() -> None:
    world = fleet(room_mb=10_000)
    number = world.arrive("app")
    world.run_all()
    assert "engine" in str(expect_rejected(world, number))


def test_a_sleeper_wakes_only_once_what_it_requires_is_ready() -> None:
    world = World(
        gpus(20_000),
        [spec("app", 2_000, requires=("engine",), naps=(Nap(1),)), spec("engine", 16_000), spec("other", 18_500)],
    )
    ready(world, "app")
    world.arrive("other")
    world.run_all()
    world.close()
    assert (world.at("app"), world.at("engine")) == (State.SLEEPING, State.STOPPED)
    number = world.arrive("app")
    world.finish("other")
    assert (world.at("engine"), world.at("app")) == (State.STARTING, State.SLEEPING)
    world.finish("engine")
    world.finish("engine")
    assert world.work["app"] is Action.WAKE
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)
