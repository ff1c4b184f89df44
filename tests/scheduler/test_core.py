"""The core's decisions about starts, waits, idleness and health, one story each, without a clock or a loop."""

from ai_proxy.devices import Placement
from ai_proxy.errors import Draining, QueueFull, RuntimeUnavailable, StartFailed, WaitTimeout
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.messages import Eviction
from ai_proxy.services.machine import State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, expect_rejected, one_gpu, ready, spec

# Starts


def test_a_hundred_requests_are_one_start_and_a_hundred_grants() -> None:
    world = one_gpu("a")
    numbers = [world.arrive("a") for _ in range(100)]
    world.run_all()
    assert [move.state for move in world.moves] == [State.QUEUED, State.STARTING, State.LOADING, State.READY]
    assert all(isinstance(world.answers[number], do.Admit) for number in numbers)


def test_waiters_are_granted_in_the_order_of_their_arrival_as_far_as_the_limit_goes() -> None:
    world = one_gpu("a", max_in_flight=2)
    first, second, third = (world.arrive("a") for _ in range(3))
    world.run_all()
    assert set(world.answers) == {first, second}
    world.close()
    assert set(world.answers) == {first, second, third}


def test_a_failed_start_reaches_every_waiter_with_an_error_of_its_own() -> None:
    world = one_gpu("a")
    numbers = [world.arrive("a") for _ in range(3)]
    world.break_("a", "exited with code 3")
    errors = [expect_rejected(world, number) for number in numbers]
    assert {str(error) for error in errors} == {"exited with code 3"}
    assert len({id(error) for error in errors}) == 3
    assert all(isinstance(error, StartFailed) and error.log_tail == ("last words",) for error in errors)
    assert all(error.service == "a" and error.retry_after_s is not None for error in errors)


def test_while_it_rests_after_a_failure_requests_are_answered_at_once_and_then_it_is_tried_again() -> None:
    world = one_gpu("a")
    world.arrive("a")
    world.break_("a")
    world.run_all()
    assert world.at("a") is State.FAILED
    error = expect_rejected(world, world.arrive("a"))
    assert isinstance(error, StartFailed)
    assert error.retry_after_s is not None
    assert 0 < error.retry_after_s <= 1
    world.advance(error.retry_after_s)
    world.arrive("a")
    assert world.at("a") is State.STARTING


def test_each_failure_in_a_row_makes_it_rest_longer_and_a_good_life_forgives_them() -> None:
    world = one_gpu("a")
    rests = []
    for _ in range(5):
        world.arrive("a")
        world.break_("a")
        world.run_all()
        rests.append(world.state.services["a"].retry_at - world.now)
        world.advance(300)
    assert all(longer > shorter for shorter, longer in zip(rests, rests[2:], strict=False))
    world.arrive("a")
    world.run_all()
    world.close()
    world.take(do.StopAsked("a", "an operator"))
    world.run_all()
    assert (world.at("a"), world.state.services["a"].failures) == (State.STOPPED, 0)


def test_an_operator_starts_a_failed_service_at_once() -> None:
    world = one_gpu("a")
    world.arrive("a")
    world.break_("a")
    world.run_all()
    world.take(do.StartAsked("a"))
    assert world.at("a") is State.STARTING


def test_a_replica_that_dies_after_a_steady_life_is_started_again_for_those_who_wait() -> None:
    world = ready(one_gpu("a", max_in_flight=1), "a")
    world.ask("a")
    waiting = world.arrive("a")
    world.advance(61)
    world.break_("a")
    world.run_all()
    assert isinstance(world.answers[waiting], do.Admit)


def test_a_grant_that_outlives_its_replica_counts_for_nothing_on_the_next() -> None:
    world = ready(one_gpu("a"), "a")
    world.ask("a")
    world.advance(61)
    world.break_("a")
    world.arrive("a")
    world.run_all()
    old, new = world.open
    world.close(0)
    assert world.open == [new]
    assert (old[1].open, new[1].open) == (0, 1)


def test_if_all_waiters_left_a_start_not_yet_begun_is_dropped() -> None:
    world = ready(one_gpu("a", "b"), "a")
    world.ask("a")
    number = world.arrive("b")
    assert world.at("b") is State.QUEUED
    world.leave(number)
    assert world.at("b") is State.STOPPED


def test_if_all_waiters_left_a_start_that_has_begun_goes_on() -> None:
    world = one_gpu("a")
    world.leave(world.arrive("a"))
    world.run_all()
    assert world.at("a") is State.READY


# Waiting


def test_a_wait_ends_at_its_deadline_with_what_it_waited_for() -> None:
    world = ready(one_gpu("a", "b"), "a")
    world.ask("a")
    number = world.arrive("b", max_wait_s=10)
    world.advance(10)
    error = expect_rejected(world, number)
    assert isinstance(error, WaitTimeout)
    assert "(busy: a 8,000 MB)" in str(error)


def test_a_wait_for_a_full_replica_says_that_it_is_full() -> None:
    world = ready(one_gpu("a", max_in_flight=1), "a")
    world.ask("a")
    number = world.arrive("a", max_wait_s=10)
    world.advance(10)
    assert str(expect_rejected(world, number)) == "a was full for 10 s: its limits.max_in_flight is 1"


