"""How long a request will have to wait, as far as that can be known beforehand: at least, and at most.

Pure. The least is from what was measured: what can't be known (how long a busy replica stays busy) counts as nothing,
so that nobody is turned away who might have been served. The most is what fairness promises.
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


def longest_wait_s(
    *, claim_after_s: float, exchange_s: float, stop_s: float, load_s: float, ahead: int = 0, starts: int = 1
) -> float:
    """The longest that a request waits for a service that is not ready.

    After `claim_after_s` its service has a claim. What is in its way takes nothing new: it ends its exchanges, stops or
    falls asleep; then the service loads, perhaps after a load that is under way on its device. This is a turn, and as
    many turns may come before as there are starts that older claims wait for. A priority changes the order before a
    claim, and nothing after it.

    Args:
        claim_after_s: As the config says.
        exchange_s: The longest exchange; `scheduling.max_request_s` sees to it that there is such a thing.
        stop_s: The longest stop, or falling asleep.
        load_s: The longest load.
        ahead: Starts that come first, as somebody who needs them has waited for longer.
        starts: Starts that it needs: its own, and those of what it requires.

    Example:
        >>> longest_wait_s(claim_after_s=30, exchange_s=60, stop_s=5, load_s=20)
        135
        >>> longest_wait_s(claim_after_s=30, exchange_s=60, stop_s=5, load_s=20, ahead=1)
        240
    """
    return claim_after_s + (ahead + starts) * (exchange_s + stop_s + 2 * load_s)


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
