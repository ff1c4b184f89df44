"""The scheduler's decisions: `step(state, now, event) -> actions`.

No I/O and no clock: a driver brings events and the time, carries the actions out and asks again at `next_timer`.
Each step ends with everything settled that can be settled now: whoever can be admitted is, whoever can't ever be
has its error, every service that is wanted is on its way or knows what it waits for.
"""

from ai_proxy.errors import CannotServe, Draining, QueueFull, WaitTimeout
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.messages import Action, Event, Eviction
from ai_proxy.scheduler.settle import settle
from ai_proxy.scheduler.state import BUSY_RETRY_S, Live, Replica, SchedulerState, ServiceSpec, Settings, Waiter
from ai_proxy.scheduler.turn import Turn
from ai_proxy.services import machine
from ai_proxy.services.backoff import delay_s
from ai_proxy.services.machine import State

STEADY_S = 60.0
"""A replica that was ready for this long is started again at once when it breaks."""


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
    _take(turn, event)
    settle(turn)
    return turn.actions


def cares(state: SchedulerState, service: str, live: Live) -> bool:
    """Tell whether closing a grant on this life needs a `Closed` event.

    The warm path asks this of every request, so that a step is paid for only where somebody waits.
    """
    replica = state.replicas.get(service)
    if replica is None or replica.live is not live:
        return False
    return bool(replica.queue) or (not live.open and (bool(state.interested or state.draining) or not live.idle_armed))


def _take(turn: Turn, event: Event) -> None:  # noqa: C901, PLR0912  # a flat dispatch, one line an event
    """Bring one event into the state."""
    match event:
        case do.Arrived(waiter):
            _arrive(turn, waiter)
        case do.Left(waiter):
            turn.dequeue(waiter)
        case do.Closed(service):
            if (replica := turn.state.replicas.get(service)) is not None:
                turn.rearm_idle(replica)
        case do.Reported():
            _report(turn, event)
        case do.Unhealthy(service, failure):
            _sicken(turn, turn.state.replicas[service], failure)
        case do.WorkTold(service, busy, asked_at):
            _set_busy(turn, turn.state.replicas[service], busy=busy, asked_at=asked_at)
        case do.StartAsked(service):
            _want(turn, turn.state.replicas[service])
        case do.StopAsked(service, reason, restart):
            _stop(turn, turn.state.replicas[service], reason, restart=restart)
        case do.Configured(spec, replace):
            _configure(turn, spec, replace=replace)
        case do.Removed(service):
            _remove(turn, turn.state.replicas[service])
        case do.Held(service, failure):
            _hold(turn, service, failure)
        case do.Released(service):
            if (replica := turn.state.replicas.get(service)) is not None:
                replica.held, replica.blocked = False, None
        case do.Tuned(settings):
            _tune(turn, settings)
        case do.ShutDown(keep):
            _shut_down(turn, keep)
        case do.Tick():
            for replica in turn.state.due(turn.now):
                _look(turn, replica)


def _arrive(turn: Turn, waiter: Waiter) -> None:
    state = turn.state
    replica = state.replicas.get(waiter.service)
    if state.closing or replica is None or replica.removed:
        turn.reject(waiter, Draining(f"{waiter.service} is going away", service=waiter.service))
        return
    live = state.ready.get(waiter.service)
    waits = live is None or live.open >= live.limit
    if waits and (len(replica.queue) >= replica.spec.max_queue or state.waiting >= state.settings.max_queue):
        message = f"{len(replica.queue)} requests wait for {waiter.service}, {state.waiting} in all: as many as may"
        turn.reject(waiter, QueueFull(message, service=waiter.service, retry_after_s=BUSY_RETRY_S))
        return
    replica.queue[waiter.id] = waiter
    state.waiting += 1
    state.interested[waiter.service] = None
    state.arm(min(waiter.deadline, turn.claim_at(replica)), waiter.service)


def _report(turn: Turn, event: do.Reported) -> None:
    replica = turn.state.replicas[event.service]
    kind = event.event
    machine.step(replica.state, kind)  # raises before anything has changed
    if kind is machine.Event.ADOPTED and event.instance is not None:
        replica.live = Live(event.instance.placement, replica.spec.max_in_flight)
        turn.state.ledger.reserve(event.service, event.instance.placement)
    if event.instance is not None and replica.live is not None:
        replica.live.instance = event.instance
    if kind is machine.Event.BROKE and event.failure is not None:
        _break(turn, replica, event.failure)
        return
    if kind is machine.Event.GONE and replica.broken:
        kind = machine.Event.LOST
    elif kind is machine.Event.GONE and replica.live is not None and replica.live.ready_at is not None:
        replica.failures = 0  # it lived and ended as it should
    turn.move(replica, kind, str(kind))


def _break(turn: Turn, replica: Replica, failure: CannotServe) -> None:
    """A life ended that should not have: count it, and tell those who wait for a start that failed."""
    live = replica.live
    steady = live is not None and live.ready_at is not None and turn.now - live.ready_at >= STEADY_S
    _blame(turn, replica, failure, steady=steady)
    turn.move(replica, machine.Event.BROKE, failure.message)
    if not steady:
        replica.wanted_since = None
        turn.reject_all(replica, failure, max(replica.retry_at - turn.now, 0.0))


