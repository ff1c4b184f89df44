"""Several replicas of one service: another where there is room and need, one less where there is none, some kept."""

from typing import Any

import pytest

from ai_proxy.errors import NoRoom, StartFailed
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.services.machine import Action, State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, expect_rejected, ready, spec


def many(**more: Any) -> ServiceSpec:
    """A service that may have three replicas, each for two requests at once."""
    return spec("a", **{"max_replicas": 3, "target_inflight": 2, **more})


def running(world: World) -> set[str]:
    return {key for key, state in world.states.items() if state is State.READY}


def crowd(world: World, requests: int) -> None:
    for _ in range(requests):
        assert world.ask("a")


# Out


def test_another_replica_starts_when_each_has_more_requests_than_it_should_and_there_is_room() -> None:
    world = ready(World(gpus(20_000), [many()]), "a")
    crowd(world, 2)
    assert "a#1" not in world.states
    crowd(world, 1)
    assert world.at("a#1") is State.QUEUED or world.at("a#1") is State.STARTING
    world.run_all()
    assert running(world) == {"a", "a#1"}


def test_nobody_has_to_leave_for_another_replica() -> None:
    world = ready(World(gpus(20_000), [many(), spec("b")]), "b", "a")
    crowd(world, 9)
    assert (world.at("b"), world.at("a#1")) == (State.READY, State.STOPPED)


def test_a_service_that_waits_goes_before_another_replica() -> None:
    world = World(gpus(20_000), [many(), spec("b"), spec("c", 10_000)])
    ready(world, "a", "b")
    crowd(world, 2)
    world.ask("b")
    world.arrive("c")
    world.close(2)
    assert world.at("b") is State.STOPPING
    crowd(world, 1)
    assert world.at("a#1") is State.STOPPED
    world.run_all()
    assert world.at("c") is State.READY


def test_another_replica_starts_for_requests_that_wait_for_a_full_one() -> None:
    world = ready(World(gpus(20_000), [many(max_in_flight=2)]), "a")
    crowd(world, 2)
    number = world.arrive("a")
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)


def test_requests_that_waited_for_a_start_and_crowd_it_get_another_replica() -> None:
    world = World(gpus(20_000), [many()])
    for _ in range(5):
        world.arrive("a")
    world.run_all()
    assert running(world) == {"a", "a#1"}


def test_there_are_never_more_replicas_than_may_be() -> None:
    world = ready(World(gpus(80_000), [many()]), "a")
    for _ in range(8):
        crowd(world, 8)
        world.run_all()
        world.advance(10)
    assert running(world) == {"a", "a#1", "a#2"}


def test_no_replica_starts_beside_a_rival_that_waits_for_its_turn() -> None:
    world = World(gpus(80_000), [many(), spec("b", conflicts=frozenset({"a"}))])
    ready(world, "a")
    crowd(world, 2)
    world.arrive("b")
    crowd(world, 1)
    assert running(world) == {"a"}
    assert world.at("a#1") is State.STOPPED


def test_where_there_was_no_room_it_is_looked_for_again_after_a_while() -> None:
    world = ready(World(gpus(20_000), [many(), spec("b")]), "b", "a")
    crowd(world, 3)
    world.take(do.StopAsked("b", "an operator"))
    world.run_all()
    world.advance(10)
    crowd(world, 1)
    assert world.at("a#1") is State.STARTING


def test_a_replica_that_fails_to_start_leaves_those_that_serve_alone() -> None:
    world = ready(World(gpus(20_000), [many()]), "a")
    crowd(world, 3)
    world.break_("a#1", "out of memory")
    world.run_all()
    assert running(world) == {"a"}
    assert world.ask("a")


def test_those_who_waited_are_spread_over_the_replicas() -> None:
    world = ready(World(gpus(20_000), [many(max_in_flight=2)]), "a")
    crowd(world, 2)
    for _ in range(3):
        world.arrive("a")
    world.finish("a#1")
    world.finish("a#1")
    assert sorted(live.open for live in world.state.ready["a"].peers) == [2, 2]
    world.close(0)
    assert sorted(live.open for live in world.state.ready["a"].peers) == [2, 2]
    assert not world.waiting


# In


def grown(**more: Any) -> World:
    """A service with two replicas, one of them just started."""
    world = ready(World(gpus(20_000), [many(**more)]), "a")
    crowd(world, 3)
    world.run_all()
    return world


def test_a_replica_that_was_not_needed_for_a_minute_is_stopped() -> None:
    world = grown()
    while world.open:
        world.close()
    world.advance(55)
    assert running(world) == {"a", "a#1"}
    world.advance(30)
    assert world.at("a#1") is State.STOPPING


def test_a_replica_that_is_needed_again_within_the_minute_stays() -> None:
    world = grown()
    while world.open:
        world.close()
    world.advance(40)
    crowd(world, 3)
    world.advance(40)
    assert running(world) == {"a", "a#1"}


