"""What the scheduler knows.

The state is mutable and has one owner, the driver, whose synchronous turns are the only writers. Times are the
owner's clock in seconds (a loop's, or a simulator's); nothing here reads one.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from ai_proxy.devices import Placement
from ai_proxy.errors import CannotServe
from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler.estimates import Estimates, Estimator
from ai_proxy.scheduler.figures import Figures
from ai_proxy.scheduler.ledger import Ledger
from ai_proxy.scheduler.lines import Lines, Waiter
from ai_proxy.scheduler.spec import UNLIMITED, ServiceSpec
from ai_proxy.scheduler.timers import Timers
from ai_proxy.services.machine import State

BUSY_RETRY_S = 5.0
"""What `Retry-After` says where no better guess exists, seconds."""


@dataclass(slots=True, eq=False)
class Live:
    """One life of a replica, from its placement until it is gone.

    A grant belongs to a life, not to a service: one that outlives its replica counts for nothing any more.

    Attributes:
        replica: Whose life it is.
        placement: Its room while it is awake.
        limit: As many grants may be open.
        open: Grants taken and not closed: the replica is busy while there are any.
        crowded_above: With more open than this, the scheduler is told that another replica might help.
        peers: All ready replicas of the service, this one among them; empty where it is the only one.
        last_used: When the last grant was closed.
        placed_at: When its room was given to it: to start in, or to wake up in.
        ready_at: When it became ready; None before.
        busy: Its engine says that it works, whatever the grants say.
        rested_at: When its engine last said that it rests; what came later may have left work behind. Infinity for an
            engine that can't tell.
        asked: Its engine is being asked, until it says that it rests.
        idle_armed: A timer will look whether it has been idle for long enough.
        drained_for: The service whose claim drains it.
        level: How deep it sleeps, or falls asleep; 0: it is awake.
        slept: It has given its room back.
        keeps: What it holds on to while it sleeps.
    """

    replica: "Replica"
    placement: Placement
    limit: int
    placed_at: float = 0.0
    open: int = 0
    crowded_above: int = UNLIMITED
    peers: "tuple[Live, ...]" = ()
    last_used: float = 0.0
    ready_at: float | None = None
    busy: bool = False
    rested_at: float = math.inf
    asked: bool = False
    idle_armed: bool = True
    drained_for: str | None = None
    level: int = 0
    slept: bool = False
    keeps: Placement = field(default_factory=Placement)
    instance: Instance | None = None

    def __repr__(self) -> str:
        return f"<Live {self.replica.key}: {self.open} open>"

    @property
    def is_idle(self) -> bool:
        """Nothing is going on in it, as far as anybody can tell."""
        return not self.open and not self.busy and self.last_used <= self.rested_at

    @property
    def is_doubtful(self) -> bool:
        """Only its engine's word, old or wanting, keeps it from being idle."""
        return not self.open and not self.is_idle


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the planner said of a replica that waits for room, as long as nothing changes.

    Attributes:
        version: Of the state in which it was said.
        room: What is promised to it.
        until: Said anew then, though nothing changes.
    """

    version: int
    room: Placement | None
    until: float


@dataclass(slots=True, eq=False)
class Replica:
    """One copy of a service: its state, and its life if it has one.

    Attributes:
        service: Whose copy it is.
        number: Its number within the service, from 0.
        broken: Its life ended, or will end, in a failure.
        spare: It is started only where there is room, not for somebody who waits.
        prepared: Its start was prepared while it waits for room.
        prepared_for: The room for which it was.
        claims: It was planned for in vain, and drains what is in its way in the next step.
        waking: Somebody waits for it to wake up.
        outlook: What the planner last said, while it waits for room.
        key: Its name in the ledger and in all messages.

    Example:
        >>> from ai_proxy.scheduler.ledger import Demand
        >>> service = ServiceState(ServiceSpec("chat", Demand()))
        >>> Replica(service).key, Replica(service, 1).key
        ('chat', 'chat#1')
    """

    service: "ServiceState"
    number: int = 0
    state: State = State.STOPPED
    live: Live | None = None
    broken: bool = False
    spare: bool = False
    prepared: bool = False
    prepared_for: Placement | None = None
    claims: bool = False
    waking: bool = False
    outlook: Outlook | None = None
    key: str = field(init=False)

    def __post_init__(self) -> None:
        """Its key is written once: each grant looks it up."""
        self.key = f"{self.service.id}#{self.number}" if self.number else self.service.id

    def __repr__(self) -> str:
        return f"<Replica {self.key}: {self.state}{f', {self.live.open} open' if self.live else ''}>"

    @property
    def is_idle(self) -> bool:
        """It is ready, and neither a request nor a job is on it."""
        return self.state is State.READY and self.live is not None and self.live.is_idle

    @property
    def waits_for_room(self) -> bool:
        """It would start, or wake up, if there was room."""
        return self.state is State.QUEUED or self.waking


@dataclass(slots=True, eq=False)
class ServiceState:
    """A service: its replicas, and who waits for it.

    Attributes:
        replicas: Its replicas by number; number 0 is always among them.
        queue: Waiters for whose sake room is made, by id, oldest first.
        guests: Waiters that may not cause a start, by id, oldest first.
        lines: Both of them by class.
        wanted_since: Since when somebody wants it to run without sending a request (an operator, a preload).
        required_since: Since when a service that requires it waits; infinity if none does.
        required_urgency: The highest class of those who wait for such a service; -1 for none.
        figures: What was measured of its lives.
        failure: Why its last life broke.
        failures: How often in a row it broke.
        retry_at: Not started before this time.
        held: Not started at all for now: what its runtime runs is not known yet.
        blocked: Why nobody need wait for that: its runtime does not answer.
        parked: An operator stopped it: it is not kept running until somebody needs it again.
        removed: It left the config: it is forgotten as soon as it has stopped.
        verdict: What the planner last said about it.
        slack_since: Since when it has one replica more than it needs.
        is_sleepless: Its engine could not be put to sleep: it is stopped instead until its settings change.
    """

    spec: ServiceSpec
    replicas: list[Replica] = field(default_factory=list)
    queue: dict[int, Waiter] = field(default_factory=dict)
    guests: dict[int, Waiter] = field(default_factory=dict)
    lines: Lines = field(default_factory=Lines)
    wanted_since: float = math.inf
    required_since: float = math.inf
    required_urgency: int = -1
    figures: Figures = field(default_factory=Figures)
    failure: CannotServe | None = None
    failures: int = 0
    retry_at: float = 0.0
    held: bool = False
    blocked: CannotServe | None = None
    parked: bool = False
    removed: bool = False
    verdict: str = ""
    slack_since: float | None = None
    is_sleepless: bool = False

    def __post_init__(self) -> None:
        """Number 0 exists from the start, so that a service always has a state to show."""
        self.replicas.append(Replica(self))

    def __repr__(self) -> str:
        replicas = ", ".join(str(replica.state) for replica in self.replicas)
        return f"<ServiceState {self.id}: {replicas}, {self.waiting} waiting>"

    @property
    def id(self) -> str:
        """The service."""
        return self.spec.id

    @property
    def waiting(self) -> int:
        """How many requests wait for it."""
        return len(self.queue) + len(self.guests)

    @property
    def waiters(self) -> Iterator[Waiter]:
        """Everybody who waits for it."""
        yield from self.queue.values()
        yield from self.guests.values()

    @property
    def urgency(self) -> int:
        """The highest class of those who wait for it, or for one that requires it; -1 where no class was said."""
        return max(self.lines.urgency, self.required_urgency)

    @property
    def priority(self) -> int:
        """By which room is made for it: its own, or the class of somebody who waits, if that is higher."""
        return max(self.spec.priority, self.urgency)

    @property
    def interest_since(self) -> float:
        """Since when somebody waits for whose sake room is made; infinity if nobody does."""
        since = min(self.wanted_since, self.required_since)
        return min(since, next(iter(self.queue.values())).since) if self.queue else since

    @property
    def state(self) -> State:
        """The state of the replica that is nearest to serving."""
        return min((replica.state for replica in self.replicas), key=_NEARNESS.index)

    @property
    def live(self) -> Live | None:
        """The life of the replica that is nearest to serving."""
        return min(self.replicas, key=lambda replica: _NEARNESS.index(replica.state)).live

    def join(self, waiter: Waiter) -> None:
        """Take in one who waits."""
        (self.queue if waiter.may_swap else self.guests)[waiter.id] = waiter
        self.lines.join(waiter)

    def part(self, waiter: Waiter) -> bool:
        """Let one go who waited; False for one who did not."""
        self.lines.part(waiter)
        return (self.queue if waiter.may_swap else self.guests).pop(waiter.id, None) is not None

    def in_state(self, *states: State) -> list[Replica]:
        """Its replicas in one of some states."""
        return [replica for replica in self.replicas if replica.state in states]


_NEARNESS = (
    State.READY, State.LOADING, State.STARTING, State.QUEUED, State.SLEEPING, State.DRAINING, State.STOPPING,
    State.FAILED, State.STOPPED,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """What `scheduling:` in the config says."""

    claim_after_s: float = 30.0
    max_queue: int = 4000
    min_residency_s: float = 0.0
    max_request_s: float = 3600.0


class SchedulerState:
    """Everything the scheduler knows.

    Args:
        ledger: Capacities, and reservations as they are made.
        settings: Waiting and fairness.
        estimates: What evicting a service costs.
        seed: For the jitter of back-offs.

    Attributes:
        services: All services by id.
        replicas: All replicas by key.
        ready: The ready table: a life that takes new requests, by service; its peers where there are several. Empty
            once closing.
        waiting: How many requests wait, over all services.
        interested: Services somebody waits for, in the order in which that began.
        draining: Keys of the replicas in DRAINING.
        loading: Keys of the replicas in STARTING or LOADING.
        lost: UUIDs of devices that do not answer any more; nothing starts there.
        version: Counts what may change a plan.
        dependents: Services by the id of one that they require.
        opponents: Services by the id of one that they conflict with.
        timers: When each service is to be looked at; at the nearest, `core.step` wants a Tick.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings | None = None,
        *,
        estimates: Estimator | None = None,
        seed: int = 0,
    ) -> None:
        self.ledger = ledger
        self.settings = settings or Settings()
        self.estimates: Estimator = estimates or Estimates(sum(device.vram_mb for device in ledger.devices))
        self.random = random.Random(seed)  # noqa: S311  # spreads retries, guards nothing
        self.closing = False

        self.services: dict[str, ServiceState] = {}
        self.replicas: dict[str, Replica] = {}
        self.ready: dict[str, Live] = {}
        self.interested: dict[str, None] = {}
        self.draining: set[str] = set()
        self.loading: set[str] = set()
        self.lost: frozenset[str] = frozenset()
        self.version = 0
        self.dependents: dict[str, set[str]] = {}
        self.opponents: dict[str, set[str]] = {}
        self.waiting = 0

        self.timers = Timers()

    def __repr__(self) -> str:
        return f"<SchedulerState {len(self.services)} services, {len(self.ready)} ready, {self.waiting} waiting>"

    def conflicts_of(self, spec: ServiceSpec) -> frozenset[str]:
        """Services that may not hold room while one does, whichever of the two said so."""
        return spec.conflicts | self.opponents.get(spec.id, frozenset())
