"""The planner makes room by asking no more than it must, and only those who may leave."""

from hypothesis import given

from ai_proxy.devices import Placement
from ai_proxy.scheduler.ledger import Demand, Ledger
from ai_proxy.scheduler.planner import Evict, Plan, Refuse, Resident, Start, Wait, plan
from tests.scheduler.fleets import Crowd, crowds, demands, gpus


def crowd(*residents: Resident, gpu_mb: int = 24_000, each_mb: int = 8_000) -> Crowd:
    (gpu,) = gpus(gpu_mb)
    ledger = Ledger([gpu], 0)
    for resident in residents:
        ledger.reserve(resident.holder, Placement((gpu,), vram_mb=each_mb))
    return Crowd(ledger, residents)


def planned(crowd: Crowd, demand: Demand) -> Plan:
    return plan(demand, crowd.ledger, crowd.residents)


def names(crowd: Crowd, *, leaving: bool) -> list[str]:
    return [resident.holder for resident in crowd.residents if resident.leaving is leaving]


@given(crowds(), demands())
def test_a_start_is_never_over_capacity(crowd: Crowd, demand: Demand) -> None:
    match planned(crowd, demand):
        case Start(placement):
            crowd.ledger.reserve("new", placement)
            assert all(crowd.ledger.free_mb(device) >= 0 for device in crowd.ledger.devices)
            assert crowd.ledger.free_memory_mb >= 0
        case _:
            assert crowd.ledger.fit(demand) is None


@given(crowds(), demands())
def test_victims_are_idle_and_not_pinned_and_not_leaving_already(crowd: Crowd, demand: Demand) -> None:
    match planned(crowd, demand):
        case Evict(victims):
            chosen = [resident for resident in crowd.residents if resident.holder in victims]
            assert len(chosen) == len(victims) > 0
            assert all(resident.idle and not resident.pinned and not resident.leaving for resident in chosen)


@given(crowds(), demands())
def test_victims_are_enough_and_none_of_them_leaves_in_vain(crowd: Crowd, demand: Demand) -> None:
    match planned(crowd, demand):
        case Evict(victims):
            leaving = names(crowd, leaving=True)
            assert crowd.ledger.without([*leaving, *victims]).fit(demand) is not None
            for spared in victims:
                others = [victim for victim in victims if victim != spared]
                assert crowd.ledger.without([*leaving, *others]).fit(demand) is None


@given(crowds(), demands())
def test_refuses_exactly_what_would_not_fit_with_all_gone_that_may_leave(crowd: Crowd, demand: Demand) -> None:
    staying = {resident.holder for resident in crowd.residents if resident.pinned and not resident.leaving}
    emptied = crowd.ledger.without(set(crowd.ledger.held) - staying)
    assert isinstance(planned(crowd, demand), Refuse) == (emptied.fit(demand) is None)


@given(crowds(), demands())
def test_nobody_is_evicted_while_those_on_their_way_out_make_enough_room(crowd: Crowd, demand: Demand) -> None:
    if crowd.ledger.without(names(crowd, leaving=True)).fit(demand) is not None:
        assert isinstance(planned(crowd, demand), Start | Wait)


@given(crowds(), demands())
def test_waits_only_where_nobody_idle_could_make_the_room(crowd: Crowd, demand: Demand) -> None:
    if isinstance(planned(crowd, demand), Wait):
        may_leave = [r.holder for r in crowd.residents if r.idle and not r.pinned and not r.leaving]
        leaving = names(crowd, leaving=True)
        without_them = crowd.ledger.without([*leaving, *may_leave]).fit(demand)
        assert without_them is None or crowd.ledger.without(leaving).fit(demand) is not None


def test_the_least_recently_used_leaves_first() -> None:
    house = crowd(Resident("new", 9.0, idle=True), Resident("old", 1.0, idle=True), Resident("mid", 5.0, idle=True))
    assert planned(house, Demand(1, vram_mb=8_000)) == Evict(
        ("old",), "it needs 1 GPU with 8,000 MB; least recently used of the idle: old"
    )


def test_a_busy_one_is_waited_for_though_it_is_the_least_recently_used() -> None:
    house = crowd(Resident("busy", 1.0, idle=False), gpu_mb=8_000)
    verdict = planned(house, Demand(1, vram_mb=8_000))
    assert isinstance(verdict, Wait)
    assert "busy can't leave before the work in progress is done" in verdict.reason


def test_pinned_ones_that_hold_everything_are_named_in_the_refusal() -> None:
    house = crowd(Resident("favourite", 1.0, idle=True, pinned=True), gpu_mb=8_000)
    verdict = planned(house, Demand(1, vram_mb=8_000))
    assert verdict == Refuse("it needs 1 GPU with 8,000 MB, which pinned services hold: favourite")


def test_a_pinned_one_that_an_operator_stops_is_waited_for() -> None:
    house = crowd(Resident("favourite", 1.0, idle=False, pinned=True, leaving=True), gpu_mb=8_000)
    assert planned(house, Demand(1, vram_mb=8_000)) == Wait("favourite must have left first")


def test_a_refusal_says_what_the_machine_lacks() -> None:
    house = crowd(gpu_mb=8_000)
    reasons = [
        planned(house, demand)
        for demand in (
            Demand(1, vram_mb=9_000),
            Demand(2, vram_mb=1_000),
            Demand(1, ("5",), 1_000),
            Demand(memory_mb=64_000),
        )
    ]
    assert reasons == [
        Refuse("it needs 1 GPU with 9,000 MB; the largest GPU has 8,000 MB and the host 0 MB"),
        Refuse("it needs 2 GPUs with 1,000 MB each; this machine has 1 GPU: set resources.gpus or devices"),
        Refuse("it needs 1 GPU with 1,000 MB on 5; this machine does not have that"),
        Refuse("it needs 64,000 MB of host memory; the largest GPU has 8,000 MB and the host 0 MB"),
    ]
