"""The scheduler on a loop, with services, clients and a runtime that does as it is told."""

import asyncio
from collections.abc import Callable

import pytest

from ai_proxy.errors import Draining, StartFailed, WaitTimeout
from ai_proxy.events import ServiceChanged
from ai_proxy.runtimes.base import Exit
from ai_proxy.services.machine import State
from tests.fakes.clock import pause, this_loop, virtual_time
from tests.scheduler.house import House, error_of
from tests.scheduler.world import spec


@virtual_time
async def test_l12_fifty_requests_at_once_are_one_start_and_fifty_grants() -> None:
    async with House(spec("a")) as house:
        waiting = [house.later("a") for _ in range(50)]
        grants = await asyncio.gather(*waiting)
        assert house.runtime.starts("a") == 1
        assert len({id(grant) for grant in grants}) == len(house.open_on("a")) == 50


@virtual_time
async def test_a_failed_start_reaches_all_with_its_cause_and_the_engines_last_words() -> None:
    async with House(spec("a")) as house:
        house.runtime.fail("a", StartFailed("exited with code 3", log_tail=("no such model",)))
        errors = [await error_of(waiting) for waiting in [house.later("a") for _ in range(5)]]
        assert {(str(error), error.log_tail) for error in errors if isinstance(error, StartFailed)} == {
            ("exited with code 3", ("no such model",))
        }


@virtual_time
async def test_after_a_failure_requests_are_turned_away_at_once_until_it_may_be_tried_again() -> None:
    async with House(spec("a")) as house:
        house.runtime.fail("a", StartFailed("exited with code 3"))
        await error_of(house.later("a"))
        await house.scheduler.settled("a")
        before = this_loop().now
        error = await error_of(house.later("a"))
        assert (this_loop().now, house.runtime.starts("a")) == (before, 1)
        assert error.retry_after_s is not None
        await asyncio.sleep(error.retry_after_s)
        await house.admit("a")
        assert house.runtime.starts("a") == 2


@virtual_time
async def test_a_driver_that_fails_in_a_way_it_does_not_name_strands_nobody() -> None:
    async with House(spec("a")) as house:
        house.runtime.fail("a", ValueError("a fault of the driver"))
        error = await error_of(house.later("a"))
        assert "a fault of the driver" in str(error)


@virtual_time
async def test_an_engine_that_exits_while_it_loads_says_how() -> None:
    async with House(spec("a")) as house:
        house.probe.status["a"] = 503
        waiting = house.later("a")
        await house.until("a", State.LOADING)
        house.runtime.exit("a", Exit(code=137, oom_killed=True, log_tail=("allocating",)))
        error = await error_of(waiting)
        assert str(error) == "a killed by the kernel: out of memory while it was loading"
        assert isinstance(error, StartFailed)
        assert error.log_tail == ("allocating",)


@virtual_time
async def test_an_engine_that_is_never_ready_is_stopped_at_its_deadline_and_its_log_is_shown() -> None:
    async with House(spec("a", max_wait_s=3600.0)) as house:
        house.probe.status["a"] = 503
        waiting = house.later("a")
        await house.until("a", State.LOADING)
        house.runtime.say("a", "still loading")
        error = await error_of(waiting)
        assert "was not ready within 600 s" in str(error)
        assert "answered 503" in str(error)
        assert isinstance(error, StartFailed)
        assert error.log_tail == ("still loading",)
        await house.until("a", State.FAILED)
        assert house.runtime.running() == []


# Leaving


@virtual_time
async def test_a_client_that_leaves_the_queue_is_forgotten() -> None:
    async with House(spec("a")) as house:
        house.runtime.hold("a")
        waiting = house.later("a")
        await house.until("a", State.STARTING)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert (list(house.scheduler.requests()), house.scheduler.state.waiting) == ([], 0)
        house.runtime.release("a")


@virtual_time
async def test_a_client_that_leaves_in_the_very_moment_of_its_grant_leaks_nothing() -> None:
    async with House(spec("a", max_in_flight=1)) as house:
        held = await house.admit("a")
        waiting = house.later("a")
        await pause()
        held.close()  # the grant is on its way to a task that has not run yet
        waiting.cancel()
        await asyncio.wait({waiting})
        assert house.open_on("a") == []
        assert house.ask("a") is not None


@virtual_time
async def test_a_grant_that_comes_to_a_client_who_has_just_left_goes_to_the_next() -> None:
    async with House(spec("a", max_in_flight=1)) as house:
        held = await house.admit("a")
        leaving, staying = house.later("a"), house.later("a")
        await pause()
        leaving.cancel()  # its task has not noticed yet
        held.close()
        await asyncio.wait({leaving})
        assert [info.id for info in house.open_on("a")] == [(await staying).request.id]


