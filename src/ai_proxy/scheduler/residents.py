"""Who holds room, as the planner sees it: replicas with what it would cost to have them leave.

Pure. A view is made where the planner looks and computes what it is asked for, so that a fleet of a thousand is not
weighed for one start.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ai_proxy.devices import Placement
from ai_proxy.scheduler.asks import Fleet, Resident, Rung
from ai_proxy.scheduler.needs import awaited_since, dependents_of, is_pinned, is_worked_on
from ai_proxy.scheduler.state import Replica, SchedulerState, ServiceState
from ai_proxy.services.machine import State

_NOTHING = Placement()
_NEVER = (-math.inf, 0.0)
_READY = State.READY

PROMISED = " (waiting)"
"""What follows the key of a replica in the name under which room is promised to it."""

WAKES = {1: 0.1, 2: 0.5}
"""What waking from a level of sleep takes of a load, as long as none was measured: from memory, or from disk."""


class Residents(Fleet):
    """The holders of room by name, as they are at a moment."""

    def __init__(self, state: SchedulerState, now: float) -> None:
        self._state = state
        self._now = now
        self._views: dict[str, Resident] = {}

    def __repr__(self) -> str:
        return f"<Residents {len(self)} at {self._now:.3f}>"

    def __getitem__(self, holder: str) -> Resident:
        found = self._views.get(holder)
        if found is None:
            replica = self._state.replicas.get(holder)
            found = self._promised(holder) if replica is None else _View(self._state, replica, self._now)
            self._views[holder] = found
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._state.ledger.held)

    def __len__(self) -> int:
        return self._state.ledger.holders

    @property
    def leaving(self) -> list[str]:
        """Who is on its way out already."""
        return self._standing.leaving

    @property
    def pinned(self) -> Collection[str]:
        """Who may not be made to leave."""
        return self._standing.pinned

    @property
    def idle(self) -> Mapping[str, int]:
        """Who could leave, with its service's priority."""
        return self._standing.idle

    @property
    def resting_until(self) -> float:
        """When the first of those that would be idle otherwise has been there for long enough to leave.

        Infinity if there is none.
        """
        return self._standing.resting_until

    def floors(self, holders: Iterable[str]) -> dict[str, float]:
        """What each of some holders is missed for at least, in whatever way it gives room."""
        state, now = self._state, self._now
        replicas, estimates = state.replicas, state.estimates
        told = estimates.told
        found = {}
        for holder in holders:
            service = replicas[holder].service
            if len(service.replicas) == 1 and not service.spec.naps:
                until, floor = told.get(holder, _NEVER)  # the only replica has its service's name
                found[holder] = floor if now < until else estimates.regret(holder, now)
            else:
                shares = [_wake_share(service, nap.level) for nap in service.spec.naps]
                found[holder] = _regret(state, service, now) * min([1.0, *shares])
        return found

    def drainable(self, spared: Collection[str]) -> list[str]:
        """The replicas that may be had to leave as soon as what is open on them has ended.

        Args:
            spared: Services whose replicas may not.
        """
        standing, found = self._standing, self._state.ledger.held
        known = [service for name in spared if (service := self._state.services.get(name)) is not None]
        spared_replicas = [replica.key for service in known for replica in service.replicas]
        for holder in (*standing.leaving, *standing.pinned, *standing.others, *spared_replicas):
            found.pop(holder, None)
        return list(found)

    @cached_property
    def _standing(self) -> "_Standing":
        return _standing(self._state, self._now)

    def _promised(self, holder: str) -> Resident:
        replica = self._state.replicas.get(holder.removesuffix(PROMISED))
        return Promised(holder, holder if replica is None else replica.service.id)


@dataclass(slots=True)
class _Standing:
    """Who of a fleet may be asked to leave, and who not.

    Attributes:
        leaving: As of `Fleet`.
        pinned: As of `Fleet`.
        idle: As of `Fleet`.
        others: Holders that are no replicas: promises, and room of others.
        resting_until: As of `Residents`.
    """

    leaving: list[str] = field(default_factory=list)
    pinned: dict[str, None] = field(default_factory=dict)
    idle: dict[str, int] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    resting_until: float = math.inf


def _standing(state: SchedulerState, now: float) -> _Standing:
    """Look at everybody once; at most of them without a call, as every plan of a large fleet waits for this."""
    told = _Standing()
    idle, replicas, dependents = told.idle, state.replicas, state.dependents
    rested_since = now - state.settings.min_residency_s
    for holder in state.ledger.held:
        replica = replicas.get(holder)
        if replica is None:
            told.others.append(holder)
            continue
        live, spec = replica.live, replica.service.spec
        if (
            live is None
            or replica.state is not _READY
            or spec.pinned
            or spec.min_replicas
            or (dependents and spec.id in dependents)
        ):
            _look_at(told, state, replica, now)
        elif live.open or live.busy or live.last_used > live.rested_at:
            continue  # it is at work
        elif live.ready_at is None or live.ready_at > rested_since:
            _look_at(told, state, replica, now)
        else:
            idle[holder] = spec.priority
    return told


