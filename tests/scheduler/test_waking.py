"""Where a sleeper wakes, and that nobody leaves for it in vain."""

from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.ledger import Demand
from ai_proxy.scheduler.messages import Eviction
from ai_proxy.scheduler.spec import Nap, ServiceSpec
from ai_proxy.services.machine import Action, State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, ready, spec

LIGHT = Nap(1, 1_000, moves=True)


def on_gpu(device: str, service: str, vram_mb: int = 8_000) -> ServiceSpec:
    return ServiceSpec(service, Demand(1, (device,), vram_mb))


def asleep(*others: ServiceSpec, memory_mb: int = 64_000) -> World:
    """Service a sleeps on GPU 0, as b has taken its room there; GPU 1 is as large."""
    blocker = on_gpu("1", "blocker")
    world = World(
        gpus(10_000, 10_000),
        [spec("a", naps=(LIGHT,)), on_gpu("0", "b"), blocker, *others],
        memory_mb=memory_mb,
    )
    ready(world, "blocker", "a", "b")
    world.take(do.StopAsked("blocker", "an operator"))
    world.run_all()
    assert (world.at("a"), world.at("b")) == (State.SLEEPING, State.READY)
    return world


def test_a_sleeper_wakes_on_its_device_if_room_can_be_made_there() -> None:
    world = asleep()
    world.arrive("a")
    assert world.at("b") is State.STOPPING
    world.finish("b")
    assert (world.at("a"), world.work["a"]) == (State.LOADING, Action.WAKE)


def test_a_sleeper_whose_device_is_busy_is_stopped_and_started_where_there_is_room() -> None:
    world = asleep()
    world.ask("b")
    number = world.arrive("a")
    assert (world.at("a"), world.at("b")) == (State.STOPPING, State.READY)
    world.run_all()
    assert [device.id for device in world.rooms["a"].devices] == ["1"]
    assert isinstance(world.answers[number], do.Admit)


def test_a_sleeper_whose_device_is_busy_is_started_where_an_idle_one_can_make_room() -> None:
    world = asleep(on_gpu("1", "c"))
    ready(world, "c")
    world.ask("b")
    number = world.arrive("a")
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)
    assert (world.at("b"), world.at("c")) == (State.READY, State.STOPPED)


def test_a_sleeper_with_nowhere_to_go_waits_where_it_sleeps_and_claims_its_room() -> None:
    world = asleep(on_gpu("1", "c"))
    ready(world, "c")
    world.ask("b")
    world.ask("c")
    world.arrive("a")
    assert world.at("a") is State.SLEEPING
    world.advance(30)
    assert State.DRAINING in {world.at("b"), world.at("c")}


def test_a_sleeper_whose_device_is_held_for_good_is_started_elsewhere() -> None:
    world = asleep()
    world.take(do.Configured(ServiceSpec("b", Demand(1, ("0",), 8_000), pinned=True)))
    number = world.arrive("a")
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)
    assert [device.id for device in world.rooms["a"].devices] == ["1"]


def test_the_memory_of_one_that_falls_asleep_is_charged_from_the_moment_it_begins_to_move() -> None:
    world = World(
        gpus(10_000),
        [spec("a", naps=(LIGHT,)), spec("b"), ServiceSpec("cpu", Demand(memory_mb=6_000))],
        memory_mb=8_000,
    )
    ready(world, "a")
    world.arrive("b")
    assert (world.at("a"), world.state.ledger.free_memory_mb) == (State.SLEEPING, 1_000)
    world.arrive("cpu")
    assert world.at("cpu") is State.QUEUED


def test_a_claim_that_would_put_to_sleep_stops_instead_if_the_memory_was_taken_meanwhile() -> None:
    world = World(
        gpus(10_000),
        [spec("a", naps=(LIGHT,)), spec("b"), ServiceSpec("cpu", Demand(memory_mb=6_000))],
        memory_mb=8_000,
    )
    ready(world, "a")
    world.ask("a")
    world.arrive("b")
    world.advance(30)
    assert world.at("a") is State.DRAINING
    ready(world, "cpu")
    world.close()
    assert (world.at("a"), world.moves[-1].eviction) == (State.STOPPING, Eviction.CLAIM)
    world.run_all()
    assert world.at("b") is State.READY


def test_a_sleeper_that_nobody_waits_for_any_more_goes_on_sleeping() -> None:
    world = asleep(on_gpu("1", "c"))
    ready(world, "c")
    world.ask("b")
    world.ask("c")
    number = world.arrive("a")
    world.leave(number)
    assert world.at("a") is State.SLEEPING
    assert not world.state.interested


def test_a_level_of_sleep_that_left_the_config_while_it_falls_asleep_is_kept_to() -> None:
    world = World(gpus(10_000), [spec("a", naps=(LIGHT,)), spec("b")], memory_mb=64_000)
    ready(world, "a")
    number = world.arrive("b")
    world.take(do.Configured(spec("a")))
    world.run_all()
    assert isinstance(world.answers[number], do.Admit)
    assert world.state.ledger.placement("a").memory_mb == 7_000
