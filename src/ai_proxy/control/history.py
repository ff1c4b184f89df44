"""What happened to each request that had to wait: when it came, what was decided meanwhile, how it ended.

It listens to the bus and keeps the last thousand or so; a request that was served at once never gets here. Must not
know how decisions are made: it repeats their reasons.
"""

from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum

from ai_proxy.events import Decided, Event, Progress, RequestAnswered, RequestWaited, ServiceChanged
from ai_proxy.runtimes.base import service_of
from ai_proxy.services.machine import State

ANSWERED = 1000
WAITING = 5000
STEPS = 64


class Kind(StrEnum):
    """What a step of a wait was."""

    STATE = "state"
    DECISION = "decision"
    EVICTION = "eviction"
    PROGRESS = "progress"


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened to a service while requests waited for it.

    Attributes:
        at: Unix time, seconds.
        kind: What it was.
        service: To whom it happened: another service than the one waited for where that one had to leave.
        text: In words.
    """

    at: float
    kind: Kind
    service: str
    text: str


@dataclass(slots=True, eq=False)
class Wait:
    """One request's wait.

    Attributes:
        request: Its request id.
        service: What it waited for.
        since: Unix time at which it came.
        before: Where its service was in its life when it came; None if nothing was known of it.
        seen: What happened to its service until it was answered, or until it was looked at; shared with others.
        outcome: How it ended, as `RequestAnswered` says it; None while it waits.
        waited_s: How long it waited; None while it does.
        answered_at: Unix time at which its wait ended; None before.
    """

    request: str
    service: str
    since: float
    before: Step | None
    seen: tuple[Step, ...] = ()
    outcome: str | None = None
    waited_s: float | None = None
    answered_at: float | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """What happened while it waited, oldest first; the latest steps where there were too many."""
        return tuple(step for step in self.seen if step.at >= self.since)


class _Story:
    """What happens to a service while somebody waits for it; shared by all who do.

    Attributes:
        waits: Who waits, by request id, oldest first.
    """

    def __init__(self) -> None:
        self.waits: dict[str, list[Wait]] = {}
        self._steps: deque[Step] = deque(maxlen=STEPS)
        self._all: tuple[Step, ...] | None = ()

    def __repr__(self) -> str:
        return f"<_Story of {len(self._steps)} steps for {len(self.waits)} requests>"

    def add(self, step: Step) -> None:
        """Take a step; of progress in a row only the latest is kept."""
        if step.kind is Kind.PROGRESS and self._steps and self._steps[-1].kind is Kind.PROGRESS:
            self._steps.pop()
        self._steps.append(step)
        self._all = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps; made once for all who are answered together."""
        if self._all is None:
            self._all = tuple(self._steps)
        return self._all


class History:
    """Remembers waits.

    Args:
        limit: Answered requests kept.
        max_waiting: Waiting ones; more than may wait at once never come.
    """

    def __init__(self, limit: int = ANSWERED, max_waiting: int = WAITING) -> None:
        self._limit = limit
        self._max_waiting = max_waiting
        self._stories: dict[str, _Story] = {}
        self._last: dict[str, Step] = {}
        self._waiting = 0
        self._answered: deque[Wait] = deque()
        self._by_request: dict[str, list[Wait]] = {}

    def __repr__(self) -> str:
        return f"<History {len(self._answered)} answered, {self._waiting} waiting>"

    def hear(self, event: Event) -> None:
        """Take what the bus carries."""
        match event:
            case RequestWaited(request=request, service=service, since=since):
                self._came(request, service, since)
            case RequestAnswered():
                self._went(event)
            case ServiceChanged():
                self._moved(event)
            case Decided(at=at, service=service, verdict=verdict, reason=reason):
                self._add(service, Step(at, Kind.DECISION, service, f"{verdict}: {reason}"))
            case Progress(at=at, service=service, text=text):
                self._add(service, Step(at, Kind.PROGRESS, service, text))

    def waits(self, request: str) -> list[Wait]:
        """What is known of the waits of a request id, the latest last: clients may use one twice."""
        found = self._by_request.get(request, [])
        for wait in found:
            if wait.outcome is None:
                wait.seen = self._stories[wait.service].steps
        return list(found)

    def _came(self, request: str, service: str, since: float) -> None:
        if self._waiting >= self._max_waiting:
            return
        wait = Wait(request, service, since, self._last.get(service))
        self._stories.setdefault(service, _Story()).waits.setdefault(request, []).append(wait)
        self._by_request.setdefault(request, []).append(wait)
        self._waiting += 1

    def _went(self, event: RequestAnswered) -> None:
        story = self._stories.get(event.service)
        if story is None or event.request not in story.waits:
            return
        same = story.waits[event.request]
        wait = same.pop(0)
        wait.seen, wait.outcome = story.steps, event.outcome
        wait.waited_s, wait.answered_at = event.waited_s, event.at
        if not same:
            del story.waits[event.request]
        if not story.waits:
            del self._stories[event.service]
        self._waiting -= 1
        self._answered.append(wait)
        if len(self._answered) > self._limit:
            self._forget(self._answered.popleft())

    def _forget(self, wait: Wait) -> None:
        same = self._by_request[wait.request]
        same.remove(wait)
        if not same:
            del self._by_request[wait.request]

    def _moved(self, event: ServiceChanged) -> None:
        step = Step(event.at, Kind.STATE, event.service, f"{event.previous} → {event.state}: {event.reason}")
        self._add(event.service, step)
        if event.state == State.STOPPED:
            self._last.pop(event.service, None)
        else:
            self._last[event.service] = step
        if event.for_service is not None:
            self._add(event.for_service, replace(step, kind=Kind.EVICTION))

    def _add(self, key: str, step: Step) -> None:
        if (story := self._stories.get(service_of(key))) is not None:
            story.add(step)
