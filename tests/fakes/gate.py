"""A gate that does what it is told: it grants at once, makes requests wait, or refuses."""

import asyncio
from dataclasses import dataclass, field

from ai_proxy.errors import CannotServe, StartFailed
from ai_proxy.gate import RequestInfo
from ai_proxy.transport.origin import Origin


@dataclass
class FakeGrant:
    """A grant that counts."""

    gate: "FakeGate"
    request: RequestInfo
    origin: Origin
    base_path: bytes = b""
    start_s: float = 0.0
    closed: bool = False

    def renew(self) -> bool:
        if self.closed and self.gate.ready.get(self.request.service) == self.origin:
            self.closed = False
            self.gate.open.append(self)
            self.gate.renewed += 1
        return not self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.gate.open.remove(self)


@dataclass
class FakeGate:
    """A programmable gate.

    Attributes:
        ready: Services that grant at once, and where they answer.
        failing: Services that refuse, and with what.
        base_paths: What goes before the paths of a service.
        open: Grants that were given and not closed.
        granted: How many were given.
        renewed: How many were taken again.
        asked: What the last request asked for.
        start_s: How long replicas are said to have taken to start.
        waiting: Requests that wait; of each, what `serve` or `fail` sets.
        left: Requests that gave up waiting.
    """

    ready: dict[str, Origin] = field(default_factory=dict)
    failing: dict[str, CannotServe] = field(default_factory=dict)
    base_paths: dict[str, bytes] = field(default_factory=dict)
    open: list[FakeGrant] = field(default_factory=list)
    granted: int = 0
    renewed: int = 0
    asked: RequestInfo | None = None
    start_s: float = 0.0
    waiting: dict[str, asyncio.Future[Origin]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def try_admit(self, request: RequestInfo) -> FakeGrant | None:
        self.asked = request
        origin = self.ready.get(request.service)
        return None if origin is None else self._grant(request, origin)

    async def admit(self, request: RequestInfo) -> FakeGrant:
        if request.service in self.failing:
            raise self.failing[request.service]
        turn: asyncio.Future[Origin] = asyncio.get_running_loop().create_future()
        self.waiting[request.id] = turn
        try:
            origin = await turn
        except asyncio.CancelledError:
            self.left.append(request.id)
            raise
        finally:
            del self.waiting[request.id]
        return self._grant(request, origin)

    def serve(self, service: str, origin: Origin) -> None:
        """Make a service ready, and grant to all that wait."""
        self.ready[service] = origin
        for turn in self.waiting.values():
            turn.set_result(origin)

    def fail(self, reason: str) -> None:
        """Tell all that wait that the start failed."""
        for turn in self.waiting.values():
            turn.set_exception(StartFailed(reason, log_tail=("last words",)))

    def _grant(self, request: RequestInfo, origin: Origin) -> FakeGrant:
        grant = FakeGrant(self, request, origin, self.base_paths.get(request.service, b""), self.start_s)
        self.open.append(grant)
        self.granted += 1
        return grant