def test_a_full_queue_turns_the_next_request_away() -> None:
    world = one_gpu("a", max_queue=2)
    world.arrive("a")
    world.arrive("a")
    assert isinstance(expect_rejected(world, world.arrive("a")), QueueFull)


def test_all_queues_together_are_bounded_too() -> None:
    world = World(gpus(10_000), [spec("a"), spec("b")], max_queue=2)
    world.arrive("a")
    world.arrive("b")
    assert isinstance(expect_rejected(world, world.arrive("b")), QueueFull)


def test_an_unknown_service_takes_nobody() -> None:
    world = one_gpu("a")
    assert isinstance(expect_rejected(world, world.arrive("nobody")), Draining)


def test_short_waits_leave_no_timers_behind() -> None:
    world = ready(World(gpus(10_000), [spec("a", max_in_flight=1, idle_timeout_s=1800.0)], claim_after_s=0.0), "a")
    for _ in range(500):
        world.ask("a")
        world.arrive("a", max_wait_s=0.01)
        world.advance(0.02)
        world.close()
    assert len(world.state.timers) < 100


# Idle


def test_an_idle_replica_is_stopped_when_it_has_idled_for_its_time() -> None:
    world = ready(one_gpu("a", idle_timeout_s=60.0), "a")
    world.advance(58)
    assert world.at("a") is State.READY
    world.advance(1)
    assert (world.at("a"), world.moves[-1].eviction) == (State.STOPPING, Eviction.IDLE)


def test_a_request_that_ends_after_the_idle_time_starts_it_anew() -> None:
    world = ready(one_gpu("a", idle_timeout_s=60.0), "a")
    world.ask("a")
    world.advance(500)
    world.close()
    world.advance(59)
    assert world.at("a") is State.READY
    world.advance(1)
    assert world.at("a") is State.STOPPING


def test_a_job_that_goes_on_without_a_request_keeps_it_from_idling_out() -> None:
    world = ready(one_gpu("a", tells_work=True, idle_timeout_s=60.0), "a")
    world.tell("a", busy=True)
    world.advance(500)
    world.tell("a", busy=False)
    world.advance(59)
    assert world.at("a") is State.READY
    world.advance(1)
    assert world.at("a") is State.STOPPING


def test_a_shorter_idle_time_counts_from_the_moment_it_is_configured() -> None:
    world = ready(one_gpu("a"), "a")
    world.advance(100)
    world.take(do.Configured(spec("a", idle_timeout_s=60.0)))
    world.advance(0)
    assert world.at("a") is State.STOPPING


def test_a_request_that_comes_while_it_stops_waits_for_the_next_life() -> None:
    world = ready(one_gpu("a", idle_timeout_s=60.0), "a")
    world.advance(60)
    assert not world.ask("a")
    number = world.arrive("a")
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)


# Health and former lives


def test_an_unhealthy_replica_takes_nothing_new_and_is_replaced_when_it_is_empty() -> None:
    world = ready(one_gpu("a"), "a")
    world.ask("a")
    world.take(do.Unhealthy("a", StartFailed("no answer")))
    assert not world.ask("a")
    world.close()
    world.run_all()
    assert world.at("a") is State.FAILED
    world.advance(1)
    world.arrive("a")
    world.run_all()
    assert world.at("a") is State.READY


def test_an_unhealthy_replica_that_then_breaks_has_failed_once() -> None:
    world = ready(one_gpu("a"), "a")
    world.ask("a")
    world.take(do.Unhealthy("a", StartFailed("no answer")))
    world.break_("a")
    assert world.state.services["a"].failures == 1


def test_nothing_is_started_before_its_runtime_has_told_what_runs() -> None:
    world = one_gpu("a")
    world.take(do.Held("a"))
    number = world.arrive("a")
    assert world.at("a") is State.STOPPED
    world.adopt("a", Placement(world.devices, vram_mb=8_000))
    world.take(do.Released("a"))
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)
    assert State.STARTING not in {move.state for move in world.moves}


def test_a_runtime_that_does_not_answer_is_the_cause_that_its_requests_get() -> None:
    world = one_gpu("a")
    waiting = world.arrive("a")
    world.take(do.StopAsked("a", "an operator"))
    world.run_all()
    world.take(do.Held("a", RuntimeUnavailable("no such socket")))
    error = expect_rejected(world, world.arrive("a"))
    assert (str(error), type(error)) == ("no such socket", RuntimeUnavailable)
    assert isinstance(expect_rejected(world, waiting), Draining)


def test_a_hold_does_not_wipe_out_why_the_service_failed() -> None:
    world = one_gpu("a")
    world.arrive("a")
    world.break_("a", "exited with code 3")
    world.run_all()
    world.take(do.Held("a", RuntimeUnavailable("no such socket")))
    world.take(do.Released("a"))
    assert str(expect_rejected(world, world.arrive("a"))) == "exited with code 3"


def test_replicas_that_were_adopted_beyond_the_capacity_leave_before_anything_starts() -> None:
    world = one_gpu("a", "b", "c")
    for service in ("a", "b"):
        world.take(do.Held(service))
        world.adopt(service, Placement(world.devices, vram_mb=8_000))
    world.run_all()
    world.arrive("c")
    assert (world.at("a"), world.at("b")) == (State.STOPPING, State.STOPPING)
    world.run_all()
    assert world.at("c") is State.READY
