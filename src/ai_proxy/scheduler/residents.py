"""Who holds room, as the planner sees it: replicas with what it would cost to have them leave.

Pure. A view is made where the planner looks and computes what it is asked for, so that a fleet of a thousand is not
weighed for one start.
"""

import math
from collections.abc import ItemsView, Iterator, Mapping

from ai_proxy.devices import Placement
from ai_proxy.scheduler.asks import Resident, Rung
from ai_proxy.scheduler.needs import awaited_since, dependents_of, is_pinned, is_worked_on
from ai_proxy.scheduler.state import Live, Replica, SchedulerState
from ai_proxy.services.machine import State

_NOTHING = Placement()

PROMISED = " (waiting)"
"""What follows the key of a replica in the name under which room is promised to it."""

WAKES = {1: 0.1, 2: 0.5}
"""What waking from a level of sleep takes of a load, as long as none was measured: from memory, or from disk."""


class Residents(Mapping[str, Resident]):
    """The holders of room by name.

    The views know the moment but not this: what refers to itself is left to the garbage collector, which would hold
    the loop for longer than any plan once a fleet's views have gathered.
    """

    def __init__(self, state: SchedulerState, now: float) -> None:
        self._state = state
        self._moment = _Moment(state, now)
        self._views: dict[str, Resident] = {}
        self._is_complete = False

    def __repr__(self) -> str:
        return f"<Residents {len(self)} at {self._moment.now:.3f}>"

    @property
    def resting_until(self) -> float:
        """When the first of those that were looked at, and would be idle otherwise, has rested for long enough.

        Infinity if there was none.
        """
        return self._moment.resting_until

    def __getitem__(self, holder: str) -> Resident:
        view = self._views.get(holder)
        if view is None:
            replica = self._state.replicas.get(holder)
            view = Promised(holder, self._waits_for(holder)) if replica is None else _View(self._moment, replica)
            self._views[holder] = view
        return view

    def items(self) -> ItemsView[str, Resident]:
        """All of them, made once."""
        if not self._is_complete:
            replicas, moment = self._state.replicas, self._moment
            self._views = {
                holder: self[holder] if (replica := replicas.get(holder)) is None else _View(moment, replica)
                for holder in self
            }
            self._is_complete = True
        return self._views.items()

    def _waits_for(self, holder: str) -> str:
        replica = self._state.replicas.get(holder.removesuffix(PROMISED))
        return holder if replica is None else replica.service.id

    def __iter__(self) -> Iterator[str]:
        return iter(self._state.ledger.held)

    def __len__(self) -> int:
        return self._state.ledger.holders


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


class _Moment:
    """What the views of one plan share.

    Attributes:
        resting_until: As of `Residents`.
    """

    __slots__ = ("now", "resting_until", "state")

    def __init__(self, state: SchedulerState, now: float) -> None:
        self.state = state
        self.now = now
        self.resting_until = math.inf

    def rests(self, live: Live) -> bool:
        """Whether a replica came so recently that it would be a waste to have it leave."""
        residency_s = self.state.settings.min_residency_s
        if live.ready_at is None or live.ready_at + residency_s <= self.now:
            return False
        until = live.ready_at + min(residency_s, live.ready_at - live.placed_at)
        if until > self.now:
            self.resting_until = min(self.resting_until, until)
        return until > self.now


class _View:
    """A replica as a resident; `planner.Resident` says what each attribute means.

    One is made of every replica for each plan: it is cheap to make, and what all of them are asked is cheap to tell.
    """

    __slots__ = ("_moment", "_replica", "leaving")

    def __init__(self, moment: _Moment, replica: Replica) -> None:
        self._moment = moment
        self._replica = replica
        state = replica.state
        self.leaving = state is not State.READY and _is_leaving(replica)

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
        return self._moment.state.ledger.placement(self.holder)

    @property
    def idle(self) -> bool:
        """Neither at work itself, nor needed by one that requires it and works or waits."""
        replica, moment = self._replica, self._moment
        if replica.state is State.READY:
            live = replica.live
            if live is None or not live.is_idle:
                return False
        elif replica.state is State.SLEEPING and not replica.waking:
            live = None
        else:
            return False
        dependents = moment.state.dependents
        if dependents and self.service in dependents and self._is_needed():
            return False
        return live is None or not moment.rests(live)

    def _is_needed(self) -> bool:
        service, state = self._replica.service, self._moment.state
        waits = (awaited_since(state, dependent) for dependent in dependents_of(state, service))
        return any(since < math.inf for since in waits) or is_worked_on(state, service)

    @property
    def pinned(self) -> bool:
        spec, state = self._replica.service.spec, self._moment.state
        return bool(spec.pinned or spec.min_replicas or state.dependents) and is_pinned(state, self._replica)

    @property
    def along(self) -> tuple[str, ...]:
        state = self._moment.state
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
        naps = replica.service.spec.naps
        return (
            self._regret() * min([1.0, *[_wake_share(replica, nap.level) for nap in naps]]) if naps else self._regret()
        )

    def _regret(self) -> float:
        """What its stop costs: whoever has copies that stay is missed the less."""
        moment, service = self._moment, self._replica.service
        regret = moment.state.estimates.regret(service.spec.id, moment.now)
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
