"""How many replicas a service has: another one where there is room for it, one less when it is not needed.

Pure. Nobody has to leave for a replica beyond the first: it is started where it fits, or not at all.
"""

from collections.abc import Iterable

from ai_proxy.scheduler.spec import UNLIMITED
from ai_proxy.scheduler.state import Live, Replica, ServiceState
from ai_proxy.scheduler.turn import Turn
from ai_proxy.services import machine
from ai_proxy.services.machine import HOLDING, State

LOOK_EVERY_S = 10.0
"""How often it is looked whether a service has a replica too many or too few, seconds."""

SLACK_S = 60.0
"""A replica that was not needed for this long is stopped."""

SLACK = 0.5
"""Of what the other replicas are to bear: below it there is one too many. Far below 1, lest one comes and goes."""


def crowd(turn: Turn, service: ServiceState) -> None:
    """A service has more requests than its replicas should have: start another if there is room."""
    for replica in service.in_state(State.READY):
        if replica.live is not None:
            replica.live.crowded_above = UNLIMITED  # until it is looked at again
    turn.state.timers.arm(turn.now + LOOK_EVERY_S, service.id)
    ready = len(service.in_state(State.READY))
    target = min(service.spec.target_inflight, service.spec.max_in_flight)
    if ready and open_on(service) + service.waiting > target * ready:
        _start_spare(turn, service)


def is_crowded(service: ServiceState, lives: Iterable[Live]) -> bool:
    """Whether it is to be looked if another replica would help: one has too many requests, or some have to wait."""
    return any(live.crowded_above < (UNLIMITED if service.waiting else live.open) for live in lives)


def keep(turn: Turn, service: ServiceState) -> None:
    """A service that is to be kept running is wanted again, whatever it ended of, unless an operator stopped it."""
    ended = all(replica.state in {State.STOPPED, State.FAILED, State.SLEEPING} for replica in service.replicas)
    if service.spec.min_replicas and ended and not (service.parked or service.held or service.removed):
        if service.retry_at <= turn.now:
            turn.want(service)
        else:
            turn.watch_kept(service)


def review(turn: Turn, service: ServiceState) -> None:
    """Look whether a service has the replicas that it needs."""
    spec, ready = service.spec, service.in_state(State.READY)
    holding = len(service.in_state(*HOLDING))
    for replica in ready:
        if replica.live is not None:
            replica.live.crowded_above = spec.target_inflight if holding < spec.max_replicas else UNLIMITED
    if 0 < holding < spec.min_replicas:
        _start_spare(turn, service)
    _review_slack(turn, service, ready)
    if holding < spec.min_replicas or len(ready) > 1:
        turn.state.timers.arm(turn.now + LOOK_EVERY_S, service.id)


def open_on(service: ServiceState) -> int:
    """Requests on all of a service's ready replicas."""
    return sum(r.live.open for r in service.replicas if r.state is State.READY and r.live is not None)


def _review_slack(turn: Turn, service: ServiceState, ready: list[Replica]) -> None:
    spec = service.spec
    others = len(ready) - 1
    if others < max(spec.min_replicas, 1) or open_on(service) > SLACK * spec.target_inflight * others:
        service.slack_since = None
    elif service.slack_since is None:
        service.slack_since = turn.now
    elif turn.now >= service.slack_since + SLACK_S:
        service.slack_since = None
        turn.retire(ready[-1], "its service needs one replica less")


def _start_spare(turn: Turn, service: ServiceState) -> None:
    """Have another replica start where there is room, unless one is on its way or the service may not start."""
    if service.held or service.removed or turn.state.closing or service.retry_at > turn.now:
        return
    if service.in_state(State.QUEUED, State.STARTING, State.LOADING):
        return
    spare = next(iter(service.in_state(State.STOPPED, State.FAILED)), None)
    if spare is None and len(service.replicas) < service.spec.max_replicas:
        spare = turn.add(service)
    if spare is not None:
        spare.spare = True
        turn.state.interested[service.id] = None
        turn.move(spare, machine.Event.WANTED, "its service is crowded")
