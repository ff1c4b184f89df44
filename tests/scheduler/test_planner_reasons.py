"""What the planner says of its decisions: figures, devices, and who is in the way and why."""

import pytest

from ai_proxy.devices import Device, Placement, Vendor
from ai_proxy.scheduler.ledger import Demand, Ledger
from ai_proxy.scheduler.planner import Ask, Evict, Plan, Refuse, Rung, Start, Wait, plan
from tests.scheduler.fleets import Occupant, Occupants, gpus

TWO = gpus(24_000, 12_000)
NINE = Demand(1, (), 9_000)
MACHINE = "the largest GPU has 24,000 MB, of which 500 stay free, and the host 8,000 MB"


def planned(
    demand: Demand, *occupants: Occupant, ledger: Ledger | None = None, loading: frozenset[str] = frozenset()
) -> Plan:
    ledger = ledger or Ledger(TWO, 8_000, headroom_mb=500, capacities={"tokens": 1})
    for occupant in occupants:
        ledger.reserve(occupant.holder, occupant.placement)
    fleet = Occupants({occupant.holder: occupant for occupant in occupants})
    return plan(Ask("new", demand, loading=loading), ledger, fleet)


def on(*places: int, mb: int) -> Placement:
    return Placement(tuple(TWO[place] for place in places), mb)


def test_a_start_says_where() -> None:
    starts = [planned(demand) for demand in (NINE, Demand(2, (), 9_000), Demand(memory_mb=100), Demand())]
    assert [start.reason for start in starts if isinstance(start, Start)] == [
        "1 GPU with 9,000 MB fits on GPU 1",
        "2 GPUs with 9,000 MB each fits on GPUs 0, 1",
        "100 MB of host memory is there",
        "it needs no room",
    ]


def test_an_eviction_says_who_gives_room_and_at_what_price() -> None:
    asleep = Rung(1, Placement(), 2.5)
    occupants = (
        Occupant("chat", on(0, mb=20_000), rungs=(asleep,)),
        Occupant("old", on(1, mb=11_000), rungs=(Rung(0, Placement(), 0.75),)),
    )
    both = planned(Demand(2, (), 9_000), *occupants)
    assert isinstance(both, Evict)
    assert (
        both.reason
        == "it needs 2 GPUs with 9,000 MB each; old stops, chat sleeps (level 1) on GPUs 0, 1: regret 3.25 s"
    )
    assert both.placement == Placement(TWO, 9_000)


def test_a_wait_names_those_that_must_have_left_and_where_it_will_go() -> None:
    going = Occupant("going", on(1, mb=11_000), idle=False, leaving=True)
    far = Occupant("far", on(0, mb=20_000), idle=False, leaving=True)
    assert planned(NINE, going, far) == Wait("going must have left first", Placement((TWO[1],), 9_000))


def test_a_wait_for_a_load_says_so() -> None:
    verdict = planned(NINE, loading=frozenset({"GPU-0", "GPU-1"}))
    assert verdict == Wait(
        "it needs 1 GPU with 9,000 MB; something else is loading on GPU 1, one at a time", Placement((TWO[1],), 9_000)
    )


def test_a_wait_names_who_stays_and_why_and_what_others_use() -> None:
    ledger = Ledger(TWO, 8_000, headroom_mb=500)
    ledger.measure("GPU-1", 3_000)
    ledger.reserve("lease:1", on(1, mb=1_000))
    verdict = planned(
        Demand(1, (), 11_000),
        Occupant("chat", on(0, mb=8_000), idle=False),
        Occupant("fixed", on(0, mb=5_000), pinned=True),
        Occupant("vip", on(0, mb=4_000), priority=1),
        Occupant("idle", on(0, mb=1_000)),
        ledger=ledger,
    )
    assert verdict == Wait(
        "it needs 1 GPU with 11,000 MB; "
        "GPU 1 has 7,500 MB free (held: lease:1 1,000 MB; other programs: 3,000 MB); "
        "GPU 0 has 5,500 MB free (busy: chat 8,000 MB; pinned: fixed 5,000 MB; of higher priority: vip 4,000 MB)"
    )


def test_a_wait_for_what_devices_share_says_who_has_it() -> None:
    busy = Occupant("busy", Placement(memory_mb=6_000, custom=(("tokens", 1),)), idle=False)
    assert planned(Demand(memory_mb=3_000, custom=(("tokens", 1),)), busy).reason == (
        "it needs 3,000 MB of host memory and 1 of tokens; "
        "the host has 2,000 MB free (busy: busy 6,000 MB); 0 of tokens are free (busy: busy)"
    )


