"""The scheduler's decisions: `step(state, now, event) -> actions`.

No I/O and no clock: a driver brings events and the time, carries the actions out and asks again at `timers.nearest`.
Each step ends with everything settled that can be settled now: whoever can be admitted is, whoever can't ever be
has its error, every service that is wanted is on its way or knows what it waits for.
"""

import math

from ai_proxy.errors import CannotServe, Draining, NotReady, QueueFull, TooLate, WaitTimeout
from ai_proxy.scheduler import measure, reports, scale
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.lines import Waiter
from ai_proxy.scheduler.measured import Measured
from ai_proxy.scheduler.messages import Action, Event, Eviction
from ai_proxy.scheduler.needs import is_leaned_on, kept, relate, staying
from ai_proxy.scheduler.settle import settle
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.scheduler.state import BUSY_RETRY_S, Live, Replica, SchedulerState, ServiceState, Settings
from ai_proxy.scheduler.turn import Turn
from ai_proxy.scheduler.waits import least_wait_s
from ai_proxy.services import machine
from ai_proxy.services.machine import State

_QUIET = (do.Arrived, do.Left, do.Closed, do.Tick)
"""Events that by themselves change nothing that the planner weighs; of a grant that is closed, it depends."""


def step(state: SchedulerState, now: float, event: Event) -> list[Action]:
    """Take one event and settle what follows from it.

    Args:
        state: Changed in place.
        now: The owner's clock, seconds; never before that of an earlier step.
        event: What happened.

    Returns:
        What to carry out, in order.
    """
    turn = Turn(state, now)
    if not isinstance(event, _QUIET):
        state.version += 1
    _take(turn, event)
    settle(turn)
    return turn.actions


def cares(state: SchedulerState, live: Live) -> bool:
    """Tell whether closing a grant on this life needs a `Closed` event.

    The warm path asks this of every request, so that a step is paid for only where somebody waits.
    """
    replica = live.replica
    if replica.live is not live:
        return False
    service = replica.service
    return bool(service.queue or service.guests) or (
        not live.open and (bool(state.interested or state.draining) or not live.idle_armed)
    )


def _take(turn: Turn, event: Event) -> None:  # noqa: C901, PLR0912  # a flat dispatch, one line an event
    """Bring one event into the state."""
    services, replicas = turn.state.services, turn.state.replicas
    match event:
        case do.Arrived(waiter):
            _arrive(turn, waiter)
        case do.Left(waiter):
            turn.dequeue(waiter)
        case do.Closed(name):
            if (service := services.get(name)) is not None:
                _close(turn, service)
        case do.Crowded(name):
            if (service := services.get(name)) is not None:
                scale.crowd(turn, service)
        case do.Reported(key):
            reports.report(turn, replicas[key], event)
        case do.Unhealthy(key, failure):
            reports.sicken(turn, replicas[key], failure)
        case do.WorkTold(key):
            reports.set_busy(turn, replicas[key], event)
        case do.StartAsked(name):
            _want(turn, services[name])
        case do.StopAsked(name, reason, restart):
            _stop(turn, services[name], reason, restart=restart)
        case do.Configured(spec, replace):
            _configure(turn, spec, replace=replace)
        case do.Removed(name):
            _remove(turn, services[name])
        case do.Held(name, failure):
            _hold(turn, name, failure)
        case do.Released(name):
            if (service := services.get(name)) is not None:
                service.held, service.blocked = False, None
                turn.watch_kept(service)
        case do.Tuned(settings):
            _tune(turn, settings)
        case do.Recalled(name, figures):
            if (service := services.get(name)) is not None:
                measure.recall(turn.state, service, figures)
        case Measured():
            measure.measure(turn.state, event)
        case do.ShutDown(keep):
            _shut_down(turn, keep)
        case do.Tick():
            for name in turn.state.timers.due(turn.now):
                if (service := services.get(name)) is not None:
                    _look(turn, service)


def _close(turn: Turn, service: ServiceState) -> None:
    if not service.waiting or turn.state.draining:
        turn.state.version += 1  # otherwise the next request has taken its place before anybody looks
    turn.rearm_idle(service)


def _arrive(turn: Turn, waiter: Waiter) -> None:
    state = turn.state
    service = state.services.get(waiter.service)
    if state.closing or service is None or service.removed:
        turn.reject(waiter, Draining(f"{waiter.service} is going away", service=waiter.service))
        return
    state.estimates.used(service.id, turn.now)
    if (error := _why_not(turn, service, waiter)) is not None:
        turn.reject(waiter, error)
        return
    urgency = service.urgency
    service.join(waiter)
    if service.urgency != urgency:
        state.version += 1  # others may have to leave for its sake
    state.waiting += 1
    state.interested[service.id] = None
    state.timers.arm(min(waiter.deadline, turn.claim_at(service)), service.id)


def _why_not(turn: Turn, service: ServiceState, waiter: Waiter) -> CannotServe | None:
    """Why a request is not to wait at all."""
    state, wait_s = turn.state, least_wait_s(turn.state, service, turn.now)
    live = state.ready.get(service.id)
    full = live is None or all(each.open >= each.limit for each in live.peers or (live,))
    if full and (service.waiting >= service.spec.max_queue or state.waiting >= state.settings.max_queue):
        message = f"{service.waiting} requests wait for {service.id}, {state.waiting} in all: as many as may"
        return QueueFull(message, service=service.id, retry_after_s=BUSY_RETRY_S)
    if not waiter.may_swap and not service.in_state(State.READY, State.LOADING, State.STARTING):
        message = f"{service.id} is {service.state}, and this request may not have it started"
        return NotReady(message, service=service.id, retry_after_s=wait_s or BUSY_RETRY_S)
    if wait_s > waiter.deadline - turn.now:
        message = (
            f"{service.id} takes about {wait_s:.2g} s to be ready, and the request may wait for only "
            f"{waiter.deadline - turn.now:.2g} s"
        )
        return TooLate(message, service=service.id, retry_after_s=wait_s)
    return None


