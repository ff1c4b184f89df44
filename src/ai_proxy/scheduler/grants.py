"""The grants that are open: who holds them, and an end for those that hold up a claim for too long."""

import asyncio
from collections.abc import Callable

from ai_proxy.gate import RequestInfo
from ai_proxy.scheduler.state import Live
from ai_proxy.transport.origin import Origin


class OpenGrant:
    """The right to send one request to one replica; it is among the open ones from its making to its closing."""

    __slots__ = ("_grants", "base_path", "live", "origin", "request")

    def __init__(self, grants: "Grants", request: RequestInfo, live: Live, origin: Origin, base_path: bytes) -> None:
        self.origin = origin
        self.base_path = base_path
        self.request = request
        self.live = live
        self._grants: Grants | None = grants
        grants.open[self] = None

    def __repr__(self) -> str:
        return f"<OpenGrant {self.request.id} on {self.origin}{'' if self._grants else ', closed'}>"

    @property
    def start_s(self) -> float:
        """For how long its replica was being started, or woken up, while the request waited; in seconds."""
        ready_at = self.live.ready_at or 0.0
        return max(ready_at - max(self.live.placed_at, self.request.since), 0.0)

    def close(self) -> None:
        """Give the right back; idempotent."""
        grants = self._grants
        if grants is not None:
            self._grants = None
            del grants.open[self]
            if grants.hurried and (timer := grants.hurried.pop(self, None)) is not None:
                timer.cancel()
            grants.on_close(self.live)


class Grants:
    """All grants that are open.

    Args:
        on_close: Is told the life of each that is given back.

    Attributes:
        open: They, in the order in which they were given.
        hurried: Those with an end, and the timers of it.
    """

    def __init__(self, on_close: Callable[[Live], None]) -> None:
        self.open: dict[OpenGrant, None] = {}
        self.hurried: dict[OpenGrant, asyncio.TimerHandle] = {}
        self.on_close = on_close

    def __repr__(self) -> str:
        return f"<Grants {len(self.open)} open, {len(self.hurried)} with an end>"

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
