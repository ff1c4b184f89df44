"""A replica that has just come stays for a while: as long as it took to load, at most `min_residency_s`."""

from typing import Any

from ai_proxy.scheduler import messages as do
from ai_proxy.services.machine import Action, State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, spec


def loaded(load_s: float, **settings: Any) -> World:
    """Service a has just become ready, after so long; the one GPU holds one service at a time."""
    world = World(gpus(10_000), [spec("a"), spec("b")], **({"min_residency_s": 15.0} | settings))
    world.take(do.StartAsked("a"))
    world.finish("a")
    world.advance(load_s)
    world.finish("a")
    return world


def test_one_that_took_long_to_load_stays_for_as_long_as_the_config_says() -> None:
    world = loaded(60.0)
    world.arrive("b")
    world.advance(14)
    assert world.at("a") is State.READY
    world.advance(1)
    assert (world.at("a"), world.work["a"]) == (State.STOPPING, Action.STOP)


def test_one_that_loads_fast_stays_for_as_long_as_its_load_took() -> None:
    world = loaded(2.0)
    world.arrive("b")
    world.advance(1.5)
    assert world.at("a") is State.READY
    world.advance(0.5)
    assert world.at("a") is State.STOPPING


def test_without_the_setting_it_leaves_at_once() -> None:
    world = loaded(60.0, min_residency_s=0.0)
    world.arrive("b")
    assert world.at("a") is State.STOPPING


def test_a_claim_does_not_wait_for_it() -> None:
    world = loaded(60.0, min_residency_s=600.0)
    world.arrive("b")
    world.advance(29)
    assert world.at("a") is State.READY
    world.advance(1)
    assert world.at("a") is State.STOPPING


def test_two_that_are_asked_for_in_turn_share_the_time_instead_of_swapping_for_each_request() -> None:
    world = loaded(10.0)
    for _ in range(60):
        for service in ("a", "b"):
            if not world.ask(service):
                world.arrive(service)
        while world.open:
            world.close()
        world.run_all()
        world.advance(1.0)
    starts = [move for move in world.moves if move.state is State.STARTING]
    assert len(starts) < 60
