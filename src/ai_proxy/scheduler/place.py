"""Who gets room: plans for those that wait for it, promises, claims.

Pure. Room that is coming free is promised to the first that waits for it, so that a later one can't take it. Claims
come first, the oldest before the others; then whoever has the higher priority (a service has that of the highest class
among those who wait for it, if that is higher than its own), then whoever waits for longer. If
nothing idle is enough, a service whose oldest waiter has waited for `claim_after_s` drains the busy replicas in its
way, whatever their priority, unless an even older waiter is to be served by them.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ai_proxy.devices import Placement
from ai_proxy.errors import NoRoom
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.asks import Ask
from ai_proxy.scheduler.figures import with_learned
from ai_proxy.scheduler.ledger import Demand, Ledger
from ai_proxy.scheduler.needs import dependents_of, requirements_of
from ai_proxy.scheduler.planner import Evict, Plan, Refuse, Start, Wait, plan
from ai_proxy.scheduler.residents import PROMISED, Residents
from ai_proxy.scheduler.state import Outlook, Replica, SchedulerState, ServiceState
from ai_proxy.scheduler.turn import Turn
from ai_proxy.scheduler.victims import least_regret, vacated
from ai_proxy.services import machine
from ai_proxy.services.machine import HOLDING, State

LOOKS = 1000
"""So many looks are taken in one step of the scheduler, at each holder of room for each replica that is planned for,
at some microseconds each: requests that are being served must not wait for more."""

PAUSE_S = 0.005
"""So long the loop belongs to others before those are planned for whose turn did not come in a step, seconds."""

_PLAN = 150
"""A plan takes so many looks beside those at the holders: it counts what is short, and says who is in the way."""


def place(turn: Turn, interested: Iterable[ServiceState]) -> None:
    """Plan for every replica that waits for room, in the order in which they are to have it."""
    waiting = [replica for service in interested for replica in service.replicas if replica.waits_for_room]
    if len(waiting) > 1:
        waiting.sort(key=lambda replica: _turn_of(turn, replica))
    state = turn.state
    promised: list[str] = []
    plans = max(1, LOOKS // (_PLAN + state.ledger.holders))
    is_fresh = is_late = False
    try:
        for replica in waiting:
            if not turn.is_settled:
                return  # somebody was given up, and perhaps those whom they required are not needed any more
            known = replica.outlook
            room = known.room if known is not None else None
            if is_fresh or known is None or known.version != state.version or turn.now >= known.until:
                if plans:
                    plans -= 1
                    turn.resting_until = math.inf
                    room = _place(turn, replica)
                    is_fresh = is_fresh or known is None or room != known.room
                    replica.outlook = _outlook(turn, replica, room)
                else:
                    # The rest has its turn in a step of its own.
                    replica.outlook = None if is_fresh else known
                    if not is_late:
                        state.timers.arm(turn.now + PAUSE_S, replica.service.id)
                    is_late = True
            if room is not None and not is_late:
                promised.append(replica.key + PROMISED)
                state.ledger.reserve(promised[-1], room)
    finally:
        for holder in promised:
            state.ledger.release(holder)


def _outlook(turn: Turn, replica: Replica, room: Placement | None) -> Outlook | None:
    """What holds for a replica until something changes, or its wait becomes a claim, or a resident may leave."""
    if replica.claims or not replica.waits_for_room:
        return None
    return Outlook(turn.state.version, room, min(turn.claim_at(replica.service), turn.resting_until))


def consider(state: SchedulerState, now: float, service: ServiceState) -> Plan:
    """What would be done if a service was to start now; nothing is changed."""
    return plan(ask_of(state, service), state.ledger, Residents(state, now))


def ask_of(state: SchedulerState, service: ServiceState) -> Ask:
    """What a service asks of the planner to start a replica."""
    ledger = state.ledger
    demand = with_learned(service.spec.demand, service.figures, ledger.devices, ledger.headroom_mb)
    return Ask(
        service.id,
        demand,
        service.priority,
        state.conflicts_of(service.spec),
        frozenset(requirements_of(state, service)),
        _loading(state),
        state.lost,
    )


def _loading(state: SchedulerState) -> frozenset[str]:
    """Devices where something loads: engines look at what is free meanwhile, and two would mislead each other."""
    lives = (state.replicas[key].live for key in state.loading)
    return frozenset(device.uuid for live in lives if live is not None for device in live.placement.devices)


def _turn_of(turn: Turn, replica: Replica) -> tuple[int, float, int, float]:
    """The smaller, the earlier it is planned for."""
    service = replica.service
    since = service.interest_since
    if replica.spare or since == math.inf:
        return (2, 0.0, -service.priority, replica.number)
    if _is_due(turn, service):
        return (0, since, 0, 0)
    return (1, -service.priority, 0, since)


def _is_due(turn: Turn, service: ServiceState) -> bool:
    """Somebody has waited for it for long enough to drain others."""
    return turn.now >= service.interest_since + turn.state.settings.claim_after_s


def _place(turn: Turn, replica: Replica) -> Placement | None:
    """Start a replica, make room for it, or leave it waiting.

    Returns:
        The room that it will have once others have left; None if it waits for none.
    """
    service = replica.service
    ask = ask_of(turn.state, service)
    if replica.spare:
        _place_spare(turn, replica, ask)
        return None
    if missing := [name for name in service.spec.requires if name not in turn.state.ready]:
        _wait_for(turn, replica, ask, missing)
        return None
    if replica.state is not State.SLEEPING:
        residents = Residents(turn.state, turn.now)
        return _carry_out(turn, replica, ask, residents, _verdict(turn, replica, ask, residents))
    return _wake(turn, replica, ask)


def _verdict(turn: Turn, replica: Replica, ask: Ask, residents: Residents) -> Plan:
    """What the planner says; for one that was left to claim it was asked in the step before."""
    ledger = turn.state.ledger
    replica.claims = replica.claims and _is_due(turn, replica.service)
    if replica.claims and ledger.without(residents.leaving).fit(ask.demand, ask.lost) is None:
        return Wait(replica.service.verdict)
    replica.claims = False
    return plan(ask, ledger, residents)


def _wake(turn: Turn, replica: Replica, ask: Ask) -> Placement | None:
    """Wake a replica where it sleeps; if it can have no room there and another life could elsewhere, end this one.

    Returns:
        What it will have beyond what it keeps while it sleeps.
    """
    ledger = turn.state.ledger
    kept = ledger.placement(replica.key)
    # Others may be asked to fall asleep for it, and what it keeps in the host's memory is not free for them meanwhile.
    ledger.reserve(replica.key, Placement(memory_mb=kept.memory_mb))
    residents = Residents(turn.state, turn.now)
    here = replace(ask, demand=_where_it_sleeps(ask.demand, kept))
    verdict = plan(here, ledger, residents)
    if _is_stuck(verdict) and _could_elsewhere(turn, replica, ask):
        ledger.reserve(replica.key, kept)
        turn.end(replica, "there is room on other devices than those it sleeps on")
        return None
    if isinstance(verdict, Start):
        verdict = replace(verdict, placement=replace(verdict.placement, memory_mb=ask.demand.memory_mb))
    room = _carry_out(turn, replica, here, residents, verdict)
    if replica.state is not State.SLEEPING:
        return None
    ledger.reserve(replica.key, kept)
    return None if room is None else replace(room, vram_mb=room.vram_mb - kept.vram_mb)


def _could_elsewhere(turn: Turn, replica: Replica, ask: Ask) -> bool:
    """Whether another life could have room if this one ended."""
    ledger = turn.state.ledger
    remembered = ledger.placement(replica.key)
    ledger.release(replica.key)
    elsewhere = plan(ask, ledger, Residents(turn.state, turn.now))
    ledger.reserve(replica.key, remembered)
    return not _is_stuck(elsewhere)


def _is_stuck(verdict: Plan) -> bool:
    return isinstance(verdict, Refuse) or (isinstance(verdict, Wait) and verdict.placement is None)


def _wait_for(turn: Turn, replica: Replica, ask: Ask, missing: list[str]) -> None:
    """Services that have to be ready first are on their way, unless there is no use in that."""
    service, state = replica.service, turn.state
    if lost := [name for name in missing if name not in state.services]:
        _refuse(turn, replica, f"it requires {', '.join(lost)}, of which there is no service")
    elif isinstance(verdict := plan(ask, state.ledger, Residents(state, turn.now)), Refuse):
        _refuse(turn, replica, verdict.reason)
    else:
        turn.explain(service, "wait", f"it requires {', '.join(missing)}, not ready yet")


def _where_it_sleeps(demand: Demand, kept: Placement) -> Demand:
    """A sleeping engine can wake up only on the devices that it has, and has some of the host's memory already."""
    demand = replace(demand, memory_mb=max(demand.memory_mb - kept.memory_mb, 0))
    if not kept.devices:
        return demand
    return replace(demand, gpus=len(kept.devices), pins=tuple(device.uuid for device in kept.devices))