@virtual_time
async def test_a_wait_ends_at_its_own_deadline() -> None:
    async with House(spec("a")) as house:
        house.runtime.hold("a")
        began = this_loop().now
        error = await error_of(house.later("a", max_wait_s=7))
        assert isinstance(error, WaitTimeout)
        assert this_loop().now == pytest.approx(began + 7)
        house.runtime.release("a")


@virtual_time
async def test_closing_a_grant_twice_gives_it_back_once() -> None:
    async with House(spec("a")) as house:
        first, _second = await house.admit("a"), await house.admit("a")
        first.close()
        first.close()
        assert len(house.open_on("a")) == 1


# Health


@virtual_time
async def test_an_unhealthy_replica_takes_nothing_new_and_is_replaced_when_its_requests_have_had_their_time() -> None:
    async with House(spec("a")) as house:
        house.may_cut = True
        await house.admit("a")
        house.probe.status["a"] = 500
        await house.until("a", State.DRAINING)
        began = this_loop().now
        assert house.ask("a") is None
        await house.until("a", State.FAILED)
        assert this_loop().now - began == pytest.approx(20, abs=1)
        house.probe.status["a"] = 200
        await asyncio.sleep(1)
        await house.admit("a")


@virtual_time
async def test_a_failed_health_check_never_ends_a_replica_that_streams() -> None:
    async with House(spec("a")) as house:
        await house.admit("a")
        house.quiet_s = 0.5
        house.probe.status["a"] = 500
        await asyncio.sleep(500)
        assert house.state("a") is State.READY


@virtual_time
async def test_a_replica_that_dies_is_gone_for_its_clients_and_the_next_request_starts_it_again() -> None:
    async with House(spec("a")) as house:
        grant = await house.admit("a")
        await asyncio.sleep(100)
        house.may_cut = True
        house.runtime.exit("a", Exit(signal=11))
        await pause()
        assert house.gone == [grant.origin]
        await house.admit("a")
        assert house.runtime.starts("a") == 2


# The end


@virtual_time
async def test_at_the_end_everything_is_stopped_and_everyone_is_told() -> None:
    async with House(spec("a"), spec("b")) as house:
        await house.admit("a")
        waiting = house.later("b")
        await pause()
        house.may_cut = True
        await house.scheduler.shut_down()
        assert isinstance(await error_of(waiting), Draining)
        assert house.runtime.running() == []
        assert isinstance(await error_of(house.later("a")), Draining)


@virtual_time
async def test_at_the_end_what_is_kept_runs_on_and_takes_nobody() -> None:
    async with House(spec("a", vram_mb=4_000), spec("b", vram_mb=4_000)) as house:
        (await house.admit("a")).close()
        (await house.admit("b")).close()
        await house.scheduler.shut_down(keep=["b"])
        assert [instance.service for instance in house.runtime.running()] == ["b"]
        assert house.ask("b") is None


@virtual_time
async def test_a_fault_in_one_turn_does_not_stop_the_ones_after_it() -> None:
    async with House(spec("a")) as house:
        with pytest.raises(KeyError):
            house.scheduler.start("nobody")
        await house.admit("a")


@virtual_time
async def test_an_adopted_replica_serves_without_a_start() -> None:
    async with House(spec("a"), spec("b")) as house:
        grant = await house.admit("a")
        grant.close()
        (instance,) = house.runtime.running("a")
        house.scheduler.hold("b")
        service = house.scheduler.hand("b")
        assert service is not None
        waiting = house.later("b")
        await pause()
        service.adopt(instance)
        house.scheduler.release("b")
        await waiting
        assert house.runtime.starts("b") == 0


@virtual_time
async def test_a_crowd_is_served_though_there_is_no_room_for_another_replica() -> None:
    async with House(spec("a", max_replicas=2, target_inflight=1)) as house:
        await house.admit("a")
        assert all(house.ask("a") for _ in range(3))
        assert len(house.open_on("a")) == 4
        assert house.runtime.starts("a") == 1


@virtual_time
async def test_its_events_tell_what_room_a_replica_has() -> None:
    async with House(spec("a", vram_mb=7_000)) as house:
        (await house.admit("a")).close()
        house.scheduler.stop("a", "asked for")
        await house.until("a", State.STOPPED)
        moves = [it for it in house.events if isinstance(it, ServiceChanged) and it.state is not State.QUEUED]
        held = [(state, ("0",), 7_000) for state in ("starting", "loading", "ready", "stopping")]
        assert [(it.state, it.devices, it.vram_mb) for it in moves] == [*held, ("stopped", (), 0)]


@pytest.mark.parametrize("ask", [repr, lambda house: repr(house.scheduler)])
@virtual_time
async def test_an_owner_says_what_it_holds(ask: Callable[[House], str]) -> None:
    async with House(spec("a")) as house:
        await house.admit("a")
        assert "House" in ask(house) or "1 open, 0 waiting" in ask(house)
