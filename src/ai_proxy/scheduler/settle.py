"""What follows from the state: who is admitted, who is to be started, which drains are over.

Pure. It goes over those in whom somebody is interested until nothing more follows; who gets room is `place`'s part.
"""

import math

from ai_proxy.errors import CannotServe, NotReady, StartFailed
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler import scale
from ai_proxy.scheduler.messages import Eviction
from ai_proxy.scheduler.needs import dependents_of, is_worked_on
from ai_proxy.scheduler.place import place
from ai_proxy.scheduler.state import BUSY_RETRY_S, Replica, ServiceState
from ai_proxy.scheduler.turn import Turn
from ai_proxy.services import machine
from ai_proxy.services.machine import State


def settle(turn: Turn) -> None:
    """Do what the state allows, oldest interest first, until nothing more follows."""
    state = turn.state
    _review_drains(turn)
    while state.interested:
        turn.is_settled = True
        _pass_on_needs(turn)
        interested = [state.services[service] for service in state.interested]
        if len(interested) > 1:
            interested.sort(key=lambda service: service.interest_since)
        for service in interested:
            _serve(turn, service)
        place(turn, interested)
        if not _review_drains(turn) and turn.is_settled:
            return


def _review_drains(turn: Turn) -> bool:
    """Call off drains that nobody needs any more, finish those with nothing left to wait for; was there any?"""
    before = len(turn.actions)
    for key in sorted(turn.state.draining):
        replica = turn.state.replicas[key]
        live = replica.live
        if live is None:
            continue
        claimant = live.drained_for
        if claimant is not None and not _still_claims(turn.state.services.get(claimant)):
            live.drained_for, live.level = None, 0
            turn.move(replica, machine.Event.RESUME, "its room is not needed any more")
        elif not live.is_idle:
            turn.doubt(live)
        elif claimant is not None and is_worked_on(turn.state, replica.service):
            continue
        elif claimant is not None and live.level:
            # It has drained, so that it may go to sleep like any idle one.
            turn.move(replica, machine.Event.RESUME, "drained")
            turn.evict(replica, live.level, claimant, "drained", Eviction.CLAIM)
        else:
            turn.move(replica, machine.Event.UNWANTED, "drained", Eviction.CLAIM if claimant else None, claimant)
    return len(turn.actions) > before


def _still_claims(claimant: ServiceState | None) -> bool:
    return (
        claimant is not None
        and claimant.interest_since < math.inf
        and any(replica.waits_for_room for replica in claimant.replicas)
    )


def _pass_on_needs(turn: Turn) -> None:
    """Whoever waits for a service waits for those that it requires."""
    services = turn.state.services
    for name in turn.state.dependents:
        if (required := services.get(name)) is not None:
            required.required_since, required.required_urgency = math.inf, -1
    ahead = [service for name in turn.state.interested if (service := services[name]).spec.requires]
    while ahead:
        dependent = ahead.pop()
        since, urgency = dependent.interest_since, dependent.urgency
        for name in dependent.spec.requires:
            required = services.get(name)
            if required is None or name in turn.state.ready:
                continue
            if since >= required.required_since and urgency <= required.required_urgency:
                continue
            required.required_since = min(since, required.required_since)
            required.required_urgency = max(urgency, required.required_urgency)
            turn.state.interested[name] = None
            ahead.append(required)


def _serve(turn: Turn, service: ServiceState) -> None:
    """Admit those who wait if a replica is ready; have one started if none is and one may be."""
    if service.id in turn.state.ready:
        service.wanted_since = math.inf
        _admit(turn, service)
        _call_off(turn, service, "another replica is ready")
        live = turn.state.ready[service.id]
        if scale.is_crowded(service, live.peers or (live,)):
            scale.crowd(turn, service)
    elif service.interest_since == math.inf:
        _call_off(turn, service, "nobody waits any more")
        if service.guests and not service.in_state(State.STARTING, State.LOADING):
            turn.reject_all(service, NotReady(f"{service.id} is not ready, and its waiters may not start it"), None)
    elif not service.in_state(State.STARTING, State.LOADING):
        _want_one(turn, service)
    turn.lose_interest(service)


def _admit(turn: Turn, service: ServiceState) -> None:
    """Grant to those who wait, each in turn, on the replica with the fewest requests."""
    first, own = turn.state.ready[service.id], service.spec.priority
    while service.waiting:
        live = min(first.peers, key=lambda live: live.open) if first.peers else first
        if live.open >= live.limit:
            return
        waiter = service.lines.next(own, turn.now, turn.state.settings.claim_after_s)
        turn.dequeue(waiter)
        live.open += 1
        turn.actions.append(do.Admit(waiter, live))


def _call_off(turn: Turn, service: ServiceState, reason: str) -> None:
    """Nobody waits any more for what has not begun; a spare one is no matter of waiting."""
    for replica in list(service.replicas):
        if replica.waking:
            replica.waking = False
            turn.state.version += 1
            turn.rearm_idle(service)
        elif replica.state is State.QUEUED and not replica.spare:
            turn.move(replica, machine.Event.UNWANTED, reason)


def _want_one(turn: Turn, service: ServiceState) -> None:
    """Have a replica start, or wake up, unless something forbids it: then those who wait have to know."""
    asleep, queued = service.in_state(State.SLEEPING), service.in_state(State.QUEUED)
    for replica in asleep:
        if replica.live is not None and replica.live.slept:
            if not replica.waking:
                replica.waking = True
                turn.state.version += 1
            for other in queued:  # it would wait in vain for what the sleeping one keeps
                turn.move(other, machine.Event.UNWANTED, "one that sleeps is woken up instead")
            return
    if queued:
        queued[0].spare = False  # it is the only one that they can wait for
        return
    if asleep:
        return
    candidate = _candidate(turn, service)
    if candidate is None:
        return
    if service.held:
        if service.blocked is not None:
            _turn_away(turn, service, service.blocked)
    elif service.failures and service.retry_at > turn.now:
        turn.give_up(service, service.failure or StartFailed("unknown"), service.retry_at - turn.now)
    else:
        turn.move(candidate, machine.Event.WANTED, "a request waits" if service.queue else "asked for")


def _turn_away(turn: Turn, service: ServiceState, error: CannotServe) -> None:
    """Answer those who wait for a service, or for one that requires it; an operator goes on waiting."""
    turn.is_settled = turn.is_settled and not service.waiting
    turn.reject_all(service, error, BUSY_RETRY_S)
    for dependent in dependents_of(turn.state, service):
        if dependent.id not in turn.state.ready:
            _turn_away(turn, dependent, error)


def _candidate(turn: Turn, service: ServiceState) -> Replica | None:
    """A replica that could be started while none is ready; one that ends is waited for where no other may be."""
    idle = service.in_state(State.STOPPED, State.FAILED)
    if idle:
        return idle[0]
    return turn.add(service) if len(service.replicas) < service.spec.max_replicas else None
