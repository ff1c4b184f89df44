"""Which replica takes a request: the emptier of two, or the one that its key points to while that is not too full."""

from collections import Counter
from math import ceil
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.devices import Placement
from ai_proxy.scheduler.balance import BOUND, choose
from ai_proxy.scheduler.spec import UNLIMITED
from ai_proxy.scheduler.state import Live, Replica, ServiceState
from tests.scheduler.world import spec


def lives(count: int, *, limit: int = UNLIMITED) -> list[Live]:
    service = ServiceState(spec("a"))
    return [Live(Replica(service, number), Placement(), limit) for number in range(count)]


def keys(count: int) -> list[bytes]:
    return [b"session-%d" % number for number in range(count)]


def test_without_affinity_no_replica_gets_far_more_than_its_share() -> None:
    among, draw = lives(8), Random(1).random
    for _ in range(8_000):
        choose(among, None, draw).open += 1
    assert max(live.open for live in among) - min(live.open for live in among) <= 8


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_the_fullest_is_never_chosen_without_affinity_unless_all_are_as_full(loads: list[int], random: Random) -> None:
    among = lives(len(loads))
    for live, load in zip(among, loads, strict=True):
        live.open = load
    chosen = choose(among, None, random.random)
    assert chosen.open < max(loads) or loads.count(max(loads)) >= 2


def test_a_full_replica_takes_nothing_while_another_has_a_slot() -> None:
    among = lives(5, limit=3)
    for live in among[1:]:
        live.open = 3
    for affinity in (None, *keys(20)):
        assert choose(among, affinity, Random(2).random) is among[0]


def test_requests_of_one_key_stay_together() -> None:
    among = lives(4)
    for key in keys(50):
        assert len({id(choose(among, key, Random(3).random)) for _ in range(5)}) == 1


def test_requests_of_one_key_stay_together_where_all_have_about_as_much_to_do() -> None:
    for loads in ((1, 1), (1, 1, 1, 1), (3, 4, 3), (5, 5, 5, 4, 5)):
        among = lives(len(loads))
        usual = {key: choose(among, key, Random(3).random) for key in keys(30)}
        for live, load in zip(among, loads, strict=True):
            live.open = load
        assert {key: choose(among, key, Random(3).random) for key in keys(30)} == usual


def test_keys_are_spread_over_all_replicas() -> None:
    among = lives(4)
    shares = Counter(choose(among, key, Random(4).random).replica.key for key in keys(4_000))
    assert min(shares.values()) > 700


@given(st.integers(2, 6), st.integers(1, 300))
def test_affinity_fills_no_replica_beyond_its_bound(count: int, requests: int) -> None:
    among = lives(count)
    for total in range(requests):
        chosen = choose(among, b"the same for all", Random(5).random)
        assert chosen.open + 1 <= ceil(BOUND * (total + 1) / count)
        chosen.open += 1


def test_a_replica_more_takes_its_share_of_the_keys_and_leaves_the_others_where_they_were() -> None:
    five = lives(5)
    before = {key: choose(five[:4], key, Random(6).random).replica.key for key in keys(2_000)}
    after = {key: choose(five, key, Random(6).random).replica.key for key in keys(2_000)}
    moved = [key for key in before if before[key] != after[key]]
    assert {after[key] for key in moved} == {"a#4"}
    assert 250 < len(moved) < 550
