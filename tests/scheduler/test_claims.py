"""Who has to leave for whom, and when."""

import pytest

from ai_proxy.errors import NoRoom, StartFailed
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.messages import Eviction
from ai_proxy.scheduler.state import Settings
from ai_proxy.services.machine import State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, expect_rejected, one_gpu, ready, spec

# Room


def test_the_least_recently_used_idle_replica_makes_room_and_is_gone_before_the_start() -> None:
    world = ready(World(gpus(20_000), [spec(name) for name in "abc"]), "b", "a")
    number = world.arrive("c")
    assert (world.at("b"), world.at("a"), world.at("c")) == (State.STOPPING, State.READY, State.QUEUED)
    assert world.moves[-1].eviction is Eviction.ROOM
    world.finish("b")
    assert world.at("c") is State.STARTING
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)


def test_what_can_never_fit_is_refused_at_once_with_the_reason() -> None:
    world = World(gpus(10_000), [spec("huge", vram_mb=50_000)])
    error = expect_rejected(world, world.arrive("huge"))
    assert isinstance(error, NoRoom)
    assert "the largest GPU has 10,000 MB" in str(error)
    assert world.at("huge") is State.STOPPED


def test_pinned_services_that_hold_all_the_room_make_a_clear_refusal() -> None:
    world = World(gpus(10_000), [spec("a", pinned=True), spec("b")])
    error = expect_rejected(ready(world, "a"), world.arrive("b"))
    assert "which pinned services hold: a" in str(error)


def test_a_working_engine_is_not_evicted_though_no_request_is_open() -> None:
    world = ready(one_gpu("a", "b", tells_work=True), "a")
    world.tell("a", busy=True)
    world.arrive("b")
    assert world.at("a") is State.READY
    world.tell("a", busy=False)
    assert world.at("a") is State.STOPPING


def test_room_that_is_coming_free_is_promised_to_the_oldest_who_waits_for_it() -> None:
    world = ready(one_gpu("a", "b", "c"), "a")
    world.arrive("b")
    world.arrive("c")
    world.finish("a")
    assert (world.at("b"), world.at("c")) == (State.STARTING, State.QUEUED)


# Claims


def claimed(world: World, *, by: str) -> World:
    """A service that has waited for as long as it takes to drain others."""
    world.arrive(by)
    world.advance(30)
    return world


def test_a_claim_drains_a_busy_replica_and_nothing_new_gets_in() -> None:
    world = ready(one_gpu("a", "b"), "a")
    world.ask("a")
    claimed(world, by="b")
    assert world.at("a") is State.DRAINING
    assert not world.ask("a")
    world.close()
    assert (world.at("a"), world.moves[-1].eviction) == (State.STOPPING, Eviction.CLAIM)
    world.run_all()
    assert world.at("b") is State.READY


def test_a_start_in_place_of_a_drained_replica_is_called_off_once_that_one_stays() -> None:
    world = ready(World(gpus(20_000), [spec("a", max_replicas=2), spec("b"), spec("c")]), "a", "b")
    world.ask("a")
    world.ask("b")
    claimed(world, by="c")
    number = world.arrive("a")
    assert (world.at("a"), world.at("a#1")) == (State.DRAINING, State.QUEUED)
    world.close(1)
    world.finish("b")
    assert (world.at("c"), world.at("a"), world.at("a#1")) == (State.STARTING, State.READY, State.STOPPED)
    assert isinstance(world.answers[number], do.Admit)


def test_a_claim_whose_waiter_left_opens_its_victims_again_and_serves_who_waited_there() -> None:
    world = ready(one_gpu("a", "b"), "a")
    world.ask("a")
    claimed(world, by="b")
    waiting_for_a = world.arrive("a")
    world.leave(next(number for number in world.waiting if number != waiting_for_a))
    assert world.at("a") is State.READY
    assert isinstance(world.answers[waiting_for_a], do.Admit)


def test_a_claim_that_is_served_elsewhere_opens_its_victims_again_in_the_same_step() -> None:
    world = ready(World(gpus(10_000, 10_000), [spec(name) for name in "abc"]), "a", "c")
    world.ask("a")
    world.ask("c")
    claimed(world, by="b")
    assert world.at("a") is State.DRAINING
    world.advance(61)
    world.break_("c")
    world.finish("c")
    assert (world.at("b"), world.at("a")) == (State.STARTING, State.READY)


@pytest.mark.parametrize(
    "order",
    [
        do.StopAsked("a", "an operator"),
        do.Removed("a"),
        do.Configured(spec("a"), replace=True),
        do.Unhealthy("a", StartFailed("no answer")),
    ],
    ids=["stop", "remove", "replace", "unhealthy"],
)
def test_what_drains_for_a_claim_and_has_to_go_anyway_goes_though_the_claim_is_given_up(order: do.Event) -> None:
    world = ready(one_gpu("a", "b"), "a")
    world.ask("a")
    claimed(world, by="b")
    world.take(order)
    world.leave(next(iter(world.waiting)))
    assert world.at("a") is State.DRAINING
    world.close()
    assert world.at("a") is State.STOPPING


