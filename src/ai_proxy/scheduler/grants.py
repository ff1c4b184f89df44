"""The grants that are open: who holds them, and an end for those that hold up a claim for too long."""

import asyncio
from collections.abc import Callable

from ai_proxy.gate import RequestInfo
from ai_proxy.scheduler.state import Live, SchedulerState
from ai_proxy.transport.origin import Origin

USE_GAP_S = 1.0
"""Requests closer to each other than this are one use of a service: what counts is when it is needed again."""


class OpenGrant:
    """The right to send one request to one replica; it is among the open ones from its making to its closing."""

    __slots__ = ("_grants", "_is_open", "base_path", "live", "origin", "request")

    def __init__(self, grants: "Grants", request: RequestInfo, live: Live, origin: Origin, base_path: bytes) -> None:
        self.origin = origin
        self.base_path = base_path
        self.request = request
        self.live = live
        self._grants = grants
        self._is_open = True
        grants.open[self] = None

    def __repr__(self) -> str:
        return f"<OpenGrant {self.request.id} on {self.origin}{'' if self._is_open else ', closed'}>"

    @property
    def start_s(self) -> float:
        """For how long its replica was being started, or woken up, while the request waited; in seconds."""
        ready_at = self.live.ready_at or 0.0
        return max(ready_at - max(self.live.placed_at, self.request.since), 0.0)

    def renew(self) -> bool:
        """Take the right again after it was given back, on the same replica and past any limit."""
        if not self._is_open and self._grants.reopens(self):
            self._is_open = True
            self._grants.open[self] = None
        return self._is_open

    def close(self) -> None:
        """Give the right back; idempotent."""
        grants = self._grants
        if self._is_open:
            self._is_open = False
            del grants.open[self]
            if grants.hurried and (timer := grants.hurried.pop(self, None)) is not None:
                timer.cancel()
            grants.on_close(self.live)


class Grants:
    """All grants that are open.

    Args:
        on_close: Is told the life of each that is given back.
        state: Who takes requests.
        clock: Monotonic seconds.

    Attributes:
        open: They, in the order in which they were given.
        hurried: Those with an end, and the timers of it.
    """

    def __init__(self, on_close: Callable[[Live], None], state: SchedulerState, clock: Callable[[], float]) -> None:
        self.open: dict[OpenGrant, None] = {}
        self.hurried: dict[OpenGrant, asyncio.TimerHandle] = {}
        self.on_close = on_close
        self._state = state
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Grants {len(self.open)} open, {len(self.hurried)} with an end>"

    def reopens(self, grant: OpenGrant) -> bool:
        """Count a grant in again, unless its replica takes nothing new any more.

        Whoever holds it has been on the replica all the time, so no limit can send it away, and its request is as old
        as what it asks for now.
        """
        live, request = grant.live, grant.request
        ready = self._state.ready.get(request.service)
        if ready is None or live not in (ready.peers or (ready,)):
            return False
        request.since = self._clock()
        if not live.open and request.since - live.last_used > USE_GAP_S:
            self._state.estimates.used(request.service, request.since)
        live.open += 1
        return True

    def hurry(self, live: Live, max_request_s: float) -> None:
        """Have each request on a replica end when it has lasted for as long as one may, if a claim still waits then.

        Args:
            live: Whose requests.
            max_request_s: How long one may last, from its arrival or from when the replica was ready.
        """
        loop = asyncio.get_running_loop()
        for grant in self.open:
            if grant.live is live and grant not in self.hurried:
                at = max(grant.request.since, live.ready_at or 0.0) + max_request_s
                self.hurried[grant] = loop.call_at(at, self._cut, grant)

    def close(self) -> None:
        """End the timers."""
        for timer in self.hurried.values():
            timer.cancel()
        self.hurried.clear()

    def _cut(self, grant: OpenGrant) -> None:
        self.hurried.pop(grant, None)
        if grant.live.drained_for is not None:
            grant.request.cancel()