def _place_spare(turn: Turn, replica: Replica, ask: Ask) -> None:
    """Another replica is worth having only where nobody has to leave for it."""
    state = turn.state
    room = state.ledger.fit(ask.demand, avoid=ask.closed)
    rivals = [rival for name in ask.conflicts if (rival := state.services.get(name)) is not None]
    if room is not None and not any(rival.interest_since < math.inf or rival.in_state(*HOLDING) for rival in rivals):
        turn.launch(replica, room, "there is room for another replica")
    else:
        turn.move(replica, machine.Event.UNWANTED, "there is no room for another replica")


def _carry_out(turn: Turn, replica: Replica, ask: Ask, residents: Residents, verdict: Plan) -> Placement | None:
    """Do what the planner said of an ask.

    Returns:
        As `_place`.
    """
    service, state = replica.service, turn.state
    turn.explain(service, type(verdict).__name__.lower(), verdict.reason)
    room: Placement | None = None
    match verdict:
        case Start(placement, reason):
            turn.launch(replica, placement, reason)
        case Evict(victims, placement):
            for victim in victims:
                turn.evict(state.replicas[victim.holder], victim.level, service.id, f"evicted for {service.id}")
            room = placement
        case Wait(_, placement):
            room = placement
            if placement is None:
                room = _wait(turn, replica, ask, residents)
        case Refuse(reason):
            _refuse(turn, replica, reason)
    if replica.state is State.QUEUED:
        _prepare(turn, replica, room)
    return room if replica.waits_for_room else None


