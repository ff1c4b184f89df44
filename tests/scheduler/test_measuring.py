"""What is measured counts: others' use, what replicas hold beyond their share, what is left behind, what is lost."""

from ai_proxy.errors import NoRoom
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.ledger import Demand
from ai_proxy.scheduler.measured import Measured
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.services.machine import Event, State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, expect_rejected, ready, spec

GPU = "GPU-0"


def test_what_others_use_shrinks_the_room_and_gives_it_back() -> None:
    world = World(gpus(10_000), [spec("a")])
    world.measure({GPU: 4_000})
    world.arrive("a")
    assert world.at("a") is State.QUEUED
    world.measure({GPU: 1_000})
    assert world.at("a") is State.STARTING


def test_what_others_use_makes_a_request_wait_and_never_refuses_it() -> None:
    world = World(gpus(10_000), [spec("a")])
    world.measure({GPU: 10_000})
    assert world.arrive("a") in world.waiting


def test_idle_replicas_make_room_that_others_have_taken() -> None:
    world = ready(World(gpus(20_000), [spec("a"), spec("b")]), "a")
    world.measure({GPU: 6_000}, unknown={"a"})
    world.arrive("b")
    assert world.at("a") is State.STOPPING


def test_nobody_leaves_for_what_would_not_fit_beside_others_use_all_the_same() -> None:
    world = ready(World(gpus(20_000), [spec("a"), spec("b")]), "a")
    world.measure({GPU: 15_000}, unknown={"a"})
    world.arrive("b")
    assert (world.at("a"), world.at("b")) == (State.READY, State.QUEUED)


def test_headroom_stays_free() -> None:
    world = World(gpus(16_200), [spec("a"), spec("b")], headroom_mb=512)
    ready(world, "a")
    world.arrive("b")
    assert world.at("a") is State.STOPPING


def test_a_replica_that_holds_more_than_it_was_given_is_charged_what_it_holds() -> None:
    world = World(gpus(20_000), [spec("a"), spec("b")])
    ready(world, "a")
    world.measure(held_mb={"a": {GPU: 13_000}})
    world.arrive("b")
    assert world.at("a") is State.STOPPING


def test_a_replica_that_holds_less_keeps_what_it_was_given() -> None:
    world = World(gpus(15_000), [spec("a"), spec("b")])
    ready(world, "a")
    world.measure(held_mb={"a": {GPU: 1_000}})
    world.arrive("b")
    assert world.at("a") is State.STOPPING


def test_a_replica_that_can_not_be_measured_is_no_stranger_to_its_own_device() -> None:
    world = World(gpus(16_000), [spec("a"), spec("b")])
    ready(world, "a")
    world.measure(unknown={"a"})
    world.arrive("b")
    assert (world.at("a"), world.at("b")) == (State.READY, State.STARTING)


def test_what_a_replica_leaves_behind_is_not_given_away_until_the_device_says_that_it_is_free() -> None:
    world = ready(World(gpus(10_000), [spec("a"), spec("b")]), "a")
    world.arrive("b")
    world.report("a", Event.GONE, leftovers={GPU: 5_000})
    assert world.at("b") is State.QUEUED
    world.measure()
    assert world.at("b") is State.STARTING


def test_memory_that_another_program_takes_in_the_moment_of_its_release_makes_the_start_wait() -> None:
    world = ready(World(gpus(10_000), [spec("a"), spec("b")]), "a")
    number = world.arrive("b")
    world.measure({GPU: 3_000}, unknown={"a"})
    world.finish("a")
    assert world.at("b") is State.QUEUED
    world.measure()
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)


def test_nothing_starts_on_a_device_that_is_lost_and_nobody_leaves_it_in_vain() -> None:
    world = ready(World(gpus(10_000, 8_000), [spec("a", 9_000), spec("b", 9_000)]), "a")
    world.measure(lost={GPU})
    world.arrive("b")
    assert (world.at("a"), world.at("b")) == (State.READY, State.QUEUED)
    world.measure(unknown={"a"})
    assert world.at("a") is State.STOPPING


def test_a_lost_device_leaves_the_others_as_they_are() -> None:
    world = World(gpus(10_000, 10_000), [spec("a")])
    world.measure(lost={GPU})
    world.arrive("a")
    world.run_all()
    assert [device.id for device in world.rooms["a"].devices] == ["1"]


# Leases


def lease(vram_mb: int) -> ServiceSpec:
    return ServiceSpec("lease:game", Demand(1, vram_mb=vram_mb), pinned=True, lease=True)


def test_idle_replicas_make_room_for_a_lease_and_who_needs_its_room_is_told_so_at_once() -> None:
    world = ready(World(gpus(10_000), [spec("a")]), "a")
    world.take(do.Configured(lease(8_000)))
    world.take(do.StartAsked("lease:game"))
    assert world.at("a") is State.STOPPING
    world.run_all()
    assert world.at("lease:game") is State.READY
    error = expect_rejected(world, world.arrive("a"))
    assert isinstance(error, NoRoom)
    assert "lease:game" in str(error)


def test_a_busy_replica_keeps_its_room_until_the_lease_has_waited_for_long_enough() -> None:
    world = ready(World(gpus(10_000), [spec("a")]), "a")
    world.ask("a")
    world.take(do.Configured(lease(8_000)))
    world.take(do.StartAsked("lease:game"))
    world.advance(29)
    assert world.at("a") is State.READY
    world.advance(1)
    assert world.at("a") is State.DRAINING


def test_what_a_leaseholder_uses_is_its_lease_though_it_does_not_tell_its_processes() -> None:
    world = World(gpus(20_000), [spec("a"), lease(8_000)])
    ready(world, "lease:game")
    world.take(Measured({GPU: 6_000}))  # those are the game's
    world.arrive("a")
    assert world.state.ledger.foreign_mb(world.devices[0]) == 0
    assert world.at("a") is State.STARTING


def test_a_lease_that_ends_gives_its_room_to_who_waits() -> None:
    world = World(gpus(20_000), [spec("a", 18_000), lease(8_000)])
    ready(world, "lease:game")
    world.take(do.Removed("lease:game"))
    world.arrive("a")
    assert world.at("a") is State.QUEUED
    world.finish("lease:game")
    assert world.at("a") is State.STARTING