def test_a_service_that_an_operator_wants_claims_its_room_like_a_request_does() -> None:
    world = ready(one_gpu("a", "b", idle_timeout_s=10.0), "a")
    world.ask("a")
    world.take(do.StartAsked("b"))
    world.advance(30)
    assert world.at("a") is State.DRAINING


def test_a_restart_claims_its_room_too() -> None:
    world = ready(World(gpus(10_000), [spec("a"), spec("b", vram_mb=4_000), spec("c", vram_mb=6_000)]), "b", "c")
    world.ask("b")
    world.ask("c")
    world.take(do.StopAsked("a", "an operator", restart=True))
    world.advance(30)
    assert {world.at("b"), world.at("c")} == {State.DRAINING}


def test_a_claim_waits_for_what_is_still_loading_for_others_and_takes_its_room_next() -> None:
    """Small services that follow each other in turn must not keep out a large one for ever."""
    world = World(gpus(10_000), [spec("large", vram_mb=10_000), *(spec(name, vram_mb=5_000) for name in "abcd")])
    ready(world, "a", "b")
    world.ask("a")
    world.ask("b")
    world.arrive("large")
    world.advance(20)
    world.close()  # a is idle
    world.arrive("c")
    world.finish("a")  # c is loading when the claim comes
    world.advance(10)
    assert (world.at("b"), world.at("c")) == (State.DRAINING, State.STARTING)
    world.arrive("d")
    world.close()
    world.run_all()
    assert (world.at("c"), world.at("d")) == (State.DRAINING, State.QUEUED)
    world.close()
    world.run_all()
    assert world.at("large") is State.READY


def test_a_claim_ends_what_is_loading_for_nobody() -> None:
    world = one_gpu("a", "b")
    leaving = world.arrive("a")
    world.arrive("b")
    world.leave(leaving)
    world.advance(30)
    assert (world.at("a"), world.moves[-1].eviction) == (State.STOPPING, Eviction.CLAIM)


def test_an_older_waiter_is_served_by_the_replica_before_a_claim_takes_it() -> None:
    world = ready(one_gpu("a", "b", max_in_flight=1), "a")
    world.ask("a")
    older = world.arrive("a")
    world.advance(1)
    claimed(world, by="b")
    assert world.at("a") is State.READY
    world.close()
    assert isinstance(world.answers[older], do.Admit)
    assert world.at("a") is State.DRAINING


# Engines that may work though no request is open


def test_an_engine_that_may_have_been_left_with_work_is_asked_before_it_is_evicted() -> None:
    world = ready(one_gpu("a", "b", tells_work=True), "a")
    world.ask("a")
    world.now += 1
    world.close()
    number = world.arrive("b")
    assert (world.at("a"), world.asked) == (State.READY, {"a"})
    world.tell("a", busy=True)
    assert world.at("a") is State.READY
    world.now += 1
    world.tell("a", busy=False)
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)


def test_what_an_engine_said_before_its_last_request_ended_says_nothing_of_what_that_left_behind() -> None:
    world = ready(one_gpu("a", "b", tells_work=True), "a")
    world.ask("a")
    asked_at = world.now
    world.now += 1
    world.close()
    world.arrive("b")
    world.take(do.WorkTold("a", busy=False, asked_at=asked_at))
    assert (world.at("a"), world.asked) == (State.READY, {"a"})


def test_an_engine_that_worked_on_what_has_ended_since_is_asked_anew() -> None:
    world = ready(one_gpu("a", "b", tells_work=True), "a")
    world.ask("a")
    world.tell("a", busy=True)
    world.arrive("b")
    assert world.asked == set()
    world.close()
    assert world.asked == {"a"}


def test_an_engine_that_works_on_is_asked_once() -> None:
    """Its service puts the question again by itself until it rests."""
    world = ready(one_gpu("a", "b", tells_work=True), "a")
    world.ask("a")
    world.close()
    world.arrive("b")
    world.tell("a", busy=True)
    assert world.asked == set()


def test_an_engine_is_asked_before_it_is_stopped_for_being_idle() -> None:
    world = ready(one_gpu("a", tells_work=True, idle_timeout_s=60.0), "a")
    world.ask("a")
    world.now += 1
    world.close()
    world.advance(61)
    assert (world.at("a"), world.asked) == (State.READY, {"a"})
    world.tell("a", busy=False)
    world.advance(0)
    assert world.at("a") is State.STOPPING


def test_an_engine_that_drains_is_asked_too() -> None:
    world = ready(one_gpu("a", "b", tells_work=True), "a")
    world.ask("a")
    claimed(world, by="b")
    world.close()
    assert (world.at("a"), world.asked) == (State.DRAINING, {"a"})
    world.tell("a", busy=False)
    assert world.at("a") is State.STOPPING


def test_a_patience_that_is_cut_short_counts_for_those_who_wait_already() -> None:
    world = ready(World(gpus(10_000), [spec("a"), spec("b")], claim_after_s=300), "a")
    world.ask("a")
    world.arrive("b")
    world.take(do.Tuned(Settings(claim_after_s=20)))
    assert world.at("a") is State.READY
    world.advance(20)
    assert world.at("a") is State.DRAINING
