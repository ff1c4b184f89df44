"""Replicas that have to leave, on a loop: what becomes of requests, of rooms and of the next life."""

import asyncio

import pytest

from ai_proxy.errors import Draining, RuntimeUnavailable, WaitTimeout
from ai_proxy.services.machine import State
from tests.fakes.clock import pause, this_loop, virtual_time
from tests.scheduler.house import House, error_of
from tests.scheduler.world import spec

# Orders


@pytest.mark.parametrize("when", [State.STARTING, State.LOADING])
@virtual_time
async def test_a_stop_during_a_start_leaves_nothing_running(when: State) -> None:
    async with House(spec("a")) as house:
        if when is State.STARTING:
            house.runtime.hold("a")
        house.probe.status["a"] = 503
        waiting = house.later("a")
        await house.until("a", when)
        house.scheduler.stop("a", "an operator")
        assert isinstance(await error_of(waiting), Draining)
        await house.scheduler.settled("a")
        assert (house.state("a"), house.runtime.running()) == (State.STOPPED, [])


@virtual_time
async def test_a_start_during_a_stop_is_a_new_life_after_the_old_has_ended() -> None:
    async with House(spec("a")) as house:
        (await house.admit("a")).close()
        house.runtime.ignore_stop("a")
        house.scheduler.stop("a", "an operator")
        waiting = house.later("a")
        await house.runtime.until("stop a")
        assert house.runtime.starts("a") == 1
        house.runtime.exit("a")
        await waiting
        assert house.runtime.journal[-4:] == ["exit a", "stopped a", "start a", "started a"]
        house.runtime.obey_stop("a")


@virtual_time
async def test_a_restart_waits_for_open_requests_and_serves_those_who_wait_on_the_next_life() -> None:
    async with House(spec("a", max_in_flight=1)) as house:
        old = await house.admit("a")
        waiting = house.later("a")
        await pause()
        house.scheduler.stop("a", "an operator", restart=True)
        await pause()
        assert (house.state("a"), house.runtime.stops("a")) == (State.DRAINING, 0)
        old.close()
        new = await waiting
        assert new.origin.generation > old.origin.generation
        assert house.gone == [old.origin]


@virtual_time
async def test_a_service_that_is_removed_in_mid_request_serves_it_to_its_end() -> None:
    async with House(spec("a")) as house:
        grant = await house.admit("a")
        house.scheduler.remove("a")
        await pause()
        assert house.runtime.running("a") != []
        assert house.ask("a") is None
        assert isinstance(await error_of(house.later("a")), Draining)
        grant.close()
        await house.until("a", None)
        assert house.runtime.running("a") == []
        assert house.scheduler.hands("a") == []


@virtual_time
async def test_settled_waits_for_what_an_operator_asked_for() -> None:
    async with House(spec("a")) as house:
        house.scheduler.start("a")
        await house.scheduler.settled("a")
        assert house.state("a") is State.READY
        house.scheduler.stop("a", "an operator", restart=True)
        await house.scheduler.settled("a")
        assert house.runtime.starts("a") == 2
        house.scheduler.stop("a", "an operator")
        await house.scheduler.settled("a")
        assert house.state("a") is State.STOPPED


# Making room


@virtual_time
async def test_two_that_do_not_fit_together_swap_and_neither_runs_beside_the_other() -> None:
    async with House(spec("a"), spec("b")) as house:
        for service in "abab":
            (await house.admit(service)).close()
        assert [entry for entry in house.runtime.journal if entry.startswith(("started", "stopped"))] == [
            *("started a", "stopped a", "started b", "stopped b", "started a", "stopped a", "started b"),
        ]


@virtual_time
async def test_room_is_free_when_the_runtime_says_that_the_replica_is_gone_and_not_before() -> None:
    async with House(spec("a"), spec("b")) as house:
        (await house.admit("a")).close()
        house.runtime.ignore_stop("a")
        waiting = house.later("b")
        await house.runtime.until("stop a")
        await asyncio.sleep(20)
        assert house.runtime.starts("b") == 0
        house.runtime.exit("a")
        await waiting
        house.runtime.obey_stop("a")


@virtual_time
async def test_a_stop_that_the_runtime_can_not_do_now_is_asked_for_again() -> None:
    async with House(spec("a"), spec("b")) as house:
        (await house.admit("a")).close()
        house.runtime.fail_stop("a", RuntimeUnavailable("no answer"), OSError("a fault of the driver"))
        await house.admit("b")
        assert house.runtime.stops("a") == 3


@virtual_time
async def test_l14_an_idle_replica_stops_and_a_request_in_that_moment_waits_for_the_next_life() -> None:
    async with House(spec("a", idle_timeout_s=60.0)) as house:
        old = await house.admit("a")
        old.close()
        house.runtime.ignore_stop("a")
        await house.until("a", State.STOPPING)
        assert house.ask("a") is None
        waiting = house.later("a")
        house.runtime.obey_stop("a")
        house.runtime.exit("a")
        new = await waiting
        assert new.origin.generation > old.origin.generation
        assert house.moves("a")[-6:] == ["stopping", "stopped", "queued", "starting", "loading", "ready"]


@virtual_time
async def test_an_engine_that_says_it_works_is_neither_idled_out_nor_evicted() -> None:
    async with House(spec("a", idle_timeout_s=60.0, tells_work=True), spec("b")) as house:
        (await house.admit("a")).close()
        house.probe.works["a"] = True
        await asyncio.sleep(500)
        waiting = house.later("b", max_wait_s=25)
        assert isinstance(await error_of(waiting), WaitTimeout)
        assert house.state("a") is State.READY
        house.probe.works["a"] = False
        await house.admit("b")


@virtual_time
async def test_steady_traffic_to_one_service_does_not_starve_another() -> None:
    async with House(spec("a"), spec("b")) as house:
        traffic = asyncio.create_task(steady(house, "a", each_s=2.0, every_s=0.5))
        await house.until("a", State.READY)
        began = this_loop().now
        (await house.admit("b")).close()
        assert this_loop().now - began <= 30 + 2 + 1
        traffic.cancel()
        await asyncio.wait({traffic})


async def steady(house: House, service: str, *, each_s: float, every_s: float) -> None:
    async def one() -> None:
        grant = await house.admit(service)
        await asyncio.sleep(each_s)
        grant.close()

    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(one())
            await asyncio.sleep(every_s)
