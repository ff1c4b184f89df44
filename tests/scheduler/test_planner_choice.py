"""Who is asked to give room, and how: the smallest regret that is enough, and nobody who may not be asked."""

from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given

from ai_proxy.devices import Device, Placement, Vendor
from ai_proxy.scheduler.ledger import Demand, Ledger
from ai_proxy.scheduler.planner import (
    Ask,
    Choice,
    Evict,
    Refuse,
    Rung,
    Start,
    Victim,
    Wait,
    least_regret,
    plan,
    vacated,
)
from tests.scheduler.fleets import Crowd, Occupant, Occupants, asks, crowds, gpus

TWO = gpus(24_000, 24_000)


def on(*places: int, mb: int = 24_000, memory_mb: int = 0) -> Placement:
    return Placement(tuple(TWO[place] for place in places), mb, memory_mb)


def there(*occupants: Occupant, memory_mb: int = 0, capacities: dict[str, int] | None = None) -> Crowd:
    ledger = Ledger(TWO, memory_mb, capacities=capacities)
    for occupant in occupants:
        ledger.reserve(occupant.holder, occupant.placement)
    return Crowd(ledger, Occupants({occupant.holder: occupant for occupant in occupants}))


def missed(regret: float) -> tuple[Rung, ...]:
    return (Rung(0, Placement(), regret),)


def victims(crowd: Crowd, ask: Ask) -> Sequence[Victim]:
    verdict = plan(ask, crowd.ledger, crowd.residents)
    assert isinstance(verdict, Evict), verdict
    return verdict.victims


def one(mb: int | None = 20_000, memory_mb: int = 0) -> Demand:
    return Demand(1, (), mb, memory_mb)


def test_two_that_nobody_misses_leave_rather_than_one_that_is_missed() -> None:
    crowd = there(
        Occupant("dear", on(0), rungs=missed(9.0)),
        Occupant("a", on(1, mb=12_000), rungs=missed(2.0)),
        Occupant("b", on(1, mb=12_000), rungs=missed(3.0)),
    )
    assert victims(crowd, Ask("new", one())) == (Victim("a"), Victim("b"))
    assert victims(crowd, Ask("new", one(12_000))) == (Victim("a"),)


def test_one_on_two_gpus_leaves_rather_than_one_on_each() -> None:
    crowd = there(
        Occupant("wide", on(0, 1, mb=10_000), rungs=missed(3.0)),
        Occupant("a", on(0, mb=10_000), rungs=missed(2.0)),
        Occupant("b", on(1, mb=10_000), rungs=missed(2.0)),
    )
    assert victims(crowd, Ask("new", Demand(2, (), 12_000))) == (Victim("wide"),)


def test_who_is_asked_sleeps_where_that_is_enough_and_stops_where_it_is_not() -> None:
    asleep = Rung(1, on(0, mb=2_000), 1.0)
    crowd = there(
        Occupant("chat", on(0), rungs=(asleep, Rung(0, Placement(), 5.0))), Occupant("busy", on(1), idle=False)
    )
    assert victims(crowd, Ask("new", one(20_000))) == (Victim("chat", 1),)
    assert victims(crowd, Ask("new", one(23_000))) == (Victim("chat", 0),)
    assert victims(crowd, Ask("new", one(None))) == (Victim("chat", 0),)


def test_nobody_sleeps_into_host_memory_that_is_not_there() -> None:
    asleep = Rung(1, on(mb=0, memory_mb=16_000), 1.0)
    sleeper = Occupant("chat", on(0), rungs=(asleep, Rung(0, Placement(), 5.0)))
    busy = Occupant("busy", on(1), idle=False)
    assert victims(there(sleeper, busy, memory_mb=20_000), Ask("new", one())) == (Victim("chat", 1),)
    assert victims(there(sleeper, busy, memory_mb=10_000), Ask("new", one())) == (Victim("chat", 0),)
    assert victims(there(sleeper, busy, memory_mb=20_000), Ask("new", one(memory_mb=8_000))) == (Victim("chat", 0),)


def test_nobody_sleeps_into_the_host_memory_that_is_asked_for_beside_a_named_resource() -> None:
    asleep = Rung(1, Placement(memory_mb=5_000), 0.0)
    holder = Occupant("a", Placement(custom=(("tokens", 1),)), rungs=(asleep, Rung(0, Placement(), 1.0)))
    crowd = there(holder, memory_mb=8_000, capacities={"tokens": 1})
    assert victims(crowd, Ask("new", Demand(memory_mb=4_000, custom=(("tokens", 1),)))) == (Victim("a", 0),)


