"""What the scheduler's core is told and what it asks for: the events and the actions of `core.step`.

Plain data. An event says what happened; an action says what the driver has to carry out, in the order given.
"""

from dataclasses import dataclass
from enum import StrEnum

from ai_proxy.devices import Placement
from ai_proxy.errors import CannotServe
from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler.state import Live, ServiceSpec, Settings, Waiter
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
class Reported:
    """What a service's task found: an event of its machine."""

    service: str
    event: machine.Event
    instance: Instance | None = None
    failure: CannotServe | None = None


@dataclass(frozen=True, slots=True)
class Unhealthy:
    """A ready replica no longer answers its health check."""

    service: str
    failure: CannotServe


@dataclass(frozen=True, slots=True)
class WorkTold:
    """An engine told whether it works, asked at a time."""

    service: str
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
class ShutDown:
    """The proxy ends: nobody is admitted any more, and all but `keep` are stopped."""

    keep: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tick:
    """The time of `next_timer` has come."""


type Event = (
    Arrived | Left | Closed | Reported | Unhealthy | WorkTold | StartAsked | StopAsked
    | Configured | Removed | Held | Released | Tuned | ShutDown | Tick
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """Carry out an action of a service's machine."""

    service: str
    action: machine.Action
    placement: Placement


@dataclass(frozen=True, slots=True)
class Ask:
    """Have an engine tell at once whether it works: somebody needs its room."""

    service: str


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
    """A replica changed its state; `eviction` says so where it has to leave for others."""

    service: str
    previous: machine.State
    state: machine.State
    reason: str
    eviction: Eviction | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """The planner came to another verdict about a service that waits for room."""

    service: str
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A removed service has stopped; nothing is known of it any more."""

    service: str


type Action = Run | Ask | Admit | Reject | Moved | Explained | Forgotten
