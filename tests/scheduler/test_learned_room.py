"""A service that does not say what it needs gets a GPU to itself, until it is known what it took."""

from typing import Any

import pytest

from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.figures import Figures
from ai_proxy.services.machine import State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, ready, spec


def unsaid(**more: Any) -> World:
    """Two services without figures, one with, on one GPU."""
    return World(gpus(24_000), [spec("a", None), spec("b", None), spec("c", 2_000)], **more)


def test_without_a_figure_it_has_a_gpu_to_itself() -> None:
    world = ready(unsaid(), "c", "a")
    assert (world.at("a"), world.at("c")) == (State.READY, State.STOPPED)
    assert world.rooms["a"].vram_mb == 24_000


def test_once_it_is_learned_it_gets_what_it_takes_and_shares_the_gpu() -> None:
    world = unsaid()
    for service in "ab":
        world.take(do.Recalled(service, Figures(peak_vram_mb=10_000)))
    ready(world, "a", "b", "c")
    assert {world.at(service) for service in "abc"} == {State.READY}
    assert world.rooms["a"].vram_mb == 10_500


def test_what_is_learned_while_it_runs_counts_from_its_next_start_on() -> None:
    world = ready(unsaid(), "a")
    world.take(do.Recalled("a", Figures(peak_vram_mb=10_000)))
    assert world.rooms["a"].vram_mb == 24_000
    world.take(do.StopAsked("a", "an operator"))
    world.run_all()
    ready(world, "a")
    assert world.rooms["a"].vram_mb == 10_500


def test_what_is_learned_of_one_that_waits_may_be_all_that_it_needs() -> None:
    world = ready(unsaid(), "c")
    world.ask("c")
    world.arrive("a")
    assert world.at("a") is State.QUEUED
    world.take(do.Recalled("a", Figures(peak_vram_mb=10_000)))
    assert world.at("a") is State.STARTING


def test_a_declared_figure_is_kept_to_whatever_was_measured() -> None:
    world = World(gpus(24_000), [spec("a", 8_000)])
    world.take(do.Recalled("a", Figures(peak_vram_mb=3_000)))
    ready(world, "a")
    assert world.rooms["a"].vram_mb == 8_000


def test_a_peak_that_fills_the_gpu_stays_a_gpu_to_itself_and_is_not_refused_for_its_margin() -> None:
    world = unsaid(headroom_mb=512)
    world.take(do.Recalled("a", Figures(peak_vram_mb=23_500)))
    ready(world, "a")
    assert world.at("a") is State.READY
    assert world.rooms["a"].vram_mb == 24_000


@pytest.mark.parametrize(("reload_s", "leaves"), [((300.0, 3.0), "b"), ((3.0, 300.0), "a")], ids=["a-slow", "b-slow"])
def test_who_loads_faster_leaves_where_both_are_used_alike(reload_s: tuple[float, float], leaves: str) -> None:
    world = World(gpus(20_000), [spec("a"), spec("b"), spec("c")])
    for service, load_s in zip("ab", reload_s, strict=True):
        world.take(do.Recalled(service, Figures(loads_s=(load_s,))))
    ready(world, "a", "b")
    for _ in range(20):
        world.advance(30)
        for service in "ab":
            world.state.estimates.used(service, world.now)
    world.arrive("c")
    assert {service for service in "ab" if world.at(service) is State.STOPPING} == {leaves}