def test_one_may_leave_so_that_another_can_sleep() -> None:
    asleep = Rung(1, on(mb=0, memory_mb=16_000), 1.0)
    crowd = there(
        Occupant("chat", on(0), rungs=(asleep, Rung(0, Placement(), 50.0))),
        Occupant("busy", on(1), idle=False),
        Occupant("cpu", on(mb=0, memory_mb=10_000), rungs=missed(2.0)),
        memory_mb=20_000,
    )
    assert victims(crowd, Ask("new", one())) == (Victim("chat", 1), Victim("cpu"))


def test_who_cannot_run_without_a_victim_leaves_with_it() -> None:
    base = Occupant("base", on(0, mb=12_000), rungs=missed(1.0), along=("tool",))
    tool = Occupant("tool", on(mb=0, memory_mb=1_000), rungs=missed(4.0))
    other = Occupant("other", on(0, mb=12_000), rungs=missed(3.0))
    busy = Occupant("busy", on(1), idle=False)
    assert victims(there(base, tool, busy, memory_mb=1_000), Ask("new", one())) == (Victim("base"), Victim("tool"))
    assert victims(there(base, tool, other, busy, memory_mb=1_000), Ask("new", one(12_000))) == (Victim("other"),)


def test_a_victim_is_not_asked_if_one_that_leaves_with_it_may_not_be() -> None:
    base = Occupant("base", on(0), rungs=missed(1.0), along=("tool",))
    tool = Occupant("tool", on(mb=0, memory_mb=1_000), idle=False)
    dear = Occupant("dear", on(1), rungs=missed(60.0))
    assert victims(there(base, tool, dear, memory_mb=1_000), Ask("new", one())) == (Victim("dear"),)


@pytest.mark.parametrize("where", ["on the same GPU", "elsewhere"])
def test_a_service_in_conflict_stops_though_there_is_room(where: str) -> None:
    asleep = Rung(1, Placement(), 0.1)
    place = on(0, mb=1_000) if where == "on the same GPU" else on(mb=0)
    rival = Occupant("rival", place, rungs=(asleep, Rung(0, Placement(), 5.0)))
    assert victims(there(rival), Ask("new", one(), conflicts=frozenset({"rival"}))) == (Victim("rival", 0),)


def test_a_busy_service_in_conflict_is_waited_for_and_a_pinned_one_never_leaves() -> None:
    ask = Ask("new", one(), conflicts=frozenset({"rival"}))
    busy, pinned = there(Occupant("rival", on(0), idle=False)), there(Occupant("rival", on(0), pinned=True))
    assert plan(ask, busy.ledger, busy.residents).reason == (
        "it needs 1 GPU with 20,000 MB; it may not run beside busy: rival"
    )
    assert plan(ask, pinned.ledger, pinned.residents) == Refuse("it may not run beside rival, pinned")


def test_a_service_makes_no_room_for_itself_and_what_it_requires_none_either() -> None:
    crowd = there(
        Occupant("new#1", on(0), rungs=missed(0.0), service="new"), Occupant("base", on(1), rungs=missed(0.0))
    )
    verdict = plan(Ask("new", one(), requires=frozenset({"base"})), crowd.ledger, crowd.residents)
    assert isinstance(verdict, Wait)
    assert "kept: new#1" in verdict.reason
    assert "kept: base" in verdict.reason


def test_nobody_leaves_for_a_lower_priority() -> None:
    crowd = there(Occupant("high", on(0), priority=1), Occupant("normal", on(1), rungs=missed(90.0)))
    assert victims(crowd, Ask("new", one())) == (Victim("normal"),)
    assert victims(crowd, Ask("new", one(), priority=1)) == (Victim("high"),)


def test_named_resources_are_made_room_for() -> None:
    holding = {"a": 3.0, "b": 1.0, "c": 2.0}
    tokens = [Occupant(name, Placement(custom=(("tokens", 1),)), rungs=missed(much)) for name, much in holding.items()]
    crowd = there(*tokens, capacities={"tokens": 3})
    assert victims(crowd, Ask("new", Demand(custom=(("tokens", 2),)))) == (Victim("b"), Victim("c"))


def test_a_gpu_to_itself_is_had_whatever_others_use_of_it() -> None:
    crowd = there()
    crowd.ledger.measure("GPU-0", 20_000)
    crowd.ledger.measure("GPU-1", 1_000)
    assert plan(Ask("new", one(None)), crowd.ledger, crowd.residents) == Start(on(1), "a GPU to itself fits on GPU 1")


