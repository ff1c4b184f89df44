"""Which expert's victims cost least is judged by shadows."""

import pytest

from ai_proxy.scheduler.shadows import Contest, Cost, Shadow

WORTH = {"low": 1.0, "middle": 2.0, "high": 3.0}


def by_worth(service: str, now: float) -> float:
    return WORTH.get(service, 9.0)


def shadow(**sizes_mb: float) -> Shadow:
    made = Shadow(by_worth)
    for service, size_mb in sizes_mb.items():
        made.load(service, size_mb, memory_mb=100.0, now=0.0)
    return made


def test_the_least_worth_leave_until_it_fits() -> None:
    one = shadow(high=30, low=20, middle=40)

    one.load("new", 60.0, memory_mb=100.0, now=0.0)

    assert one.held_mb == {"high": 30, "new": 60}
    assert one.margin == WORTH["middle"]


def test_nobody_leaves_in_vain() -> None:
    one = shadow(high=30, low=20, middle=50)

    one.load("new", 50.0, memory_mb=100.0, now=0.0)

    assert one.held_mb == {"high": 30, "low": 20, "new": 50}


def test_what_is_larger_than_the_memory_has_it_alone() -> None:
    one = shadow(high=30, low=20)

    one.load("new", 500.0, memory_mb=100.0, now=0.0)

    assert one.held_mb == {"new": 500}


@pytest.mark.parametrize("residents", [12, 13, 200])
def test_among_many_it_looks_at_some_and_still_makes_room(residents: int) -> None:
    looked: list[str] = []

    def expert(service: str, now: float) -> float:
        looked.append(service)
        return float(service)

    one = Shadow(expert)
    for number in range(residents):
        one.load(str(number), 1.0, memory_mb=residents, now=0.0)

    one.load("1000", 3.0, memory_mb=residents, now=0.0)

    assert len(one.held_mb) == residents - 2
    assert len(looked) <= 12


def contest() -> Contest:
    """The second expert keeps `hot`; the first drops it for whatever comes."""
    return Contest(
        {
            "first": lambda service, now: 0.0 if service == "hot" else 1.0,
            "second": lambda service, now: 1.0 if service == "hot" else 0.0,
        }
    )


def play(judged: Contest, rounds: int, begin: float = 0.0) -> float:
    now = begin
    for number in range(rounds):
        for service in ("hot", f"cold{number}"):
            now += 10.0
            judged.used(service, Cost(reload_s=10.0, size_mb=50.0), 100.0, now)
    return now


def test_one_lucky_use_makes_no_leader() -> None:
    judged = contest()

    play(judged, 3)

    assert judged.leader == "first"


def test_an_expert_that_pays_less_again_and_again_is_followed() -> None:
    judged = contest()

    play(judged, 60)

    assert judged.leader == "second"


def test_whom_the_uses_no_longer_favour_is_left_for_the_first() -> None:
    judged = contest()
    end = play(judged, 60)

    now = end
    for number in range(400):
        for service in ("warm", f"other{number}"):
            now += 10.0
            judged.used(service, Cost(reload_s=10.0, size_mb=50.0), 100.0, now)

    assert judged.leader == "first"


def test_the_next_life_follows_whom_this_one_followed() -> None:
    judged, after = contest(), contest()
    play(judged, 60)

    after.load(*judged.dump(), now=5.0)

    assert after.leader == "second"
