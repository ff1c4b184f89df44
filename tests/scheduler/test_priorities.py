"""Priorities: they order those who wait and protect those who rest, and no wait for a claim is lengthened by them."""

from ai_proxy.services.machine import State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import World, ready, spec


def busy_gpu(*priorities: tuple[str, int]) -> World:
    """Services of which the one GPU holds one at a time; another one is at work on it."""
    world = World(gpus(10_000), [spec("x"), *(spec(name, priority=priority) for name, priority in priorities)])
    ready(world, "x")
    world.ask("x")
    return world


def test_room_that_comes_free_goes_to_the_higher_priority_though_it_came_later() -> None:
    world = busy_gpu(("low", 0), ("high", 2))
    world.arrive("low")
    world.now += 1
    world.arrive("high")
    world.close()
    world.finish("x")
    assert (world.at("high"), world.at("low")) == (State.STARTING, State.QUEUED)


def test_of_equals_the_one_that_has_waited_longer_gets_the_room() -> None:
    world = busy_gpu(("a", 1), ("b", 1))
    world.arrive("b")
    world.now += 1
    world.arrive("a")
    world.close()
    world.finish("x")
    assert (world.at("b"), world.at("a")) == (State.STARTING, State.QUEUED)


def test_an_idle_replica_makes_no_room_for_a_lower_priority() -> None:
    world = ready(World(gpus(10_000), [spec("high", priority=2), spec("low", priority=1)]), "high")
    world.arrive("low")
    assert (world.at("high"), world.at("low")) == (State.READY, State.QUEUED)


def test_an_idle_replica_makes_room_for_its_own_priority_and_any_higher_one() -> None:
    for other in (1, 2):
        world = ready(World(gpus(10_000), [spec("a"), spec("b", priority=other)]), "a")
        world.arrive("b")
        assert world.at("a") is State.STOPPING


def test_who_has_waited_for_long_enough_claims_room_from_a_higher_priority() -> None:
    """Priorities alone would starve the lower ones; a wait that became a claim counts more than any."""
    world = ready(World(gpus(10_000), [spec("high", priority=2), spec("low", priority=0)]), "high")
    world.ask("high")
    world.arrive("low")
    world.advance(30)
    assert world.at("high") is State.DRAINING
    world.close()
    world.run_all()
    assert world.at("low") is State.READY


def test_a_claim_goes_before_a_higher_priority_that_has_waited_for_less() -> None:
    world = busy_gpu(("low", 0), ("high", 2))
    world.arrive("low")
    world.advance(30)
    world.arrive("high")
    world.close()
    world.finish("x")
    assert (world.at("low"), world.at("high")) == (State.STARTING, State.QUEUED)


def test_of_two_claims_the_older_comes_first_whatever_their_priorities() -> None:
    world = busy_gpu(("low", 0), ("high", 2))
    world.arrive("low")
    world.advance(1)
    world.arrive("high")
    world.advance(60)
    world.close()
    world.finish("x")
    assert (world.at("low"), world.at("high")) == (State.STARTING, State.QUEUED)


def test_a_lower_priority_takes_the_room_that_is_of_no_use_to_the_higher() -> None:
    world = World(gpus(10_000), [spec("x", vram_mb=6_000), spec("high", priority=2), spec("low", 3_000, priority=0)])
    ready(world, "x")
    world.ask("x")
    world.arrive("high")
    world.arrive("low")
    assert (world.at("high"), world.at("low")) == (State.QUEUED, State.STARTING)


def test_room_that_is_promised_to_a_higher_priority_is_not_given_away_meanwhile() -> None:
    world = World(gpus(10_000), [spec("x", vram_mb=6_000), spec("high", priority=2), spec("low", 3_000, priority=0)])
    ready(world, "x")
    world.arrive("high")
    world.arrive("low")
    assert (world.at("x"), world.at("low")) == (State.STOPPING, State.QUEUED)


class TestClasses:
    """A request may have a class of its own, as its key says."""

    def test_a_request_of_a_higher_class_raises_its_service(self) -> None:
        world = busy_gpu(("a", 1), ("b", 1))
        world.arrive("a")
        world.now += 1
        world.arrive("b", priority=2)
        world.close()
        world.finish("x")
        assert (world.at("b"), world.at("a")) == (State.STARTING, State.QUEUED)

    def test_a_request_of_a_lower_class_does_not_lower_its_service(self) -> None:
        world = busy_gpu(("a", 1), ("b", 1))
        world.arrive("a", priority=0)
        world.now += 1
        world.arrive("b")
        world.close()
        world.finish("x")
        assert (world.at("a"), world.at("b")) == (State.STARTING, State.QUEUED)

    def test_idle_replicas_of_a_higher_priority_make_room_for_a_request_of_that_class(self) -> None:
        world = ready(World(gpus(10_000), [spec("high", priority=2), spec("low", priority=0)]), "high")
        world.arrive("low", priority=1)
        assert world.at("high") is State.READY
        world.arrive("low", priority=2)
        assert world.at("high") is State.STOPPING

    def test_what_was_said_of_a_service_is_said_anew_once_the_request_that_raised_it_has_left(self) -> None:
        world = ready(World(gpus(10_000), [spec("high", priority=2), spec("low", priority=0)]), "high")
        world.ask("high")
        world.arrive("low")
        world.leave(world.arrive("low", priority=2))
        world.close()
        assert (world.at("high"), world.at("low")) == (State.READY, State.QUEUED)

    def test_a_guest_raises_nothing(self) -> None:
        world = World(gpus(10_000), [spec("x"), spec("low", priority=0), spec("high", priority=1)])
        ready(world, "x")
        world.ask("x")
        world.arrive("high")
        world.arrive("low")
        assert world.state.services["low"].priority == 0
        world.arrive("low", priority=2, may_swap=False)
        assert world.state.services["low"].priority == 0

    def test_what_is_required_is_as_urgent_as_the_request_that_needs_it(self) -> None:
        specs = [spec("held", priority=2), spec("engine", 6_000), spec("app", 2_000, requires=("engine",))]
        world = ready(World(gpus(10_000), specs), "held")
        world.arrive("app")
        assert world.at("held") is State.READY
        world.arrive("app", priority=2)
        assert world.at("held") is State.STOPPING

    def test_in_a_queue_the_higher_class_is_first_and_of_one_class_the_older(self) -> None:
        world = ready(World(gpus(10_000), [spec("chat", max_in_flight=1)]), "chat")
        world.ask("chat")
        low, plain, high, later = (world.arrive("chat", priority=rank) for rank in (0, None, 2, 1))
        guest = world.arrive("chat", priority=2, may_swap=False)
        for number in (high, guest, plain, later, low):
            world.close()
            assert [each for each in world.answers if each not in world.waiting][-1] == number

    def test_nobody_overtakes_one_that_has_waited_for_long(self) -> None:
        world = ready(World(gpus(10_000), [spec("chat", max_in_flight=1)]), "chat")
        world.ask("chat")
        low = world.arrive("chat", priority=0)
        world.advance(30)
        world.arrive("chat", priority=2)
        world.close()
        assert list(world.answers) == [low]
