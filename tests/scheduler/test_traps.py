"""Traps that others have fallen into, and that no other test of ours covers; `docs/traps.md` lists them all."""

import pytest

from ai_proxy.errors import StartFailed
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.messages import Eviction
from ai_proxy.services.machine import State
from tests.fakes.clock import virtual_time
from tests.scheduler.fleets import gpus
from tests.scheduler.house import House
from tests.scheduler.world import World, expect_rejected, one_gpu, ready, settle_down, spec


@virtual_time
async def test_an_unload_that_hangs_stalls_no_other_service() -> None:
    async with House(spec("a"), spec("b"), gpus_mb=(10_000, 10_000)) as house:
        (await house.admit("a")).close()
        house.runtime.ignore_stop("a")
        house.scheduler.stop("a", "an operator")
        await house.runtime.until("stop a")
        (await house.admit("b")).close()
        assert (house.state("a"), house.state("b")) == (State.STOPPING, State.READY)
        house.runtime.obey_stop("a")
        house.runtime.exit("a")


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_two_edits_in_a_row_leave_one_instance(busy: bool) -> None:
    world = ready(one_gpu("a"), "a")
    if busy:
        world.ask("a")
    world.arrive("a")
    for weight in (2.0, 3.0):
        world.take(do.Configured(spec("a", weight=weight), replace=True))
    settle_down(world)
    world.arrive("a")
    settle_down(world)
    lives = [move.state for move in world.moves if move.replica == "a"]
    assert lives.count(State.STARTING) == 2
    assert world.at("a") is State.READY


def test_a_service_that_dies_at_each_start_does_not_evict_the_others_again_and_again() -> None:
    """While it rests after a failure nobody leaves for it, however often its client asks."""
    world = ready(one_gpu("a", "b"), "b")
    world.arrive("a")
    world.finish("b")
    for _ in range(6):
        world.break_("a", "it can't read its model")
        world.run_all()
        world.take(do.StartAsked("b"))
        world.run_all()
        for _ in range(10):
            expect_rejected(world, world.arrive("a"))
        assert world.at("b") is State.READY
        world.advance(world.state.services["a"].retry_at - world.now)
        world.arrive("a")
        world.finish("b")
    evictions = [move for move in world.moves if move.eviction is Eviction.ROOM]
    assert len(evictions) == 7


def test_a_client_that_polls_a_broken_service_leaks_no_room() -> None:
    world = World(gpus(10_000), [spec("a", tells_work=True)])
    for _ in range(300):
        world.arrive("a")
        if world.at("a") is State.STARTING:
            world.break_("a", "out of memory")
        world.run_all()
        world.advance(1)
    starts = sum(move.state is State.STARTING for move in world.moves)
    assert world.state.ledger.held == {}
    assert starts <= 10
    assert all(isinstance(expect_rejected(world, number), StartFailed) for number in world.answers)


def test_a_client_that_leaves_during_the_eviction_for_it_starts_nothing() -> None:
    world = ready(one_gpu("a", "b"), "b")
    number = world.arrive("a")
    assert world.at("b") is State.STOPPING
    world.leave(number)
    world.run_all()
    assert (world.at("a"), world.at("b")) == (State.STOPPED, State.STOPPED)
    assert not world.state.interested


def test_what_loads_for_somebody_is_not_evicted_for_room() -> None:
    world = one_gpu("a", "b")
    number = world.arrive("a")
    world.arrive("b")
    for _ in range(2):
        assert world.at("a") in {State.STARTING, State.LOADING}
        world.finish("a")
    assert isinstance(world.answers[number], do.Admit)


def test_a_service_that_dies_as_often_as_it_is_ready_rests_longer_each_time() -> None:
    world = one_gpu("a")
    rests_s = []
    for _ in range(5):
        world.arrive("a")
        world.run_all()
        world.advance(1)
        world.close()
        world.break_("a", "it died")
        world.run_all()
        rests_s.append(world.state.services["a"].retry_at - world.now)
        world.advance(max(rests_s[-1], 0.0))
    assert rests_s[-1] > 4 * rests_s[0]


def test_an_engine_of_another_type_is_not_waited_for_because_of_what_the_old_one_said() -> None:
    world = ready(one_gpu("a", "b", tells_work=True), "a")
    world.tell("a", busy=True)
    world.arrive("b")
    assert world.at("a") is State.READY
    world.take(do.Configured(spec("a")))
    assert world.at("a") is State.STOPPING
