"""What follows from the state: who is admitted, who is started, who makes room.

Pure. Fairness is by age. Room that is coming free is promised to the oldest service that waits for it. If nothing
idle is enough, a service whose oldest waiter has waited for `claim_after_s` drains the busy replicas in its way,
unless an even older waiter is to be served by them.
"""

import math
from collections.abc import Sequence

from ai_proxy.devices import Placement
from ai_proxy.errors import NoRoom, StartFailed
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.ledger import Ledger
from ai_proxy.scheduler.messages import Eviction
from ai_proxy.scheduler.planner import Evict, Refuse, Resident, Start, Wait, make_room, plan
from ai_proxy.scheduler.state import BUSY_RETRY_S, Replica
from ai_proxy.scheduler.turn import Turn
from ai_proxy.services import machine
from ai_proxy.services.machine import State


def settle(turn: Turn) -> None:
    """Do what the state allows, oldest interest first, until nothing more follows."""
    state = turn.state
    _review_drains(turn)
    while state.interested:
        interested = [state.replicas[service] for service in state.interested]
        interested.sort(key=lambda replica: replica.interest_since)
        for replica in interested:
            _serve(turn, replica)
        _place(turn, [replica for replica in interested if replica.state is State.QUEUED])
        if not _review_drains(turn):
            return


def _review_drains(turn: Turn) -> bool:
    """Call off drains that nobody needs any more, finish those with nothing left to wait for; was there any?"""
    before = len(turn.actions)
    for service in sorted(turn.state.draining):
        replica = turn.state.replicas[service]
        live = replica.live
        if live is None:
            continue
        if live.drained_for and not _still_claims(turn.state.replicas.get(live.drained_for)):
            live.drained_for = None
            turn.move(replica, machine.Event.RESUME, "its room is not needed any more")
        elif live.is_idle:
            turn.move(replica, machine.Event.UNWANTED, "drained", Eviction.CLAIM if live.drained_for else None)
        else:
            turn.doubt(service, live)
    return len(turn.actions) > before


def _still_claims(claimant: Replica | None) -> bool:
    return claimant is not None and claimant.state is State.QUEUED and claimant.interest_since < math.inf


def _serve(turn: Turn, replica: Replica) -> None:
    """Admit those who wait if the replica is ready; have it started if it is not and may be."""
    live = turn.state.ready.get(replica.spec.id)
    if live is not None:
        replica.wanted_since = None
        while replica.queue and live.open < live.limit:
            waiter = next(iter(replica.queue.values()))
            turn.dequeue(waiter)
            live.open += 1
            turn.actions.append(do.Admit(waiter, live))
    elif replica.held and replica.state in {State.STOPPED, State.FAILED}:
        if replica.blocked is not None:
            turn.reject_all(replica, replica.blocked, BUSY_RETRY_S)
    elif replica.state is State.FAILED and replica.retry_at > turn.now:
        turn.reject_all(replica, replica.failure or StartFailed("unknown"), replica.retry_at - turn.now)
        replica.wanted_since = None
    elif replica.state in {State.STOPPED, State.FAILED} and replica.interest_since < math.inf:
        turn.move(replica, machine.Event.WANTED, "a request waits" if replica.queue else "asked for")
    elif replica.state is State.QUEUED and replica.interest_since == math.inf:
        turn.move(replica, machine.Event.UNWANTED, "nobody waits any more")
    turn.lose_interest(replica)


def _place(turn: Turn, queued: list[Replica]) -> None:
    """Plan for each service that waits for room, the oldest first.

    Room that is coming free is promised to the first that waits for it, so that a younger one can't take it.
    """
    promised: dict[str, Placement] = {}
    for replica in queued:
        ledger = turn.state.ledger.without(())
        residents = _residents(turn)
        for holder, placement in promised.items():
            ledger.reserve(holder, placement)
            residents.append(Resident(holder, math.inf, idle=False))
        claimed: Sequence[str] = ()
        verdict = plan(replica.spec.demand, ledger, residents)
        match verdict:
            case Start(placement, reason):
                turn.launch(replica, placement, reason)
            case Evict(victims, reason):
                for victim in victims:
                    turn.end(turn.state.replicas[victim], f"evicted for {replica.spec.id}: {reason}", Eviction.ROOM)
            case Wait():
                for service, live in turn.state.ready.items():
                    turn.doubt(service, live)
                claimed = _claim(turn, replica, ledger, residents)
            case Refuse(reason):
                turn.move(replica, machine.Event.UNWANTED, reason)
                turn.reject_all(replica, NoRoom(f"{replica.spec.id} can't be started: {reason}"), None)
                replica.wanted_since = None
                turn.lose_interest(replica)
        turn.explain(replica, type(verdict).__name__.lower(), verdict.reason)
        if replica.state is State.QUEUED and (room := _coming(turn, replica, ledger, claimed)) is not None:
            promised[f"{replica.spec.id} (waiting)"] = room


def _claim(turn: Turn, replica: Replica, ledger: Ledger, residents: list[Resident]) -> Sequence[str]:
    """Drain what is in the way of a service that has waited for long enough.

    A replica that somebody younger waits for is let load first: it has to leave as soon as it has served them.

    Returns:
        Who has to leave, now or later.
    """
    since = replica.interest_since
    rest = ledger.without(resident.holder for resident in residents if resident.leaving)
    if turn.now < since + turn.state.settings.claim_after_s or rest.fit(replica.spec.demand) is not None:
        return ()
    replicas = turn.state.replicas
    younger = [
        resident
        for resident in residents
        if resident.holder in replicas and not resident.leaving and replicas[resident.holder].interest_since > since
    ]
    victims = make_room(replica.spec.demand, rest, younger) or ()
    for victim in (replicas[holder] for holder in victims):
        if victim.state is State.READY or victim.interest_since == math.inf:
            reason = f"{replica.spec.id} has waited {turn.now - since:.0f} s for its room"
            turn.retire(victim, reason, claimant=replica.spec.id)
    return victims


def _coming(turn: Turn, replica: Replica, ledger: Ledger, claimed: Sequence[str]) -> Placement | None:
    """The room that a waiting service will have once those have left who are on their way out or claimed."""
    leaving = [resident.holder for resident in _residents(turn) if resident.leaving]
    return ledger.without([*leaving, *claimed]).fit(replica.spec.demand)


def _residents(turn: Turn) -> list[Resident]:
    return [
        Resident(
            service,
            last_used=replica.live.last_used if replica.live.ready_at is not None else math.inf,
            idle=replica.is_idle,
            pinned=replica.spec.pinned,
            leaving=replica.state in {State.DRAINING, State.STOPPING},
        )
        for service in turn.state.ledger.held
        if (replica := turn.state.replicas[service]).live is not None
    ]
