"""What operators, reloads and the end of the proxy do to a replica, whatever it is doing."""

import pytest

from ai_proxy.errors import Draining
from ai_proxy.scheduler import messages as do
from ai_proxy.services.machine import State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, expect_rejected, one_gpu, ready, spec

# Operators


@pytest.mark.parametrize("finished", [0, 1], ids=["starting", "loading"])
def test_a_stop_during_a_start_answers_those_who_wait_and_ends_it(finished: int) -> None:
    world = one_gpu("a")
    number = world.arrive("a")
    for _ in range(finished):
        world.finish("a")
    world.take(do.StopAsked("a", "an operator"))
    assert isinstance(expect_rejected(world, number), Draining)
    world.run_all()
    assert world.at("a") is State.STOPPED


def test_a_start_during_a_stop_begins_when_the_stop_is_done() -> None:
    world = ready(one_gpu("a"), "a")
    world.take(do.StopAsked("a", "an operator"))
    world.take(do.StartAsked("a"))
    assert world.at("a") is State.STOPPING
    world.run_all()
    assert world.at("a") is State.READY


def test_the_last_intent_wins_whatever_came_before() -> None:
    world = ready(one_gpu("a"), "a")
    world.take(do.StopAsked("a", "an operator"))
    world.take(do.StartAsked("a"))
    world.take(do.StopAsked("a", "an operator"))
    world.run_all()
    assert world.at("a") is State.STOPPED


def test_a_restart_lets_open_requests_end_and_keeps_those_who_wait() -> None:
    world = ready(one_gpu("a", max_in_flight=1), "a")
    world.ask("a")
    number = world.arrive("a")
    world.take(do.StopAsked("a", "an operator", restart=True))
    assert world.at("a") is State.DRAINING
    world.close()
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)


def test_a_removed_service_answers_its_queue_drains_stops_and_is_forgotten() -> None:
    world = ready(one_gpu("a", max_in_flight=1), "a")
    world.ask("a")
    number = world.arrive("a")
    world.take(do.Removed("a"))
    assert isinstance(expect_rejected(world, number), Draining)
    assert not world.ask("a")
    world.close()
    world.run_all()
    assert "a" not in world.state.services


def test_a_service_that_returns_while_it_drains_stays_and_is_replaced() -> None:
    world = ready(one_gpu("a"), "a")
    world.ask("a")
    world.take(do.Removed("a"))
    world.take(do.Configured(spec("a"), replace=True))
    number = world.arrive("a")
    world.close()
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)


def test_settings_that_do_not_shape_the_replica_change_live() -> None:
    world = ready(one_gpu("a", max_in_flight=1), "a")
    world.ask("a")
    number = world.arrive("a")
    world.take(do.Configured(spec("a", max_in_flight=2)))
    assert isinstance(world.answers[number], do.Admit)
    assert world.at("a") is State.READY


def test_a_reload_during_a_start_begins_it_again_with_the_new_settings() -> None:
    world = one_gpu("a")
    number = world.arrive("a")
    world.take(do.Configured(spec("a", vram_mb=6_000), replace=True))
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)
    assert world.rooms["a"].vram_mb == 6_000


def test_when_the_proxy_ends_everything_stops_but_what_is_kept_and_nobody_gets_in() -> None:
    world = ready(World(gpus(10_000, 10_000), [spec("a"), spec("b")]), "a", "b")
    world.take(do.ShutDown(frozenset({"b"})))
    assert (world.at("a"), world.at("b")) == (State.STOPPING, State.READY)
    assert not world.ask("b")
    assert isinstance(expect_rejected(world, world.arrive("b")), Draining)
    world.take(do.StartAsked("a"))
    world.run_all()
    assert world.at("a") is State.STOPPED