def test_a_replica_that_is_one_too_many_serves_its_requests_to_their_end() -> None:
    world = grown()
    world.close(0)
    world.close(0)
    while world.open:
        world.close()
    crowd(world, 2)
    world.close(0)
    last = world.open[0][1].replica.key
    world.advance(90)
    assert (last, world.at("a#1")) in {("a#1", State.DRAINING), ("a", State.STOPPING)}


def test_fewer_replicas_in_the_config_end_those_beyond_at_once() -> None:
    world = grown()
    world.take(do.Configured(many(max_replicas=1)))
    while world.open:
        world.close()
    world.run_all()
    assert len(running(world)) == 1


# Kept running


def kept(**more: Any) -> World:
    world = World(gpus(20_000), [many(min_replicas=1, **more), spec("b", 16_000)])
    world.take(do.StartAsked("a"))
    world.run_all()
    return world


def test_as_many_as_are_to_be_kept_running_are_started() -> None:
    world = World(gpus(20_000), [many(min_replicas=2)])
    world.advance(0)
    world.run_all()
    world.advance(10)
    world.run_all()
    assert running(world) == {"a", "a#1"}


def test_what_is_to_be_kept_running_is_not_evicted_and_that_is_told() -> None:
    world = kept()
    assert isinstance(expect_rejected(world, world.arrive("b")), NoRoom)


def test_of_several_only_those_beyond_are_evicted() -> None:
    world = World(gpus(24_000), [many(min_replicas=1), spec("b", 16_000)])
    world.take(do.StartAsked("a"))
    world.run_all()
    crowd(world, 3)
    world.run_all()
    while world.open:
        world.close()
    world.arrive("b")
    assert sorted(world.at(key) for key in ("a", "a#1")) == [State.READY, State.STOPPING]
    world.run_all()
    assert world.at("b") is State.READY


def test_of_several_only_those_beyond_idle_out() -> None:
    world = kept(idle_timeout_s=30.0)
    crowd(world, 3)
    world.run_all()
    while world.open:
        world.close()
    world.advance(300)
    world.run_all()
    world.advance(300)
    assert len(running(world)) == 1


def test_what_is_to_be_kept_running_is_started_again_when_it_dies_though_nobody_waits() -> None:
    world = kept()
    world.advance(120)
    world.break_("a")
    world.finish("a")
    world.advance(1)
    assert world.at("a") is State.STARTING


def test_what_fails_again_and_again_is_started_again_each_time_after_its_back_off() -> None:
    world = kept()
    rests = []
    for _ in range(4):
        world.break_("a")
        world.finish("a")
        assert world.at("a") is State.FAILED
        rests.append(world.state.services["a"].retry_at - world.now)
        world.advance(rests[-1] / 2)
        assert world.at("a") is State.FAILED
        world.advance(rests[-1] / 2)
        assert world.at("a") is State.STARTING
    assert rests[-1] > 2 * rests[0]


def test_what_an_operator_stopped_is_not_kept_running_until_it_is_needed_again() -> None:
    world = kept()
    world.take(do.StopAsked("a", "an operator"))
    world.run_all()
    world.advance(600)
    assert world.at("a") is State.STOPPED
    world.arrive("a")
    world.run_all()
    world.advance(120)
    world.close()
    world.break_("a", "it died")
    world.finish("a")
    world.advance(1)
    assert world.at("a") is State.STARTING


def test_what_is_replaced_by_new_settings_is_started_with_them_at_once() -> None:
    world = kept()
    world.take(do.Configured(many(min_replicas=1, weight=2.0), replace=True))
    assert world.at("a") is State.STOPPING
    world.finish("a")
    world.advance(0)
    assert world.at("a") is State.STARTING


def test_what_found_no_room_is_tried_again_after_a_while() -> None:
    world = World(gpus(10_000), [spec("p", pinned=True), many(min_replicas=1)])
    ready(world, "p")
    world.advance(5)
    assert world.at("a") is State.STOPPED
    world.take(do.StopAsked("p", "an operator"))
    world.run_all()
    world.advance(60)
    assert world.at("a") is State.STARTING


@pytest.mark.parametrize("end", [do.ShutDown(), do.Removed("a")], ids=["shutdown", "removed"])
def test_at_the_end_nothing_is_kept_running(end: do.Event) -> None:
    world = kept()
    world.take(end)
    world.run_all()
    world.advance(600)
    assert Action.LAUNCH not in world.work.values()
    assert world.at("a") is State.STOPPED


def test_what_is_held_is_kept_running_from_its_release_on() -> None:
    world = World(gpus(20_000), [many(min_replicas=1)])
    world.take(do.Held("a"))
    world.advance(100)
    assert world.at("a") is State.STOPPED
    world.take(do.Released("a"))
    world.advance(0)
    assert world.at("a") is State.STARTING


def test_a_failure_says_nothing_to_requests_that_another_replica_serves() -> None:
    world = ready(World(gpus(20_000), [many(max_in_flight=1)]), "a")
    crowd(world, 1)
    number = world.arrive("a")
    world.break_("a#1", "out of memory")
    assert number in world.waiting
    world.close()
    assert isinstance(world.answers[number], do.Admit)
    assert isinstance(world.state.services["a"].failure, StartFailed)