def _sicken(turn: Turn, replica: Replica, failure: CannotServe) -> None:
    """A replica stopped answering its health check: it takes nothing new, and is replaced when it is idle."""
    if replica.state in {State.READY, State.DRAINING}:
        _blame(turn, replica, failure, steady=False)
        turn.retire(replica, failure.message)


def _blame(turn: Turn, replica: Replica, failure: CannotServe, *, steady: bool) -> None:
    """Note why a life ends and when the next may begin; what is found of it later is but an echo."""
    if replica.broken:
        return
    replica.failures = 0 if steady else replica.failures + 1
    replica.retry_at = turn.now if steady else turn.now + delay_s(replica.failures, turn.state.random.random())
    replica.failure, replica.broken = failure, True


def _set_busy(turn: Turn, replica: Replica, *, busy: bool, asked_at: float) -> None:
    live = replica.live
    if live is None:
        return
    if busy:
        live.last_used = turn.now
    elif live.busy:
        live.last_used = max(live.last_used, asked_at)
    live.busy, live.asked = busy, live.asked and busy and not live.open
    if not busy:
        live.rested_at = asked_at
    turn.rearm_idle(replica)


def _want(turn: Turn, replica: Replica) -> None:
    replica.failures, replica.retry_at = 0, 0.0
    if replica.state is not State.READY and replica.wanted_since is None and not turn.state.closing:
        replica.wanted_since = turn.now
        turn.state.interested[replica.spec.id] = None
        turn.state.arm(turn.claim_at(replica), replica.spec.id)


def _stop(turn: Turn, replica: Replica, reason: str, *, restart: bool) -> None:
    replica.wanted_since = None
    if not restart:
        turn.reject_all(replica, Draining(f"{replica.spec.id} was stopped: {reason}"), BUSY_RETRY_S)
    if replica.state is State.FAILED:
        turn.move(replica, machine.Event.RESET, reason)
    turn.retire(replica, reason)
    if restart:
        _want(turn, replica)


def _configure(turn: Turn, spec: ServiceSpec, *, replace: bool) -> None:
    replica = turn.state.replicas.setdefault(spec.id, Replica(spec))
    replica.spec, replica.removed = spec, False
    if replica.live is not None:
        replica.live.limit = spec.max_in_flight
        turn.rearm_idle(replica)
    if replace:
        replica.failures, replica.retry_at, replica.failure = 0, 0.0, None
        turn.retire(replica, "its settings changed")


def _remove(turn: Turn, replica: Replica) -> None:
    replica.removed = True
    replica.wanted_since = None
    turn.reject_all(replica, Draining(f"{replica.spec.id} was removed from the config"), None)
    turn.retire(replica, "removed from the config")
    turn.forget(replica)


def _hold(turn: Turn, service: str, failure: CannotServe | None) -> None:
    replica = turn.state.replicas.get(service)
    if replica is None:
        return
    replica.held, replica.blocked = True, failure
    if replica.state is State.QUEUED:
        turn.move(replica, machine.Event.UNWANTED, "what its runtime runs is not known yet")


def _tune(turn: Turn, settings: Settings) -> None:
    turn.state.settings = settings
    for service in turn.state.interested:
        turn.watch_wait(turn.state.replicas[service])


def _shut_down(turn: Turn, keep: frozenset[str]) -> None:
    turn.state.closing = True
    turn.state.ready.clear()
    for replica in list(turn.state.replicas.values()):
        replica.wanted_since = None
        turn.reject_all(replica, Draining("the proxy is shutting down"), BUSY_RETRY_S)
        if replica.spec.id not in keep and replica.state is not State.STOPPING:
            turn.end(replica, "the proxy is shutting down")


def _look(turn: Turn, replica: Replica) -> None:
    """A service's time has come: waiters may have waited for too long, an idle replica may have idled enough."""
    for waiter in [w for w in replica.queue.values() if w.deadline <= turn.now]:
        turn.dequeue(waiter)
        turn.reject(waiter, _timeout(turn, replica, waiter))
    turn.watch_wait(replica)
    _idle_out(turn, replica)


def _idle_out(turn: Turn, replica: Replica) -> None:
    live, timeout_s = replica.live, replica.spec.idle_timeout_s
    if live is None or timeout_s is None or live.open or turn.now < live.last_used + timeout_s:
        turn.rearm_idle(replica)
    elif replica.spec.pinned or replica.state is not State.READY:
        return
    elif live.is_idle:
        turn.move(replica, machine.Event.UNWANTED, f"idle for {turn.now - live.last_used:.0f} s", Eviction.IDLE)
    else:
        turn.doubt(replica.spec.id, live)


def _timeout(turn: Turn, replica: Replica, waiter: Waiter) -> WaitTimeout:
    waited_s = turn.now - waiter.since
    if replica.state is State.READY and replica.live is not None:
        message = f"{replica.spec.id} was full for {waited_s:.0f} s: its limits.max_in_flight is {replica.live.limit}"
    else:
        why = f" ({replica.verdict})" if replica.verdict and replica.state is State.QUEUED else ""
        message = f"{replica.spec.id} was not ready within {waited_s:.0f} s: it is {replica.state}{why}"
    return WaitTimeout(message, service=replica.spec.id, retry_after_s=BUSY_RETRY_S)
