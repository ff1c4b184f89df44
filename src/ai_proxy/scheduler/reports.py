"""What replicas' tasks find: it moves them, and a failure is told to those who wait for it. Pure."""

from ai_proxy.errors import CannotServe
from ai_proxy.scheduler import measure
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.state import Live, Replica, ServiceState
from ai_proxy.scheduler.turn import Turn
from ai_proxy.services import machine
from ai_proxy.services.backoff import delay_s
from ai_proxy.services.machine import HOLDING, State

STEADY_S = 60.0
"""A replica that was ready for this long is started again at once when it breaks."""


def report(turn: Turn, replica: Replica, event: do.Reported) -> None:
    """Take what a replica's task found."""
    kind, service = event.event, replica.service
    machine.step(replica.state, kind)  # raises before anything has changed
    if kind is machine.Event.ADOPTED and event.instance is not None:
        replica.live = Live(replica, event.instance.placement, service.spec.max_in_flight, turn.now)
        turn.state.ledger.reserve(replica.key, event.instance.placement)
    if event.instance is not None and replica.live is not None:
        replica.live.instance = event.instance
    if kind is machine.Event.BROKE and event.failure is not None:
        _break(turn, replica, event.failure)
        return
    if kind is machine.Event.SLEPT and replica.live is not None:
        _fall_asleep(turn, replica, replica.live)
        return
    if kind is machine.Event.UNWANTED and event.failure is not None:
        service.is_sleepless = True  # it could not fall asleep, or not wake up: the next one would not either
    if kind is machine.Event.GONE and replica.broken:
        kind = machine.Event.LOST
    elif kind is machine.Event.GONE and replica.live is not None and replica.live.ready_at is not None:
        service.failures = 0  # it lived and ended as it should
    turn.move(replica, kind, event.failure.message if event.failure is not None else str(kind))
    if event.leftovers:
        measure.leave_behind(turn.state, event.leftovers)


def sicken(turn: Turn, replica: Replica, failure: CannotServe) -> None:
    """A replica stopped answering its health check: it takes nothing new, and is replaced when it is idle."""
    if replica.state in {State.READY, State.DRAINING}:
        _blame(turn, replica, failure, steady=False)
        turn.retire(replica, failure.message)


def set_busy(turn: Turn, replica: Replica, event: do.WorkTold) -> None:
    """An engine told whether it works."""
    live = replica.live
    if live is None or not replica.service.spec.tells_work:
        return
    if event.busy:
        live.last_used = turn.now
    elif live.busy:
        live.last_used = max(live.last_used, event.asked_at)
    live.busy, live.asked = event.busy, live.asked and event.busy and not live.open
    if not event.busy:
        live.rested_at = event.asked_at
    turn.rearm_idle(replica.service)


def _fall_asleep(turn: Turn, replica: Replica, live: Live) -> None:
    """Its room on the devices is free now, but for what its level of sleep keeps."""
    live.slept = True
    turn.state.ledger.reserve(replica.key, live.keeps)
    turn.move(replica, machine.Event.SLEPT, f"it sleeps at level {live.level}")
    turn.rearm_idle(replica.service)


def _break(turn: Turn, replica: Replica, failure: CannotServe) -> None:
    """A life ended that should not have: count it, and tell those who wait for a start that failed."""
    live, service = replica.live, replica.service
    steady = live is not None and live.ready_at is not None and turn.now - live.ready_at >= STEADY_S
    _blame(turn, replica, failure, steady=steady)
    turn.move(replica, machine.Event.BROKE, failure.message)
    if not steady and not _another_comes(service, replica):
        turn.give_up(service, failure, max(service.retry_at - turn.now, 0.0))


def _another_comes(service: ServiceState, broken: Replica) -> bool:
    return any(replica is not broken and replica.state in HOLDING - {State.STOPPING} for replica in service.replicas)


def _blame(turn: Turn, replica: Replica, failure: CannotServe, *, steady: bool) -> None:
    """Note why a life ends and when the next may begin; what is found of it later is but an echo."""
    if replica.broken:
        return
    service = replica.service
    service.failures = 0 if steady else service.failures + 1
    service.retry_at = turn.now if steady else turn.now + delay_s(service.failures, turn.state.random.random())
    service.failure, replica.broken = failure, True
