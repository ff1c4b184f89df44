"""What services are to each other: who requires whom, who may not run beside whom, and what follows for who may leave.

Pure questions to the state; what to do is decided elsewhere. That nothing requires itself over others is the config's
promise.
"""

from collections.abc import Iterator

from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.scheduler.state import Replica, SchedulerState, ServiceState
from ai_proxy.services.machine import State

_UP = (State.STARTING, State.LOADING, State.READY, State.DRAINING)
_RUNS = (State.STARTING, State.LOADING, State.READY)


def relate(state: SchedulerState, old: ServiceSpec, new: ServiceSpec | None) -> None:
    """Note in both directions what a service says of others.

    Args:
        state: The fleet.
        old: What it said before.
        new: What it says now; None if it is gone.
    """
    for name in old.requires:
        state.dependents.get(name, set()).discard(old.id)
    for name in old.conflicts:
        state.opponents.get(name, set()).discard(old.id)
    if new is not None:
        for name in new.requires:
            state.dependents.setdefault(name, set()).add(new.id)
        for name in new.conflicts:
            state.opponents.setdefault(name, set()).add(new.id)


def requirements_of(state: SchedulerState, service: ServiceState) -> Iterator[str]:
    """The services that one requires, and those that these require."""
    for name in service.spec.requires:
        yield name
        if (required := state.services.get(name)) is not None:
            yield from requirements_of(state, required)


def dependents_of(state: SchedulerState, service: ServiceState) -> Iterator[ServiceState]:
    """The services that require one, in the order of their names."""
    for name in sorted(state.dependents.get(service.id, ())):
        if (dependent := state.services.get(name)) is not None:
            yield dependent


def is_worked_on(state: SchedulerState, service: ServiceState) -> bool:
    """Whether one that requires it starts or works: then it has to stay, idle as it may seem."""
    return any(
        any(not replica.is_idle and not _drained(replica) for replica in dependent.in_state(*_UP))
        or is_worked_on(state, dependent)
        for dependent in dependents_of(state, service)
    )


def is_leaned_on(state: SchedulerState, service: ServiceState) -> bool:
    """Whether one that requires it is up, at work or not."""
    return any(dependent.in_state(*_UP) for dependent in dependents_of(state, service))


def is_pinned(state: SchedulerState, replica: Replica) -> bool:
    """By its config, as one of those that are to be kept running, or as what such a one requires."""
    service = replica.service
    if service.spec.pinned or (service.spec.min_replicas and replica in kept(service)):
        return True
    return service.id in state.dependents and any(
        is_pinned(state, each) for dependent in dependents_of(state, service) for each in dependent.in_state(*_RUNS)
    )


def awaited_since(state: SchedulerState, service: ServiceState) -> float:
    """Since when somebody waits for a service, or for one that requires it; infinity if nobody does."""
    if service.id not in state.dependents:
        return service.interest_since
    ahead = (awaited_since(state, dependent) for dependent in dependents_of(state, service))
    return min((service.interest_since, *ahead))


def staying(service: ServiceState) -> list[Replica]:
    """The replicas that run or will soon and are not on their way out, those that are at work first."""
    return sorted(service.in_state(*_RUNS), key=lambda replica: replica.is_idle)


def kept(service: ServiceState) -> list[Replica]:
    """Those that are to be kept running."""
    return staying(service)[: service.spec.min_replicas]


def _drained(replica: Replica) -> bool:
    return replica.state is State.DRAINING and replica.live is not None and replica.live.is_idle
