"""A world in which starts, stops and exchanges take their time, for all that has to do with waiting."""

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from ai_proxy.devices import Device
from ai_proxy.errors import NoRoom
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.needs import requirements_of
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.scheduler.state import Live, ServiceState
from ai_proxy.services.machine import Action, State
from tests.scheduler.world import World

LONGEST_S, LOAD_S, STOP_S = 8.0, 3.0, 1.0

_TAKES_S = {
    Action.LAUNCH: LOAD_S / 3,
    Action.PROBE: LOAD_S * 2 / 3,
    Action.STOP: STOP_S,
    Action.SLEEP: STOP_S,
    Action.WAKE: LOAD_S / 2,
}


@dataclass(frozen=True, slots=True)
class Request:
    """One client: when it comes, for what, for how long it is served, and the rank of its class if it has one."""

    at: float
    service: str
    takes_s: float
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a request waited.

    Attributes:
        ahead: Starts that older waiters needed when its service could make its claim.
        starts: Starts that it needed itself.
    """

    service: str
    waited_s: float
    ahead: int
    starts: int
    priority: int | None = None


class Played(World):
    """Plays a trace of requests."""

    def __init__(self, devices: Iterable[Device], specs: Iterable[ServiceSpec], **settings: Any) -> None:
        self.waits: list[Wait] = []
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._ahead: dict[int, int] = {}
        self._takes_s: dict[int, float] = {}
        self._order = count()
        super().__init__(devices, specs, **settings)

    def play(self, requests: Iterable[Request]) -> list[Wait]:
        """Let everybody come and be served; the waits of all who had to."""
        for request in requests:
            self._at(self.now + request.at, partial(self._come, request))
        while self._agenda or self.waiting:
            timer, entry = self.state.timers.nearest, self._agenda[0][0] if self._agenda else math.inf
            self.advance(max(min(timer, entry) - self.now, 0.0))
            if entry <= timer:
                heapq.heappop(self._agenda)[2]()
        return self.waits

    def take(self, event: do.Event, *, cuts: bool = False) -> None:
        """Note, of everybody whose service may now claim room, what comes before."""
        for waiter in self.waiting.values():
            if waiter.id not in self._ahead and self.now >= waiter.since + self.state.settings.claim_after_s:
                self._ahead[waiter.id] = self._starts_before(waiter.since, waiter.service)
        super().take(event, cuts=cuts)

    def _starts_before(self, since: float, service: str) -> int:
        coming = {State.QUEUED, State.STARTING, State.LOADING, State.SLEEPING}
        older = (
            each
            for each in self.state.services.values()
            if each.id != service and each.state in coming and each.interest_since <= since
        )
        return sum(self._starts_of(each) for each in older)

    def _starts_of(self, service: ServiceState) -> int:
        return 1 + len(set(requirements_of(self.state, service)))

    def _at(self, moment: float, deed: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (moment, next(self._order), deed))

    def _come(self, request: Request) -> None:
        if self.ask(request.service):
            self._at(self.now + request.takes_s, partial(self._end, self.open[-1][1]))
        else:
            self._takes_s[self._count + 1] = request.takes_s
            self.arrive(request.service, max_wait_s=10_000.0, priority=request.priority)

    def _end(self, live: Live) -> None:
        self.close(next(index for index, (_, on) in enumerate(self.open) if on is live))

    def _carry_out(self, action: do.Action, *, cuts: bool) -> None:
        super()._carry_out(action, cuts=cuts)
        match action:
            case do.Run(key, work, _) if work in _TAKES_S:
                self._at(self.now + _TAKES_S[work], partial(self._finish, key, work))
            case do.Admit(waiter, live):
                starts = self._starts_of(self.state.services[waiter.service])
                waited_s = self.now - waiter.since
                self.waits.append(
                    Wait(waiter.service, waited_s, self._ahead.get(waiter.id, 0), starts, waiter.priority)
                )
                self._at(self.now + self._takes_s[waiter.id], partial(self._end, live))
            case do.Reject(waiter, error):
                assert isinstance(error, NoRoom), f"{waiter} was turned away: {error}"

    def _finish(self, key: str, work: Action) -> None:
        if self.work.get(key) is work:
            self.finish(key)
