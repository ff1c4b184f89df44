"""What the scheduler's core is told and what it asks for: the events and the actions of `core.step`.

Plain data. An event says what happened; an action says what the driver has to carry out, in the order given. What is
said of a replica carries its key: the service's id for the first, `id#1` and so on for the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ai_proxy.devices import Placement
from ai_proxy.errors import CannotServe
from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler.figures import Figures
from ai_proxy.scheduler.lines import Waiter
from ai_proxy.scheduler.measured import Measured
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.scheduler.state import Live, Settings
from ai_proxy.services import machine


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request needs a service that could not take it at once."""

    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Left:
    """A waiting request's client is gone."""

    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Closed:
    """A grant was closed, and the state may care (`core.cares`)."""

    service: str


@dataclass(frozen=True, slots=True)
class Crowded:
    """A ready service has more requests than its replicas should have."""

    service: str


@dataclass(frozen=True, slots=True)
class Reported:
    """What a replica's task found: an event of its machine.

    Attributes:
        leftovers: What a replica that is gone left behind on devices, in MiB by UUID.
    """

    replica: str
    event: machine.Event
    instance: Instance | None = None
    failure: CannotServe | None = None
    leftovers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unhealthy:
    """A ready replica no longer answers its health check."""

    replica: str
    failure: CannotServe


@dataclass(frozen=True, slots=True)
class WorkTold:
    """An engine told whether it works, asked at a time."""

    replica: str
    busy: bool
    asked_at: float


@dataclass(frozen=True, slots=True)
class StartAsked:
    """An operator, or a preload, wants the service to run."""

    service: str


@dataclass(frozen=True, slots=True)
class StopAsked:
    """An operator wants the service to stop: at once if idle, else when its open requests are done."""

    service: str
    reason: str
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Configured:
    """A service is new, or its settings changed.

    Attributes:
        replace: What runs was started from other settings: it drains, then stops.
    """

    spec: ServiceSpec
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Removed:
    """A service left the config: it drains, stops and is forgotten."""

    service: str


@dataclass(frozen=True, slots=True)
class Held:
    """A service's runtime has not told yet what runs; with a failure, requests need not wait for that."""

    service: str
    failure: CannotServe | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """A service's runtime has told what runs: the service may be started."""

    service: str


@dataclass(frozen=True, slots=True)
class Tuned:
    """What `scheduling:` in the config says has changed."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was measured of a service's former lives."""

    service: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class ShutDown:
    """The proxy ends: nobody is admitted any more, and all but `keep` are stopped."""

    keep: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tick:
    """The time of `timers.nearest` has come."""


type Event = (
    Arrived | Left | Closed | Crowded | Reported | Unhealthy | WorkTold | StartAsked | StopAsked
    | Configured | Removed | Held | Released | Tuned | Recalled | Measured | ShutDown | Tick
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """Carry out an action of a replica's machine; `level` is how deep it sleeps, where it is to sleep or to wake."""

    replica: str
    action: machine.Action
    placement: Placement
    level: int = 0


@dataclass(frozen=True, slots=True)
class Prepare:
    """Do what can be done for a start while its room is still held by others.

    Attributes:
        room: What is promised to it, as far as that is known.
    """

    replica: str
    room: Placement | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Have an engine tell at once whether it works: somebody needs its room."""

    replica: str


@dataclass(frozen=True, slots=True)
class Hurry:
    """A claim waits for what is open on a replica: none of it may last longer than `scheduling.max_request_s`."""

    replica: str


@dataclass(frozen=True, slots=True)
class Admit:
    """Give a waiter its grant; it is counted as open already."""

    waiter: Waiter
    live: Live


@dataclass(frozen=True, slots=True)
class Reject:
    """Tell a waiter that it won't be served."""

    waiter: Waiter
    error: CannotServe


class Eviction(StrEnum):
    """Why a replica has to leave though nothing is wrong with it."""

    ROOM = "room"
    CLAIM = "claim"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Moved:
    """A replica changed its state.

    Attributes:
        eviction: Why it has to leave, where nothing is wrong with it.
        beneficiary: The service that gets its room, where it leaves for one.
        level: How deep it sleeps, if it does.
    """

    replica: str
    service: str
    previous: machine.State
    state: machine.State
    reason: str
    eviction: Eviction | None = None
    beneficiary: str | None = None
    level: int = 0


@dataclass(frozen=True, slots=True)
class Explained:
    """The planner came to another verdict about a service that waits for room."""

    service: str
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A replica has stopped for good: its service was removed, or needs one less."""

    replica: str


type Action = Run | Prepare | Ask | Hurry | Admit | Reject | Moved | Explained | Forgotten
