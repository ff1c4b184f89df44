"""However busy the others are, a wait is bounded: a claim drains them, and the older claim comes first."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_proxy.scheduler.ledger import Demand
from ai_proxy.scheduler.spec import Nap, ServiceSpec
from ai_proxy.scheduler.waits import longest_wait_s
from tests.scheduler.fleets import gpus
from tests.scheduler.played import LOAD_S, LONGEST_S, STOP_S, Played, Request, Wait
from tests.scheduler.world import spec

CLAIM_S = 10.0
NAMES = "abcdef"


def bound_s(wait: Wait) -> float:
    """What is promised to one that waited."""
    return longest_wait_s(
        claim_after_s=CLAIM_S,
        exchange_s=LONGEST_S,
        stop_s=STOP_S,
        load_s=LOAD_S,
        ahead=wait.ahead,
        starts=wait.starts,
    )


def one_gpu() -> Played:
    sizes_mb = {"a": 4_000, "b": 5_000, "c": 6_000, "d": 10_000}
    return Played(gpus(10_000), [spec(name, mb) for name, mb in sizes_mb.items()], claim_after_s=CLAIM_S)


@st.composite
def fleets(draw: st.DrawFn) -> Played:
    """Services of all kinds that have to share a few devices: most don't fit beside each other."""
    sizes_mb = draw(st.lists(st.sampled_from((10_000, 20_000)), min_size=1, max_size=3))
    specs = [draw(services(name, len(sizes_mb))) for name in NAMES[: draw(st.integers(2, len(NAMES)))]]
    return Played(
        gpus(*sizes_mb),
        specs,
        memory_mb=draw(st.sampled_from((0, 8_000, 64_000))),
        claim_after_s=CLAIM_S,
        min_residency_s=draw(st.sampled_from((0.0, 15.0))),
    )


@st.composite
def services(draw: st.DrawFn, name: str, devices: int) -> ServiceSpec:
    requires = ("a",) if name > "c" and draw(st.booleans()) else ()
    return ServiceSpec(
        name,
        Demand(draw(st.integers(1, devices)), (), draw(st.sampled_from((2_000, 4_000, 6_000, 9_000)))),
        priority=draw(st.integers(0, 2)),
        conflicts=frozenset(draw(st.sets(st.sampled_from("bc"), max_size=1))) - {name, *requires},
        requires=requires,
        naps=draw(st.sampled_from(((), (), (Nap(1, 500, moves=True),), (Nap(2, 1_000),)))),
    )


def requests(names: str = NAMES) -> st.SearchStrategy[list[Request]]:
    classes = st.sampled_from((None, None, 0, 2))
    one = st.builds(Request, st.floats(0, 60), st.sampled_from(names), st.floats(0, LONGEST_S), classes)
    return st.lists(one, max_size=60)


@pytest.mark.slow
@given(requests("abcd"))
@settings(max_examples=60)
def test_a_wait_is_bounded_by_the_claims_ahead_of_it(crowd: list[Request]) -> None:
    for wait in one_gpu().play(crowd):
        assert wait.waited_s <= bound_s(wait) + 0.001, wait


@pytest.mark.slow
@given(fleets(), requests())
@settings(max_examples=100)
def test_priorities_devices_sleep_conflicts_and_requirements_leave_the_bound_as_it_is(
    world: Played, crowd: list[Request]
) -> None:
    known = world.state.services
    for wait in world.play([each for each in crowd if each.service in known]):
        assert wait.waited_s <= bound_s(wait) + 0.001, wait


def test_steady_traffic_to_one_service_lets_the_others_in() -> None:
    steady = [Request(at / 2, "d", 5.0) for at in range(120)]
    (wait,) = [wait for wait in one_gpu().play([*steady, Request(3.0, "a", 1.0)]) if wait.service == "a"]
    assert CLAIM_S <= wait.waited_s <= CLAIM_S + LONGEST_S + STOP_S + LOAD_S


def test_small_services_that_take_turns_do_not_keep_out_a_large_one() -> None:
    turns = [Request(at, "abc"[at % 3], 2.5) for at in range(90)]
    (wait,) = [wait for wait in one_gpu().play([*turns, Request(5.0, "d", 1.0)]) if wait.service == "d"]
    assert wait.waited_s <= CLAIM_S + LONGEST_S + STOP_S + 2 * LOAD_S


def test_steady_traffic_of_the_highest_priority_lets_the_lowest_in() -> None:
    world = Played(gpus(10_000), [spec("high", priority=2), spec("low", priority=0)], claim_after_s=CLAIM_S)
    steady = [Request(at / 2, "high", 5.0) for at in range(120)]
    (wait,) = [wait for wait in world.play([*steady, Request(3.0, "low", 1.0)]) if wait.service == "low"]
    assert wait.waited_s <= bound_s(wait)


def test_steady_requests_of_the_highest_class_let_the_others_in_though_one_is_served_at_a_time() -> None:
    world = Played(gpus(10_000), [spec("chat", max_in_flight=1)], claim_after_s=CLAIM_S)
    steady = [Request(float(at), "chat", 1.5, priority=2) for at in range(60)]
    low = Request(3.0, "chat", 0.5, priority=0)
    (served,) = [wait for wait in world.play([*steady, low]) if wait.priority == 0]
    # Once it may not be overtaken, only those are before it who came before it.
    assert CLAIM_S <= served.waited_s <= CLAIM_S + LONGEST_S


def test_services_that_conflict_with_one_and_take_turns_do_not_keep_it_out() -> None:
    specs = [spec("lone", conflicts=frozenset("abc")), *(spec(name) for name in "abc")]
    world = Played(gpus(40_000), specs, claim_after_s=CLAIM_S)
    turns = [Request(at, "abc"[at % 3], 2.5) for at in range(90)]
    (wait,) = [wait for wait in world.play([*turns, Request(5.0, "lone", 1.0)]) if wait.service == "lone"]
    assert wait.waited_s <= bound_s(wait)


def test_steady_traffic_to_one_that_requires_another_gives_both_their_rooms_away_in_the_end() -> None:
    specs = [spec("app", 2_000, requires=("engine",)), spec("engine", 7_000), spec("other", 9_000)]
    world = Played(gpus(10_000), specs, claim_after_s=CLAIM_S)
    steady = [Request(at / 2, "app", 5.0) for at in range(120)]
    (wait,) = [wait for wait in world.play([*steady, Request(3.0, "other", 1.0)]) if wait.service == "other"]
    assert wait.waited_s <= bound_s(wait)
