"""What the scheduler knows.

The state is mutable and has one owner, the driver, whose synchronous turns are the only writers. Times are the
owner's clock in seconds (a loop's, or a simulator's); nothing here reads one.
"""

import heapq
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from ai_proxy.devices import Placement
from ai_proxy.errors import CannotServe
from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler.ledger import Demand, Ledger
from ai_proxy.services import machine

UNLIMITED = 1 << 62
_SPARE_TIMERS = 64

BUSY_RETRY_S = 5.0
"""What `Retry-After` says where no better guess exists, seconds."""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What the scheduler needs to know of a service's config.

    Attributes:
        id: The service.
        demand: What it needs to run.
        max_in_flight: Requests on a replica at once.
        max_queue: Requests that may wait for it; 0: it is used only when it is ready.
        max_wait_s: How long a request may wait for it.
        idle_timeout_s: Stopped after this long without a request; None: only when its room is needed.
        pinned: Never evicted, never stopped for being idle.
        tells_work: Its engine can be asked whether it works, and may work though no request is open.
    """

    id: str
    demand: Demand
    max_in_flight: int = UNLIMITED
    max_queue: int = 1000
    max_wait_s: float = 600.0
    idle_timeout_s: float | None = None
    pinned: bool = False
    tells_work: bool = False


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request that waits for its service."""

    id: int
    service: str
    since: float
    deadline: float


@dataclass(slots=True, eq=False)
class Live:
    """One life of a replica, from its placement until it is gone.

    A grant belongs to a life, not to a service: one that outlives its replica counts for nothing any more.

    Attributes:
        open: Grants taken and not closed: the replica is busy while there are any.
        limit: As many may be open.
        last_used: When the last grant was closed.
        ready_at: When it became ready; None before.
        busy: Its engine says that it works, whatever the grants say.
        rested_at: When its engine last said that it rests; what came later may have left work behind. Infinity for an
            engine that can't tell.
        asked: Its engine is being asked, until it says that it rests.
        idle_armed: A timer will look whether it has been idle for long enough.
        drained_for: The service whose claim drains it.
    """

    placement: Placement
    limit: int
    open: int = 0
    last_used: float = 0.0
    ready_at: float | None = None
    busy: bool = False
    rested_at: float = math.inf
    asked: bool = False
    idle_armed: bool = True
    drained_for: str | None = None
    instance: Instance | None = None

    @property
    def is_idle(self) -> bool:
        """Nothing is going on in it, as far as anybody can tell."""
        return not self.open and not self.busy and self.last_used <= self.rested_at

    @property
    def is_doubtful(self) -> bool:
        """Only its engine's word, old or wanting, keeps it from being idle."""
        return not self.open and not self.is_idle


@dataclass(slots=True, eq=False)
class Replica:
    """A service's replica: its state, its life if it has one, and who waits for it.

    Attributes:
        queue: Waiters by id, oldest first.
        wanted_since: Since when somebody wants it to run without sending a request (an operator, a preload).
        failure: Why its last life broke.
        failures: How often in a row it broke.
        retry_at: Not started before this time.
        held: Not started at all for now: what its runtime runs is not known yet.
        blocked: Why nobody need wait for that: its runtime does not answer.
        broken: Its life ended, or will end, in a failure.
        removed: It left the config: it is forgotten as soon as it has stopped.
        verdict: What the planner last said about it.
        look_at: When it will be looked at next.
    """

    spec: ServiceSpec
    state: machine.State = machine.State.STOPPED
    live: Live | None = None
    queue: dict[int, Waiter] = field(default_factory=dict)
    wanted_since: float | None = None
    failure: CannotServe | None = None
    failures: int = 0
    retry_at: float = 0.0
    held: bool = False
    blocked: CannotServe | None = None
    broken: bool = False
    removed: bool = False
    verdict: str = ""
    look_at: float = math.inf

    def __repr__(self) -> str:
        held = f", {self.live.open} open" if self.live else ""
        return f"<Replica {self.spec.id}: {self.state}{held}, {len(self.queue)} waiting>"

    @property
    def interest_since(self) -> float:
        """Since when somebody waits for it; infinity if nobody does."""
        oldest = next(iter(self.queue.values())).since if self.queue else math.inf
        return oldest if self.wanted_since is None else min(oldest, self.wanted_since)

    @property
    def is_idle(self) -> bool:
        """It is ready, and neither a request nor a job is on it."""
        return self.state is machine.State.READY and self.live is not None and self.live.is_idle


@dataclass(frozen=True, slots=True)
class Settings:
    """What `scheduling:` in the config says."""

    claim_after_s: float = 30.0
    max_queue: int = 4000


class SchedulerState:
    """Everything the scheduler knows.

    Args:
        ledger: Capacities, and reservations as they are made.
        settings: Waiting and fairness.
        seed: For the jitter of back-offs.

    Attributes:
        ready: The ready table: the life of each replica that takes new requests, by service; empty once closing.
        waiting: How many requests wait, over all services.
        interested: Services somebody waits for, in the order in which that began.
        draining: Services in DRAINING.
    """

    def __init__(self, ledger: Ledger, settings: Settings | None = None, *, seed: int = 0) -> None:
        self.ledger = ledger
        self.settings = settings or Settings()
        self.random = random.Random(seed)  # noqa: S311  # spreads retries, guards nothing
        self.closing = False

        self.replicas: dict[str, Replica] = {}
        self.ready: dict[str, Live] = {}
        self.interested: dict[str, None] = {}
        self.draining: set[str] = set()
        self.waiting = 0

        self._timers: list[tuple[float, int, str]] = []
        self._timer_count = 0

    def __repr__(self) -> str:
        return f"<SchedulerState {len(self.replicas)} services, {len(self.ready)} ready, {self.waiting} waiting>"

    @property
    def next_timer(self) -> float:
        """When `core.step` wants a Tick; infinity if never."""
        return self._timers[0][0] if self._timers else math.inf

    def arm(self, at: float, service: str) -> None:
        """Have a service looked at no later than `at`; a no-op if it will be anyway."""
        replica = self.replicas[service]
        if at < replica.look_at:
            replica.look_at = at
            self._timer_count += 1
            heapq.heappush(self._timers, (at, self._timer_count, service))
            if len(self._timers) > 2 * len(self.replicas) + _SPARE_TIMERS:
                self._drop_stale_timers()

    def due(self, now: float) -> Iterable[Replica]:
        """Take the replicas whose time to be looked at has come."""
        while self._timers and self._timers[0][0] <= now:
            at, _, service = heapq.heappop(self._timers)
            replica = self.replicas.get(service)
            if replica is not None and replica.look_at == at:
                replica.look_at = math.inf
                yield replica

    def _drop_stale_timers(self) -> None:
        """Keep what will still be looked at: a replica's time is often moved forward long before the old one comes."""
        looks = {replica.spec.id: replica.look_at for replica in self.replicas.values()}
        self._timers = [timer for timer in self._timers if looks.get(timer[2]) == timer[0]]
        heapq.heapify(self._timers)
