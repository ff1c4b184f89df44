"""How long a request will have to wait, as far as that can be known beforehand.

Pure. A lower bound from what was measured: what can't be known (how long a busy replica stays busy) counts as nothing,
so that nobody is turned away who might have been served.
"""

from ai_proxy.scheduler.state import Replica, SchedulerState, ServiceState
from ai_proxy.services.machine import State

TRUST = 0.9
"""Of a measured duration: the next load may be a little faster than the usual one."""


def least_wait_s(state: SchedulerState, service: ServiceState, now: float) -> float:
    """The time until a request can be granted at the earliest; 0 where nothing is known.

    Args:
        state: The fleet.
        service: What the request waits for.
        now: The owner's clock.
    """
    if service.id in state.ready:
        return 0.0
    required = (state.services.get(name) for name in service.spec.requires if name not in state.ready)
    first = max((least_wait_s(state, each, now) for each in required if each is not None), default=0.0)
    ways = [_until_ready_s(replica, now) for replica in service.replicas]
    if len(service.replicas) < service.spec.max_replicas:
        ways.append(_load_s(service))
    return first + min(ways, default=0.0)


def _until_ready_s(replica: Replica, now: float) -> float:
    """What is left of a start, or of waking up; all of it where it has not begun."""
    figures, live = replica.service.figures, replica.live
    load_s = _load_s(replica.service)
    if live is None:
        return load_s
    if live.level:
        load_s = (figures.wake_s(live.level) or 0.0) * TRUST
    match replica.state:
        case State.STARTING | State.LOADING:
            return max(load_s - (now - live.placed_at), 0.0)
        case State.SLEEPING:
            return load_s
        case State.STOPPING:
            return load_s + (figures.stop_s or 0.0) * TRUST
        case _:
            return 0.0


def _load_s(service: ServiceState) -> float:
    return (service.figures.load_s or 0.0) * TRUST
