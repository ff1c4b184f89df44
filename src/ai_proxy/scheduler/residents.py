"""Who holds room, as the planner sees it: replicas with what it would cost to have them leave.

Pure. A view is made where the planner looks and computes what it is asked for, so that a fleet of a thousand is not
weighed for one start.
"""

import math
from collections.abc import Iterator, Mapping

from ai_proxy.devices import Placement
from ai_proxy.scheduler.asks import Resident, Rung
from ai_proxy.scheduler.spec import Nap
from ai_proxy.scheduler.state import Live, Replica, SchedulerState
from ai_proxy.services.machine import HOLDING, State

WAKES = {1: 0.1, 2: 0.5}
"""What waking from a level of sleep takes of a load, as long as none was measured: from memory, or from disk."""


class Residents(Mapping[str, Resident]):
    """The holders of room by name.

    Attributes:
        resting_until: When the first of those that were looked at, and would be idle otherwise, has been there for
            long enough to leave; infinity if there was none.
    """

    def __init__(self, state: SchedulerState, now: float) -> None:
        self.state = state
        self.now = now
        self.resting_until = math.inf

    def __repr__(self) -> str:
        return f"<Residents {len(self)} at {self.now:.3f}>"

    def __getitem__(self, holder: str) -> Resident:
        replica = self.state.replicas.get(holder)
        return Promised(holder) if replica is None else _View(self, replica)

    def __iter__(self) -> Iterator[str]:
        return iter(self.state.ledger.held)

    def __len__(self) -> int:
        return len(self.state.ledger.held)

    def rests(self, live: Live) -> bool:
        """Whether a replica came so recently that it would be a waste to have it leave."""
        if live.ready_at is None:
            return False
        until = live.ready_at + min(self.state.settings.min_residency_s, live.ready_at - live.placed_at)
        if until > self.now:
            self.resting_until = min(self.resting_until, until)
        return until > self.now


class Promised:
    """Room that is promised to a service that waits for it: nobody can be asked to leave it."""

    __slots__ = ("holder", "service")

    idle = False
    pinned = False
    leaving = False
    priority = 0
    placement = Placement()
    rungs: tuple[Rung, ...] = ()
    along: tuple[str, ...] = ()

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self.service = ""

    def __repr__(self) -> str:
        return f"<Promised {self.holder}>"


class _View:
    """A replica as a resident; `planner.Resident` says what each attribute means."""

    __slots__ = ("_replica", "_residents", "holder")

    def __init__(self, residents: Residents, replica: Replica) -> None:
        self._residents = residents
        self._replica = replica
        self.holder = replica.key

    def __repr__(self) -> str:
        return f"<View of {self._replica!r}>"

    @property
    def service(self) -> str:
        return self._replica.service.id

    @property
    def placement(self) -> Placement:
        return self._residents.state.ledger.placement(self.holder)

    @property
    def priority(self) -> int:
        return self._replica.service.spec.priority

    @property
    def leaving(self) -> bool:
        replica = self._replica
        return replica.state in {State.DRAINING, State.STOPPING} or (
            replica.state is State.SLEEPING and replica.live is not None and not replica.live.slept
        )

    @property
    def idle(self) -> bool:
        replica = self._replica
        if replica.state is State.SLEEPING:
            return not replica.waking
        return replica.is_idle and replica.live is not None and not self._residents.rests(replica.live)

    @property
    def pinned(self) -> bool:
        """Also while a service that requires it waits or works, or where none of its replicas may be spared."""
        service, state = self._replica.service, self._residents.state
        if service.spec.pinned or len(service.in_state(*HOLDING)) <= service.spec.min_replicas:
            return True
        return any(
            dependent.interest_since < math.inf or any(not r.is_idle for r in dependent.in_state(*HOLDING))
            for name in state.dependents.get(service.id, ())
            if (dependent := state.services.get(name)) is not None
        )

    @property
    def along(self) -> tuple[str, ...]:
        state = self._residents.state
        return tuple(
            replica.key
            for name in sorted(state.dependents.get(self.service, ()))
            if (dependent := state.services.get(name)) is not None
            for replica in dependent.in_state(State.READY)
        )

    @property
    def rungs(self) -> tuple[Rung, ...]:
        replica, residents = self._replica, self._residents
        service, live = replica.service, replica.live
        copies = len(service.in_state(State.READY)) or 1
        regret = residents.state.estimates.regret(service.id, residents.now) / copies
        if live is None or replica.state is not State.READY:
            return (Rung(0, Placement(), regret),)
        naps = [
            Rung(nap.level, asleep(live, nap), regret * _wake_share(replica, nap.level)) for nap in service.spec.naps
        ]
        return tuple(sorted((Rung(0, Placement(), regret), *naps), key=lambda rung: (rung.regret, -rung.level)))


def asleep(live: Live, nap: Nap) -> Placement:
    """What a replica keeps while it sleeps.

    Args:
        live: It, awake.
        nap: How deep it sleeps.
    """
    room = live.placement
    kept_mb = min(room.vram_mb, nap.keeps_mb)
    moved_mb = (room.vram_mb - kept_mb) * len(room.devices) if nap.moves else 0
    return Placement(room.devices, kept_mb, room.memory_mb + moved_mb, room.custom)


def _wake_share(replica: Replica, level: int) -> float:
    """What waking takes, against a load."""
    figures = replica.service.figures
    wake_s, load_s = figures.wake_s(level), figures.load_s
    if wake_s is None or not load_s:
        return WAKES.get(level, 1.0)
    return min(wake_s / load_s, 1.0)