def test_room_is_made_where_nothing_loads_if_it_can_be() -> None:
    crowd = there(Occupant("a", on(0), rungs=missed(1.0)), Occupant("b", on(1), rungs=missed(8.0)))
    assert victims(crowd, Ask("new", one(), loading=frozenset({"GPU-0"}))) == (Victim("b"),)
    assert victims(crowd, Ask("new", one(), loading=frozenset({"GPU-0", "GPU-1"}))) == (Victim("a"),)


def test_nobody_leaves_and_nothing_waits_for_a_device_that_is_lost() -> None:
    crowd = there(Occupant("a", on(0), rungs=missed(1.0)), Occupant("b", on(1), rungs=missed(8.0)))
    lost = frozenset({"GPU-0"})
    assert victims(crowd, Ask("new", one(), lost=lost)) == (Victim("b"),)
    crowd = there(Occupant("a", on(0), idle=False, leaving=True), Occupant("b", on(1), idle=False))
    assert plan(Ask("new", one(), lost=lost), crowd.ledger, crowd.residents) == Wait(
        "it needs 1 GPU with 20,000 MB; out of question: GPU 0; GPU 1 has 0 MB free (busy: b 24,000 MB)"
    )


def test_room_on_several_gpus_is_made_on_one_make_however_cheap_a_mix_would_be() -> None:
    kinds = [Device(f"{n}", f"GPU-{n}", 8_000, vendor=Vendor.AMD if n < 2 else Vendor.NVIDIA) for n in range(4)]
    ledger = Ledger(kinds, 0)
    residents = Occupants()
    for name, device, regret in zip("abcd", kinds, (9.0, 1.0, 6.0, 2.0), strict=True):
        residents[name] = Occupant(name, Placement((device,), 8_000), rungs=missed(regret))
        ledger.reserve(name, residents[name].placement)
    assert victims(Crowd(ledger, residents), Ask("new", Demand(2, (), 5_000))) == (Victim("d"), Victim("c"))


def test_a_claim_may_ask_the_busy() -> None:
    crowd = there(Occupant("a", on(0), idle=False, rungs=missed(2.0)), Occupant("b", on(1), idle=False))
    choice = least_regret(Ask("new", one()), crowd.ledger, crowd.residents, ["a", "b"])
    assert choice == Choice((Victim("b"),), 1.0, exact=True)


def test_where_not_even_all_would_do_nobody_is_chosen() -> None:
    crowd = there(Occupant("a", on(0)), Occupant("b", on(1)))
    assert least_regret(Ask("new", one(25_000)), crowd.ledger, crowd.residents, ["a", "b"]) is None
    assert least_regret(Ask("new", one(memory_mb=1)), crowd.ledger, crowd.residents, ["a", "b"]) is None


@pytest.mark.slow
@given(crowds(), asks())
def test_a_search_that_is_cut_off_chooses_enough_and_nobody_in_vain(crowd: Crowd, ask: Ask) -> None:
    whole = plan(ask, crowd.ledger, crowd.residents)
    cut = plan(ask, crowd.ledger, crowd.residents, choose=partial(least_regret, budget=0))
    assert type(cut) is type(whole)
    if not isinstance(cut, Evict) or not isinstance(whole, Evict):
        return
    assert cut.regret >= whole.regret
    assert cut.exact or "heuristic" in cut.reason
    rest = crowd.ledger.without(crowd.holders(leaving=True))
    avoid = ask.loading if vacated(rest, cut.victims).fit(ask.demand, ask.loading) else frozenset[str]()
    for spared in cut.victims:
        left = vacated(rest, [victim for victim in cut.victims if victim != spared])
        bound = crowd.residents[spared.holder].service in ask.conflicts or any(
            spared.holder in crowd.residents[victim.holder].along for victim in cut.victims
        )
        assert bound or left.fit(ask.demand, avoid) is None or left.free_memory_mb < 0


class Counted(Occupant):
    """A resident that counts how often it was asked what it would be missed for."""

    __slots__ = ("reads",)
    reads: int

    def __getattribute__(self, name: str) -> object:
        if name == "rungs":
            object.__setattr__(self, "reads", getattr(self, "reads", 0) + 1)
        return super().__getattribute__(name)


def test_what_somebody_would_be_missed_for_is_asked_once_and_only_where_it_matters() -> None:
    idle = Counted("idle", on(0, mb=12_000))
    beside_busy = Counted("beside", on(1, mb=4_000))
    before = idle.reads, beside_busy.reads
    crowd = there(idle, Occupant("busy", on(1, mb=20_000), idle=False), beside_busy)
    assert victims(crowd, Ask("new", one())) == (Victim("idle"),)
    assert (idle.reads - before[0], beside_busy.reads - before[1]) == (1, 0)
