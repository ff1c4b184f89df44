"""The grants that are open: who holds them, and an end for those that hold up a claim for too long."""

import asyncio
from collections.abc import Callable

from ai_proxy.gate import RequestInfo
from ai_proxy.scheduler.state import Live
from ai_proxy.transport.origin import Origin


class OpenGrant:
    """The right to send one request to one replica."""

    __slots__ = ("_grants", "base_path", "live", "origin", "request")

    def __init__(self, grants: "Grants", request: RequestInfo, live: Live, origin: Origin, base_path: bytes) -> None:
        self.origin = origin
        self.base_path = base_path
        self.request = request
        self.live = live
        self._grants: Grants | None = grants

    def __repr__(self) -> str:
        return f"<OpenGrant {self.request.id} on {self.origin}{'' if self._grants else ', closed'}>"

    def close(self) -> None:
        """Give the right back; idempotent."""
        grants, self._grants = self._grants, None
        if grants is not None:
            grants.take_back(self)


class Grants:
    """All grants that are open.

    Args:
        on_close: Is told the request and the life of each that is given back.
    """

    def __init__(self, on_close: Callable[[RequestInfo, Live], None]) -> None:
        self.open: dict[OpenGrant, None] = {}
        self._on_close = on_close
        self._hurried: dict[OpenGrant, asyncio.TimerHandle] = {}

    def __repr__(self) -> str:
        return f"<Grants {len(self.open)} open, {len(self._hurried)} with an end>"

    def give(self, request: RequestInfo, live: Live, origin: Origin, base_path: bytes) -> OpenGrant:
        """Give a right that is counted as open already."""
        grant = OpenGrant(self, request, live, origin, base_path)
        self.open[grant] = None
        return grant

    def take_back(self, grant: OpenGrant) -> None:
        """Take a right back."""
        del self.open[grant]
        if self._hurried and (timer := self._hurried.pop(grant, None)) is not None:
            timer.cancel()
        self._on_close(grant.request, grant.live)

    def hurry(self, live: Live, max_request_s: float) -> None:
        """Have each request on a replica end when it has lasted for as long as one may, if a claim still waits then.

        Args:
            live: Whose requests.
            max_request_s: How long one may last, from its arrival or from when the replica was ready.
        """
        loop = asyncio.get_running_loop()
        for grant in self.open:
            if grant.live is live and grant not in self._hurried:
                at = max(grant.request.since, live.ready_at or 0.0) + max_request_s
                self._hurried[grant] = loop.call_at(at, self._cut, grant)

    def close(self) -> None:
        """End the timers."""
        for timer in self._hurried.values():
            timer.cancel()
        self._hurried.clear()

    def _cut(self, grant: OpenGrant) -> None:
        self._hurried.pop(grant, None)
        if grant.live.drained_for is not None:
            grant.request.cancel()