def _want(turn: Turn, service: ServiceState) -> None:
    service.failures, service.retry_at, service.parked = 0, 0.0, False
    turn.want(service)


def _stop(turn: Turn, service: ServiceState, reason: str, *, restart: bool) -> None:
    service.wanted_since = math.inf
    if not restart:
        service.parked = True
        turn.reject_all(service, Draining(f"{service.id} was stopped: {reason}"), BUSY_RETRY_S)
    for replica in list(service.replicas):
        if replica.state is State.FAILED:
            turn.move(replica, machine.Event.RESET, reason)
        turn.retire(replica, reason)
    if restart:
        _want(turn, service)


def _configure(turn: Turn, spec: ServiceSpec, *, replace: bool) -> None:
    state = turn.state
    service = state.services.get(spec.id)
    if service is None:
        service = state.services[spec.id] = ServiceState(spec)
        state.replicas[spec.id] = service.replicas[0]
    relate(state, service.spec, spec)
    service.is_sleepless = service.is_sleepless and service.spec.naps == spec.naps and not replace
    service.spec, service.removed = spec, False
    measure.weigh(state, service)
    for replica in service.replicas:
        if replica.live is not None:
            replica.live.limit = spec.max_in_flight
            if not spec.tells_work:
                replica.live.busy, replica.live.asked, replica.live.rested_at = False, False, math.inf
    if service.id in state.ready:
        turn.list_ready(service)
    turn.rearm_idle(service)
    turn.watch_kept(service)
    for replica in staying(service)[spec.max_replicas :]:
        turn.retire(replica, "its service needs fewer replicas")
    if replace:
        service.failures, service.retry_at, service.failure = 0, 0.0, None
        for replica in list(service.replicas):
            turn.retire(replica, "its settings changed")


def _remove(turn: Turn, service: ServiceState) -> None:
    service.removed = True
    service.wanted_since = math.inf
    turn.reject_all(service, Draining(f"{service.id} was removed from the config"), None)
    for replica in list(service.replicas):
        turn.retire(replica, "given back" if service.spec.lease else "removed from the config")
        turn.forget(replica)


def _hold(turn: Turn, name: str, failure: CannotServe | None) -> None:
    service = turn.state.services.get(name)
    if service is None:
        return
    service.held, service.blocked = True, failure
    for replica in service.in_state(State.QUEUED):
        turn.move(replica, machine.Event.UNWANTED, "what its runtime runs is not known yet")


def _tune(turn: Turn, settings: Settings) -> None:
    turn.state.settings = settings
    for name in turn.state.interested:
        turn.watch_wait(turn.state.services[name])


def _shut_down(turn: Turn, keep: frozenset[str]) -> None:
    turn.state.closing = True
    turn.state.ready.clear()
    for service in list(turn.state.services.values()):
        service.wanted_since = math.inf
        turn.reject_all(service, Draining("the proxy is shutting down"), BUSY_RETRY_S)
        for replica in list(service.replicas):
            if service.id not in keep and replica.state is not State.STOPPING:
                turn.end(replica, "the proxy is shutting down")


def _look(turn: Turn, service: ServiceState) -> None:
    """A service's time has come: waiters may have waited for too long, an idle replica may have idled enough."""
    for waiter in [waiter for waiter in service.waiters if waiter.deadline <= turn.now]:
        turn.dequeue(waiter)
        turn.reject(waiter, _timeout(turn, service, waiter))
    turn.watch_wait(service)
    scale.keep(turn, service)
    if service.spec.max_replicas > 1:
        scale.review(turn, service)
    if not service.spec.pinned:
        for replica in service.in_state(State.READY, State.SLEEPING):
            _idle_out(turn, replica)


def _idle_out(turn: Turn, replica: Replica) -> None:
    live, service = replica.live, replica.service
    timeout_s = service.spec.idle_timeout_s
    if live is None or timeout_s is None:
        return
    if live.open or turn.now < live.last_used + timeout_s:
        turn.arm_idle(live)
    elif replica.waking or replica in kept(service):
        return
    elif is_leaned_on(turn.state, service):
        return  # it is looked at again when the last of those has left
    elif live.is_idle or replica.state is State.SLEEPING:
        reason = f"idle for {turn.now - live.last_used:.0f} s"
        turn.move(replica, machine.Event.UNWANTED, reason, Eviction.IDLE)
    else:
        turn.doubt(live)


def _timeout(turn: Turn, service: ServiceState, waiter: Waiter) -> WaitTimeout:
    waited_s, state = turn.now - waiter.since, service.state
    if (live := turn.state.ready.get(service.id)) is not None:
        message = f"{service.id} was full for {waited_s:.0f} s: its limits.max_in_flight is {live.limit}"
    else:
        waits = any(replica.waits_for_room for replica in service.replicas)
        why = f" ({service.verdict})" if service.verdict and waits else ""
        message = f"{service.id} was not ready within {waited_s:.0f} s: it is {state}{why}"
    return WaitTimeout(message, service=service.id, retry_after_s=BUSY_RETRY_S)
