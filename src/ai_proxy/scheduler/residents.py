"""Who holds room, as the planner sees it: replicas with what it would cost to have them leave.

Pure. A view is made where the planner looks and computes what it is asked for, so that a fleet of a thousand is not
weighed for one start.
"""

import math
from collections.abc import ItemsView, Iterator, Mapping

from ai_proxy.devices import Placement
from ai_proxy.scheduler.asks import Resident, Rung
from ai_proxy.scheduler.needs import awaited_since, dependents_of, is_pinned, is_worked_on
from ai_proxy.scheduler.state import Replica, SchedulerState
from ai_proxy.services.machine import State

_NOTHING = Placement()
_NEVER = (-math.inf, 0.0)

PROMISED = " (waiting)"
"""What follows the key of a replica in the name under which room is promised to it."""

WAKES = {1: 0.1, 2: 0.5}
"""What waking from a level of sleep takes of a load, as long as none was measured: from memory, or from disk."""


class Residents(Mapping[str, Resident]):
    """The holders of room by name, as they are at a moment.

    The view of a replica is kept with it: to make hundreds for each plan would take longer than the plan.
    """

    def __init__(self, state: SchedulerState, now: float) -> None:
        self._state = state
        self._now = now
        self._views: dict[str, Resident] = {}
        self._is_complete = False
        self._leaving: list[str] | None = None

    def __repr__(self) -> str:
        return f"<Residents {len(self)} at {self._now:.3f}>"

    def __getitem__(self, holder: str) -> Resident:
        found = self._views.get(holder)
        if found is None:
            replica = self._state.replicas.get(holder)
            found = self._promised(holder) if replica is None else self._view(replica)
            self._views[holder] = found
        return found

    def items(self) -> ItemsView[str, Resident]:
        """All of them, looked at once."""
        if not self._is_complete:
            replicas, now, views = self._state.replicas, self._now, self._views
            for holder in self:
                replica = replicas.get(holder)
                if replica is None or (view := replica.view) is None:
                    views[holder] = self[holder]
                else:
                    view.now = now
                    views[holder] = view
            self._is_complete = True
        return self._views.items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._state.ledger.held)

    def __len__(self) -> int:
        return self._state.ledger.holders

    @property
    def leaving(self) -> list[str]:
        """Who is on its way out already; found once."""
        if self._leaving is None:
            self._leaving = [holder for holder, resident in self.items() if resident.leaving]
        return self._leaving

    @property
    def resting_until(self) -> float:
        """When the first of those that would be idle otherwise has been there for long enough to leave.

        Infinity if there is none.
        """
        if not self._state.settings.min_residency_s:
            return math.inf
        views = [view for _, view in self.items() if isinstance(view, _View)]
        resting = [(until, view) for view in views if (until := view.rests_until) > self._now]
        return min([until for until, view in resting if view.is_free], default=math.inf)

    def _view(self, replica: Replica) -> Resident:
        view = replica.view
        if view is None:
            view = replica.view = _View(self._state, replica)
        view.now = self._now
        return view

    def _promised(self, holder: str) -> Resident:
        replica = self._state.replicas.get(holder.removesuffix(PROMISED))
        return Promised(holder, holder if replica is None else replica.service.id)


class Promised:
    """Room that is promised to a service that waits for it: nobody can be asked to leave it.

    Its service counts as being there, so that none with which it is in conflict comes in its way meanwhile.
    """

    __slots__ = ("holder", "service")

    idle = False
    pinned = False
    leaving = False
    priority = 0
    placement = Placement()
    floor = 0.0
    rungs: tuple[Rung, ...] = ()
    along: tuple[str, ...] = ()

    def __init__(self, holder: str, service: str) -> None:
        self.holder = holder
        self.service = service

    def __repr__(self) -> str:
        return f"<Promised {self.holder}>"


class _View:
    """A replica as a resident; `planner.Resident` says what each attribute means.

    Attributes:
        now: The moment as of which it tells.
    """

    __slots__ = ("_replica", "_state", "now")

    def __init__(self, state: SchedulerState, replica: Replica) -> None:
        self._state = state
        self._replica = replica
        self.now = 0.0

    def __repr__(self) -> str:
        return f"<View of {self._replica!r}>"

    @property
    def holder(self) -> str:
        return self._replica.key

    @property
    def service(self) -> str:
        return self._replica.service.spec.id

    @property
    def priority(self) -> int:
        return self._replica.service.spec.priority

    @property
    def placement(self) -> Placement:
        return self._state.ledger.placement(self.holder)

    @property
    def leaving(self) -> bool:
        replica = self._replica
        return replica.state is not State.READY and _is_leaving(replica)

    @property
    def idle(self) -> bool:
        """Neither at work itself, nor needed by one that requires it and works or waits, nor come too recently."""
        replica, state = self._replica, self._state
        live = replica.live
        if live is None or live.open:
            return False
        if replica.state is State.READY and not (state.dependents or state.settings.min_residency_s):
            return not live.busy and live.last_used <= live.rested_at  # all there is to it for most, in one call
        return self.is_free and self.rests_until <= self.now

    @property
    def is_free(self) -> bool:
        """It is idle, but for that it may have come too recently."""
        replica = self._replica
        if replica.state is State.READY:
            live = replica.live
            if live is None or live.open or not live.is_idle:
                return False
        elif replica.state is not State.SLEEPING or replica.waking:
            return False
        dependents = self._state.dependents
        return not (dependents and self.service in dependents and self._is_needed())

    @property
    def rests_until(self) -> float:
        """To have it leave before would be a waste: it has only just become ready."""
        live = self._replica.live
        if live is None or live.ready_at is None or self._replica.state is not State.READY:
            return -math.inf
        until = live.ready_at + self._state.settings.min_residency_s
        return until if until <= self.now else min(until, live.ready_at + live.ready_at - live.placed_at)

    def _is_needed(self) -> bool:
        service, state = self._replica.service, self._state
        waits = (awaited_since(state, dependent) for dependent in dependents_of(state, service))
        return any(since < math.inf for since in waits) or is_worked_on(state, service)

    @property
    def pinned(self) -> bool:
        spec, state = self._replica.service.spec, self._state
        if not (spec.pinned or spec.min_replicas or state.dependents):
            return False
        return is_pinned(state, self._replica)

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
        return _rungs(self._replica, self._regret())

    @property
    def floor(self) -> float:
        replica = self._replica
        service = replica.service
        spec = service.spec
        if len(service.replicas) == 1 and not spec.naps:
            # Asked of everybody: what was told already takes a look into a table.
            until, regret = self._state.estimates.told.get(spec.id, _NEVER)
            return regret if self.now < until else self._regret()
        return self._regret() * min([1.0, *[_wake_share(replica, nap.level) for nap in service.spec.naps]])

    def _regret(self) -> float:
        """What its stop costs: whoever has copies that stay is missed the less."""
        service = self._replica.service
        regret = self._state.estimates.regret(service.spec.id, self.now)
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
        Rung(nap.level, nap.keeps_of(live.placement), regret * _wake_share(replica, nap.level))
        for nap in service.spec.naps
    ]
    return tuple(sorted((stop, *naps), key=lambda rung: (rung.regret, -rung.level)))


def _wake_share(replica: Replica, level: int) -> float:
    """What waking takes, against a load."""
    figures = replica.service.figures
    wake_s, load_s = figures.wake_s(level), figures.load_s
    if wake_s is None or not load_s:
        return WAKES.get(level, 1.0)
    return min(wake_s / load_s, 1.0)
