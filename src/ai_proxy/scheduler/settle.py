"""What follows from the state: who is admitted, who is started, who makes room.

Pure. Fairness is by age. Room that is coming free is promised to the oldest service that waits for it. If nothing
idle is enough, a service whose oldest waiter has waited for `claim_after_s` drains the busy replicas in its way,
unless an even older waiter is to be served by them.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ai_proxy.devices import Placement
from ai_proxy.errors import NoRoom, StartFailed
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.ledger import Demand, Ledger
from ai_proxy.scheduler.messages import Eviction
from ai_proxy.scheduler.planner import Ask, Choice, Evict, Refuse, Resident, Rung, Start, Victim, Wait, plan
from ai_proxy.scheduler.state import BUSY_RETRY_S, Replica
from ai_proxy.scheduler.turn import Turn
from ai_proxy.services import machine
from ai_proxy.services.machine import State


@dataclass(frozen=True, slots=True)
class _Occupant:
    """A replica that holds a reservation; the regret of its end is when it was last used."""

    holder: str
    placement: Placement
    last_used: float
    idle: bool
    pinned: bool = False
    leaving: bool = False
    priority: int = 0
    along: tuple[str, ...] = ()

    @property
    def service(self) -> str:
        return self.holder

    @property
    def rungs(self) -> tuple[Rung, ...]:
        return (Rung(0, Placement(), self.last_used),)


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
            residents[holder] = _Occupant(holder, placement, math.inf, idle=False)
        claimed: Sequence[str] = ()
        ask = Ask(replica.spec.id, replica.spec.demand)
        verdict = plan(ask, ledger, residents, choose=_least_recently_used)
        match verdict:
            case Start(placement, reason):
                turn.launch(replica, placement, reason)
            case Evict(victims=victims, reason=reason):
                for victim in victims:
                    turn.end(
                        turn.state.replicas[victim.holder], f"evicted for {replica.spec.id}: {reason}", Eviction.ROOM
                    )
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


def _claim(turn: Turn, replica: Replica, ledger: Ledger, residents: Mapping[str, Resident]) -> Sequence[str]:
    """Drain what is in the way of a service that has waited for long enough.

    A replica that somebody younger waits for is let load first: it has to leave as soon as it has served them.

    Returns:
        Who has to leave, now or later.
    """
    since = replica.interest_since
    rest = ledger.without(resident.holder for resident in residents.values() if resident.leaving)
    if turn.now < since + turn.state.settings.claim_after_s or rest.fit(replica.spec.demand) is not None:
        return ()
    replicas = turn.state.replicas
    younger = [
        holder
        for holder, resident in residents.items()
        if holder in replicas
        and not resident.leaving
        and not resident.pinned
        and replicas[holder].interest_since > since
    ]
    choice = _least_recently_used(Ask(replica.spec.id, replica.spec.demand), rest, residents, younger)
    victims = [victim.holder for victim in choice.victims] if choice else []
    for victim in (replicas[holder] for holder in victims):
        if victim.state is State.READY or victim.interest_since == math.inf:
            reason = f"{replica.spec.id} has waited {turn.now - since:.0f} s for its room"
            turn.retire(victim, reason, claimant=replica.spec.id)
    return victims


def _coming(turn: Turn, replica: Replica, ledger: Ledger, claimed: Sequence[str]) -> Placement | None:
    """The room that a waiting service will have once those have left who are on their way out or claimed."""
    leaving = [holder for holder, resident in _residents(turn).items() if resident.leaving]
    return ledger.without([*leaving, *claimed]).fit(replica.spec.demand)


def _residents(turn: Turn) -> dict[str, Resident]:
    return {
        service: _Occupant(
            service,
            replica.live.placement,
            last_used=replica.live.last_used if replica.live.ready_at is not None else math.inf,
            idle=replica.is_idle,
            pinned=replica.spec.pinned,
            leaving=replica.state in {State.DRAINING, State.STOPPING},
        )
        for service in turn.state.ledger.held
        if (replica := turn.state.replicas[service]).live is not None
    }


def _least_recently_used(
    ask: Ask, ledger: Ledger, residents: Mapping[str, Resident], candidates: Collection[str]
) -> Choice | None:
    """Choose who leaves: least recently used first, nobody in vain."""
    victims: list[str] = []
    for holder in sorted(candidates, key=lambda holder: residents[holder].rungs[0].regret):
        victims.append(holder)
        if ledger.without(victims).fit(ask.demand) is not None:
            needed = _needed(victims, ask.demand, ledger)
            return Choice(tuple(Victim(victim) for victim in needed), 0.0, exact=False)
    return None


def _needed(victims: list[str], demand: Demand, ledger: Ledger) -> list[str]:
    """Drop every victim without whom the others suffice, the most recently used first."""
    for victim in reversed(list(victims)):
        others = [other for other in victims if other != victim]
        if ledger.without(others).fit(demand) is not None:
            victims = others
    return victims