def test_of_many_names_only_some_are_told() -> None:
    busy = [Occupant(f"s{number}", Placement(memory_mb=1_000), idle=False) for number in range(8)]
    assert "busy: s0 1,000 MB, s1 1,000 MB, s2 1,000 MB, s3 1,000 MB, s4 1,000 MB, 3 more" in (
        planned(Demand(memory_mb=1_000), *busy).reason
    )


def test_others_use_makes_it_wait_not_fail() -> None:
    ledger = Ledger(TWO, 0)
    ledger.measure("GPU-0", 20_000)
    assert planned(Demand(1, (), 20_000), ledger=ledger) == Wait(
        "it needs 1 GPU with 20,000 MB; GPU 0 has 4,000 MB free (other programs: 20,000 MB)"
    )


@pytest.mark.parametrize(
    ("demand", "reason"),
    [
        (Demand(1, (), 24_000), f"it needs 1 GPU with 24,000 MB; {MACHINE}"),
        (
            Demand(3, (), 1_000),
            "it needs 3 GPUs with 1,000 MB each; this machine has 2 GPUs: set resources.gpus or devices",
        ),
        (Demand(1, ("5",), 1_000), "it needs 1 GPU with 1,000 MB on 5; this machine does not have that"),
        (Demand(memory_mb=9_000), f"it needs 9,000 MB of host memory; {MACHINE}"),
        (Demand(custom=(("tokens", 2),)), "it needs 2 of tokens; of tokens there are 1: see capacities"),
        (Demand(custom=(("slots", 1),)), "it needs 1 of slots; of slots there are 0: see capacities"),
    ],
    ids=["vram", "gpus", "pins", "memory", "too few", "unknown"],
)
def test_a_refusal_says_what_the_machine_lacks(demand: Demand, reason: str) -> None:
    assert planned(demand) == Refuse(reason)


@pytest.mark.parametrize(
    ("pins", "reason"),
    [
        ((), " of one make; this machine has 1 of one make, MIG instances aside: set resources.gpus or devices"),
        (("0", "1"), " on 0, 1; several GPUs must be of one make, and no MIG instances"),
        (("0", "0:1"), " on 0, 0:1; several GPUs must be of one make, and no MIG instances"),
    ],
    ids=["any", "two makes", "a part"],
)
def test_a_refusal_says_that_gpus_of_different_kinds_do_not_combine(pins: tuple[str, ...], reason: str) -> None:
    kinds = Device("0", "GPU-0", 8_000), Device("1", "b", 8_000, vendor=Vendor.AMD), Device("0:1", "MIG-0", 8_000)
    verdict = planned(Demand(2, pins, 1_000), ledger=Ledger(kinds, 0))
    assert verdict == Refuse(f"it needs 2 GPUs with 1,000 MB each{reason}")


def test_a_wait_names_the_gpus_of_the_make_that_comes_closest() -> None:
    amd = Device("amd0", "b", 12_000, vendor=Vendor.AMD)
    ledger = Ledger([*TWO, amd], 0)
    busy = [Occupant("a", on(0, mb=20_000), idle=False), Occupant("b", Placement((amd,), 12_000), idle=False)]
    verdict = planned(Demand(2, (), 9_000), *busy, ledger=ledger)
    assert verdict == Wait("it needs 2 GPUs with 9,000 MB each; GPU 0 has 4,000 MB free (busy: a 20,000 MB)")


def test_a_refusal_names_the_pinned_that_hold_everything() -> None:
    pinned = [Occupant("a", on(0, mb=20_000), pinned=True), Occupant("b", on(1, mb=10_000), pinned=True)]
    assert planned(NINE, *pinned) == Refuse("it needs 1 GPU with 9,000 MB, which pinned services hold: a, b")


def test_a_pinned_one_that_an_operator_stops_is_waited_for() -> None:
    pinned = Occupant("a", on(0, 1, mb=12_000), pinned=True)
    leaving = Occupant("a", on(0, 1, mb=12_000), pinned=True, idle=False, leaving=True)
    assert isinstance(planned(Demand(2, (), 9_000), pinned), Refuse)
    assert planned(Demand(2, (), 9_000), leaving).reason == "a must have left first"