def _prepare(turn: Turn, replica: Replica, room: Placement | None) -> None:
    """Have a start prepared, and again when other room is promised to it."""
    if not replica.prepared or (room is not None and room != replica.prepared_for):
        replica.prepared, replica.prepared_for = True, room
        turn.actions.append(do.Prepare(replica.key, room))


def _refuse(turn: Turn, replica: Replica, reason: str) -> None:
    service = replica.service
    turn.give_up(service, NoRoom(f"{service.id} can't be started: {reason}"), None)
    if replica.state is State.QUEUED:
        turn.move(replica, machine.Event.UNWANTED, reason)
    turn.lose_interest(service)


def _wait(turn: Turn, replica: Replica, ask: Ask, residents: Residents) -> Placement | None:
    """Nothing idle is enough: have engines asked, look again when somebody may leave, claim when it is time."""
    state = turn.state
    if not replica.claims:
        _doubt_all(turn)
    turn.resting_until = resting_until = residents.resting_until
    if resting_until < math.inf:
        state.timers.arm(resting_until, replica.service.id)
    rest = state.ledger.without(residents.leaving)
    is_due = _is_due(turn, replica.service)
    if is_due and not replica.claims and _is_too_much(replica, ask, state.ledger):
        replica.claims = True
        state.timers.arm(turn.now, replica.service.id)
        return rest.fit(ask.demand)
    replica.claims = False
    return _claim(turn, replica, ask, rest, residents) if is_due else rest.fit(ask.demand)


def _doubt_all(turn: Turn) -> None:
    """Ask the engines of which only their own word keeps them from making room."""
    for live in turn.state.ready.values():
        for each in live.peers or (live,):
            if not each.open:
                turn.doubt(each)


def _is_too_much(replica: Replica, ask: Ask, ledger: Ledger) -> bool:
    """A claim takes as many looks as a plan, and the two may be too much for one step.

    Who sleeps, or may not run beside others, does both at once all the same: such a plan is more than where it fits.
    """
    is_plain = replica.state is State.QUEUED and not ask.conflicts
    return is_plain and 2 * (_PLAN + ledger.holders) > LOOKS


def _claim(turn: Turn, replica: Replica, ask: Ask, rest: Ledger, residents: Residents) -> Placement | None:
    """Drain what is in the way of a service that has waited for long enough.

    A replica that somebody younger waits for is let load first: it has to leave as soon as it has served them.

    Args:
        turn: The turn.
        replica: What waits.
        ask: What it asks for.
        rest: The ledger without those that leave anyway.
        residents: Who holds room.

    Returns:
        The room that it will have once they have left, now or later; None if nobody's leaving would do.
    """
    since, state = replica.service.interest_since, turn.state
    older = [it for name in state.interested if (it := state.services[name]).interest_since <= since]
    spared = {name for it in older for name in (it.id, *requirements_of(state, it))}
    choice = least_regret(ask, rest, residents, residents.drainable(spared))
    if choice is None:
        return None
    room = vacated(rest, choice.victims).fit(ask.demand)
    levels = {victim.holder: victim.level for victim in choice.victims}
    claimed = [state.replicas[holder] for holder in levels]
    to_load = {each.service.id for each in claimed if _loads_for_somebody(each)}
    for each in sorted(claimed, key=lambda each: bool(each.service.spec.requires), reverse=True):
        if _loads_for_somebody(each) or any(name in to_load for name in _all_dependents(state, each.service)):
            continue
        reason = f"{replica.service.id} has waited {turn.now - since:.0f} s for its room"
        turn.retire(each, reason, claimant=replica.service.id, level=levels[each.key])
    return room


def _loads_for_somebody(replica: Replica) -> bool:
    return replica.state in {State.STARTING, State.LOADING} and replica.service.interest_since < math.inf


def _all_dependents(state: SchedulerState, service: ServiceState) -> Iterator[str]:
    """The services that require one, and those that require these."""
    for dependent in dependents_of(state, service):
        yield dependent.id
        yield from _all_dependents(state, dependent)
