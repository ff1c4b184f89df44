"""What happens in the fleet, as frozen dataclasses, and the bus that carries it to whoever watches.

Publishing never waits: each subscriber has a bounded queue, and one that reads too slowly loses the oldest events
and is told how many. The bus knows nothing of who publishes or of how events are shown.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        at: Unix time in seconds.
    """

    kind: ClassVar[str] = "event"
    at: float


@dataclass(frozen=True, slots=True)
class ServiceChanged(Event):
    """A service moved to another state.

    Attributes:
        eviction: Why it has to leave for others, where that is so: `room`, `claim` or `idle`.
        for_service: The service that gets its room, where it leaves for one.
        level: How deep it sleeps, where it falls asleep.
        devices: Ids of the GPUs on which it has room from now on.
        vram_mb: What it has of each of them, in MiB.
    """

    kind = "service"
    service: str
    state: str
    previous: str
    reason: str
    eviction: str | None = None
    for_service: str | None = None
    level: int | None = None
    devices: tuple[str, ...] = ()
    vram_mb: int = 0


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """What a start is doing: a pull's percentage, the creation of a container."""

    kind = "progress"
    service: str
    text: str


@dataclass(frozen=True, slots=True)
class Decided(Event):
    """The scheduler decided something about a service that waits for room, and why."""

    kind = "decision"
    service: str
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class RequestWaited(Event):
    """A request has to wait for its service.

    Attributes:
        request: Its request id; clients choose it, so that two requests may have the same.
        since: Unix time at which it arrived, in seconds.
    """

    kind = "request_waits"
    request: str
    service: str
    since: float


@dataclass(frozen=True, slots=True)
class RequestAnswered(Event):
    """A request waits for its service no more.

    Attributes:
        request: Its request id.
        outcome: `admitted`, `left` if its client did, else the code of the error that it got.
        waited_s: How long it has waited, in seconds.
    """

    kind = "request_answered"
    request: str
    service: str
    outcome: str
    waited_s: float


@dataclass(frozen=True, slots=True)
class ConfigApplied(Event):
    """A changed config file is in force."""

    kind = "config"
    summary: str


@dataclass(frozen=True, slots=True)
class ConfigRefused(Event):
    """A changed config file is at fault; the former config stays in force."""

    kind = "config_refused"
    error: str


@dataclass(frozen=True, slots=True)
class RuntimeChanged(Event):
    """A runtime began or ceased to answer."""

    kind = "runtime"
    runtime: str
    available: bool
    reason: str


@dataclass(slots=True, eq=False)
class Subscription:
    """One watcher's bounded queue.

    Attributes:
        lost: Events dropped because this watcher was too slow.
    """

    _limit: int
    _queue: deque[Event] = field(default_factory=deque)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    lost: int = 0

    def __repr__(self) -> str:
        return f"<Subscription {len(self._queue)}/{self._limit} queued, {self.lost} lost>"

    def push(self, event: Event) -> None:
        """Queue an event, at the cost of the oldest if the queue is full."""
        if len(self._queue) >= self._limit:
            self._queue.popleft()
            self.lost += 1
        self._queue.append(event)
        self._arrived.set()

    async def next(self) -> Event:
        """Wait for the next event; the caller sets the deadline."""
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()


class EventBus:
    """Hands each event to all subscribers and to the plain listeners, in order."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._listeners: list[Callable[[Event], None]] = []

    def __repr__(self) -> str:
        return f"<EventBus {len(self._subscriptions)} subscribers>"

    def publish(self, event: Event) -> None:
        """Tell everyone; never waits, never raises for a slow subscriber."""
        for listener in self._listeners:
            listener(event)
        for subscription in self._subscriptions:
            subscription.push(event)

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with each event, synchronously, for as long as the bus lives."""
        self._listeners.append(listener)

    def open(self, limit: int = 256) -> Subscription:
        """Start a subscription that the caller closes with `close`."""
        subscription = Subscription(limit)
        self._subscriptions.add(subscription)
        return subscription

    def close(self, subscription: Subscription) -> None:
        """End a subscription; idempotent."""
        self._subscriptions.discard(subscription)