def _look_at(told: _Standing, state: SchedulerState, replica: Replica, now: float) -> None:
    """Tell where one of whom more is to be known stands."""
    if replica.state is not State.READY and _is_leaving(replica):
        told.leaving.append(replica.key)
        return
    may_leave = _may_leave(state, replica)
    if may_leave and (until := _rests_until(state, replica, now)) > now:
        told.resting_until = min(told.resting_until, until)
        may_leave = False
    if is_pinned(state, replica):
        told.pinned[replica.key] = None
    elif may_leave:
        told.idle[replica.key] = replica.service.spec.priority


def _may_leave(state: SchedulerState, replica: Replica) -> bool:
    """It is neither at work itself, nor needed by one that requires it and works or waits."""
    live, service = replica.live, replica.service
    if replica.state is State.READY:
        if live is None or not live.is_idle:
            return False
    elif replica.state is not State.SLEEPING or replica.waking:
        return False
    return service.spec.id not in state.dependents or not _is_needed(state, service)


def _rests_until(state: SchedulerState, replica: Replica, now: float) -> float:
    """To have it leave before would be a waste: it has only just become ready."""
    live = replica.live
    if live is None or live.ready_at is None or replica.state is not State.READY:
        return -math.inf
    until = live.ready_at + state.settings.min_residency_s
    return until if until <= now else min(until, live.ready_at + live.ready_at - live.placed_at)


class Promised:
    """Room that is promised to a service that waits for it: nobody can be asked to leave it.

    Its service counts as being there, so that none with which it is in conflict comes in its way meanwhile.
    """

    __slots__ = ("holder", "service")

    rungs: tuple[Rung, ...] = ()
    along: tuple[str, ...] = ()

    def __init__(self, holder: str, service: str) -> None:
        self.holder = holder
        self.service = service

    def __repr__(self) -> str:
        return f"<Promised {self.holder}>"


class _View:
    """A replica as a resident; `asks.Resident` says what each attribute means."""

    __slots__ = ("_now", "_replica", "_state")

    def __init__(self, state: SchedulerState, replica: Replica, now: float) -> None:
        self._state = state
        self._replica = replica
        self._now = now

    def __repr__(self) -> str:
        return f"<View of {self._replica!r}>"

    @property
    def service(self) -> str:
        return self._replica.service.spec.id

    @property
    def along(self) -> tuple[str, ...]:
        state = self._state
        if self.service not in state.dependents:
            return ()
        return tuple(
            replica.key
            for dependent in dependents_of(state, self._replica.service)
            for replica in dependent.in_state(State.STARTING, State.LOADING, State.READY)
        )

    @property
    def rungs(self) -> tuple[Rung, ...]:
        return _rungs(self._replica, _regret(self._state, self._replica.service, self._now))


def _is_needed(state: SchedulerState, service: ServiceState) -> bool:
    """By one that requires it and works or waits."""
    waits = (awaited_since(state, dependent) for dependent in dependents_of(state, service))
    return any(since < math.inf for since in waits) or is_worked_on(state, service)


def _regret(state: SchedulerState, service: ServiceState, now: float) -> float:
    """What the stop of one replica costs: whoever has copies that stay is missed the less."""
    regret = state.estimates.regret(service.spec.id, now)
    return regret if len(service.replicas) == 1 else regret / (len(service.in_state(State.READY)) or 1)


def _is_leaving(replica: Replica) -> bool:
    return replica.state in {State.DRAINING, State.STOPPING} or (
        replica.state is State.SLEEPING and replica.live is not None and not replica.live.slept
    )


def _rungs(replica: Replica, regret: float) -> tuple[Rung, ...]:
    """The ways in which a replica can make room, the one with the least regret first."""
    service, live = replica.service, replica.live
    stop = Rung(0, _NOTHING, regret)
    if not service.spec.naps or service.is_sleepless or live is None or replica.state is not State.READY:
        return (stop,)
    naps = [
        Rung(nap.level, nap.keeps_of(live.placement), regret * _wake_share(service, nap.level))
        for nap in service.spec.naps
    ]
    return tuple(sorted((stop, *naps), key=lambda rung: (rung.regret, -rung.level)))


def _wake_share(service: ServiceState, level: int) -> float:
    """What waking takes, against a load."""
    figures = service.figures
    wake_s, load_s = figures.wake_s(level), figures.load_s
    if wake_s is None or not load_s:
        return WAKES.get(level, 1.0)
    return min(wake_s / load_s, 1.0)
