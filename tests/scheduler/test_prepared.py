"""A start that waits for its room is prepared at once, and again for whatever room is promised to it."""

from ai_proxy.scheduler.spec import Nap
from ai_proxy.services.machine import State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, one_gpu, ready, spec


def test_a_start_is_prepared_before_and_when_room_is_promised_to_it() -> None:
    world = ready(one_gpu("a", "b"), "a")
    assert world.prepared == [], "there was room"
    world.ask("a")
    world.arrive("b")
    assert world.prepared == [("b", None)]
    world.arrive("b")
    world.close()
    assert world.at("a") is State.STOPPING
    (_, (key, room)) = world.prepared
    world.finish("a")
    assert (key, room) == ("b", world.rooms["b"])
    assert len(world.prepared) == 2


def test_it_is_prepared_again_when_it_gets_other_room_than_it_was_promised() -> None:
    world = ready(World(gpus(10_000, 10_000), [spec(name) for name in "abc"]), "a", "b")
    world.arrive("c")
    world.measure({world.devices[0].uuid: 9_000}, {world.devices[1].uuid: {"b": 8_000}}, unknown=["a"])
    first, second = (room for _, room in world.prepared if room is not None)
    assert (first.devices, second.devices) == (world.devices[:1], world.devices[1:])
    world.run_all()
    assert world.rooms["c"] == second


def test_each_wait_is_prepared_anew() -> None:
    world = ready(one_gpu("a", "b"), "a")
    for waits in (1, 2):
        world.ask("a")
        world.leave(world.arrive("b"))
        assert world.at("b") is State.STOPPED
        assert world.prepared == [("b", None)] * waits
        world.close()


def test_what_wakes_where_it_sleeps_is_not_prepared() -> None:
    sleeper = spec("a", naps=(Nap(1, 1_000, moves=True),))
    world = ready(World(gpus(10_000), [sleeper, spec("b")], memory_mb=64_000), "a", "b")
    assert world.at("a") is State.SLEEPING
    world.arrive("a")
    world.run_all()
    assert world.at("a") is State.READY
    assert {key for key, _ in world.prepared} == {"b"}
