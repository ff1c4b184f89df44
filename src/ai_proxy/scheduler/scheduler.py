"""The driver of the core: the one owner of the fleet's state, and the gate of the data plane.

Every public method is one synchronous turn of the owner, on one event loop; only `admit` and `settled` wait. Decisions
are the core's: this file brings it events and the time, and carries its actions out. No locks.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count

from ai_proxy.errors import CannotServe
from ai_proxy.events import Decided, Event, EventBus, ServiceChanged
from ai_proxy.gate import RequestInfo
from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler import core
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.state import Live, Replica, SchedulerState, ServiceSpec, Settings, Waiter
from ai_proxy.services import machine
from ai_proxy.services.owner import Leftovers
from ai_proxy.services.service import Service
from ai_proxy.transport.origin import Origin


class OpenGrant:
    """The right to send one request to one replica."""

    __slots__ = ("_live", "_scheduler", "base_path", "origin", "request")

    def __init__(
        self, scheduler: "Scheduler", request: RequestInfo, live: Live, origin: Origin, base_path: bytes
    ) -> None:
        self.origin = origin
        self.base_path = base_path
        self.request = request
        self._scheduler = scheduler
        self._live: Live | None = live

    def __repr__(self) -> str:
        return f"<OpenGrant {self.request.id} on {self.origin}{'' if self._live else ', closed'}>"

    def close(self) -> None:
        """Give the right back; idempotent."""
        live, self._live = self._live, None
        if live is not None:
            self._scheduler._release(self, live)  # noqa: SLF001  # the two are one piece


class Scheduler:
    """Owns the fleet's state; implements `gate.Gate` and `services.service.Owner`.

    Args:
        state: What is known; nobody else writes to it.
        bus: Is told every move and every decision.
        clock: Monotonic seconds, the loop's.
        wall_clock: Unix seconds, for events.
        on_gone: Is told an origin that leads nowhere any more.
        quiet: Tells how long no exchange with an origin has moved a byte, in seconds.
    """

    def __init__(
        self,
        state: SchedulerState,
        bus: EventBus,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        on_gone: Callable[[Origin], None],
        quiet: Callable[[Origin], float],
    ) -> None:
        self.state = state
        self._bus = bus
        self._clock = clock
        self._wall_clock = wall_clock
        self._on_gone = on_gone
        self._quiet = quiet

        self._services: dict[str, Service] = {}
        self._doors: dict[str, tuple[Origin, bytes]] = {}
        self._generations = count(1)

        self._waiter_ids = count(1)
        self._waiting: dict[int, tuple[asyncio.Future[OpenGrant], RequestInfo]] = {}
        self._grants: dict[OpenGrant, None] = {}
        self._settling: dict[str, list[asyncio.Future[None]]] = {}

        self._inbox: deque[do.Event] = deque()
        self._stepping = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def __repr__(self) -> str:
        return f"<Scheduler {len(self._grants)} open, {len(self._waiting)} waiting: {self.state!r}>"

    # The gate

    def try_admit(self, request: RequestInfo) -> OpenGrant | None:
        """Grant at once if the service is ready and takes more; else None."""
        live = self.state.ready.get(request.service)
        if live is None or live.open >= live.limit:
            return None
        live.open += 1
        return self._grant(request, live)

    async def admit(self, request: RequestInfo) -> OpenGrant:
        """Grant as soon as the service is ready, starting it if need be.

        Raises:
            CannotServe: With the cause.
        """
        if (grant := self.try_admit(request)) is not None:
            return grant
        waiter = self._waiter(request)
        future: asyncio.Future[OpenGrant] = asyncio.get_running_loop().create_future()
        self._waiting[waiter.id] = (future, request)
        self._step(do.Arrived(waiter))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().close()
            else:
                self._step(do.Left(waiter))
            raise
        finally:
            self._waiting.pop(waiter.id, None)

    def requests(self) -> Iterable[tuple[RequestInfo, bool]]:
        """Every request in the house, and whether it has its grant."""
        yield from ((request, False) for _, request in self._waiting.values())
        yield from ((grant.request, True) for grant in self._grants)

    def _waiter(self, request: RequestInfo) -> Waiter:
        now = self._clock()
        replica = self.state.replicas.get(request.service)
        max_wait_s = request.max_wait_s
        if max_wait_s is None:
            max_wait_s = replica.spec.max_wait_s if replica is not None else 0.0
        return Waiter(next(self._waiter_ids), request.service, now, now + max_wait_s)

    def _grant(self, request: RequestInfo, live: Live) -> OpenGrant:
        origin, base_path = self._doors[request.service]
        grant = OpenGrant(self, request, live, origin, base_path)
        self._grants[grant] = None
        return grant

    def _release(self, grant: OpenGrant, live: Live) -> None:
        del self._grants[grant]
        live.open -= 1
        live.last_used = self._clock()
        if core.cares(self.state, grant.request.service, live):
            self._step(do.Closed(grant.request.service))

    # The owner of services

    def report(
        self,
        service: str,
        event: machine.Event,
        *,
        instance: Instance | None = None,
        failure: CannotServe | None = None,
        leftovers: Leftovers | None = None,  # noqa: ARG002  # the ledger frees what its holder gave up
    ) -> None:
        """Take what happened to a replica."""
        if instance is not None:
            origin = Origin(instance.scheme, instance.host, instance.port, next(self._generations))
            self._doors[service] = (origin, instance.base_path.encode())
        self._step(do.Reported(service, event, instance, failure))

    def report_unhealthy(self, service: str, failure: CannotServe) -> None:
        """Take that a ready replica no longer answers its health check."""
        self._step(do.Unhealthy(service, failure))

    def report_work(self, service: str, *, busy: bool, asked_at: float) -> None:
        """Take what an engine says of itself."""
        self._step(do.WorkTold(service, busy, asked_at))

    def quiet_s(self, service: str) -> float:
        """How long no exchange with the replica has moved a byte, in seconds; infinity if none is open."""
        live = self.state.replicas[service].live
        if live is None or not live.open:
            return math.inf
        return self._quiet(self._doors[service][0])

    # The control plane

    def replica(self, service: str) -> Replica | None:
        """What is known of a service; to be read, not kept."""
        return self.state.replicas.get(service)

    def service(self, service: str) -> Service | None:
        """The hands of a service."""
        return self._services.get(service)

    def add(self, service: Service, spec: ServiceSpec) -> None:
        """Take a new service under control."""
        self._services[service.id] = service
        self._step(do.Configured(spec))

    def configure(self, spec: ServiceSpec, *, replace: bool) -> None:
        """Use other settings; with `replace` what runs is drained and stopped."""
        self._step(do.Configured(spec, replace))

    def remove(self, service: str) -> None:
        """Drain, stop and forget a service."""
        self._step(do.Removed(service))

    def start(self, service: str) -> None:
        """Have a service run; idempotent."""
        self._step(do.StartAsked(service))

    def stop(self, service: str, reason: str, *, restart: bool = False) -> None:
        """Have a service stop once its open requests are done; idempotent."""
        self._step(do.StopAsked(service, reason, restart))

    def hold(self, service: str, failure: CannotServe | None = None) -> None:
        """Start nothing for a service until its runtime has told what runs."""
        self._step(do.Held(service, failure))

    def release(self, service: str) -> None:
        """The runtime of a service has told what runs."""
        self._step(do.Released(service))

    def tune(self, settings: Settings) -> None:
        """Treat those who wait, from now on, as other settings say."""
        self._step(do.Tuned(settings))

    async def settled(self, service: str) -> None:
        """Wait until a service has come to rest: stopped, ready, failed, or wanted of a runtime that does not answer.

        The caller sets the deadline.
        """
        if self._is_settled(service):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settling.setdefault(service, []).append(future)
        await future

    async def shut_down(self, keep: Iterable[str] = ()) -> None:
        """Admit nobody any more and stop everything but `keep`. The caller sets the deadline."""
        kept = frozenset(keep)
        self._step(do.ShutDown(kept))
        for service in [service for service in self._services if service not in kept]:
            await self.settled(service)
        await self.aclose()

    async def aclose(self) -> None:
        """End the timer and the services' tasks; replicas are left as they are."""
        if self._timer is not None:
            self._timer.cancel()
        for service in list(self._services.values()):
            await service.aclose()

    # Turns

    def _step(self, event: do.Event) -> None:
        """Take an event; one that comes while another is being carried out takes its turn after it."""
        self._inbox.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._inbox:
                for action in core.step(self.state, self._clock(), self._inbox.popleft()):
                    self._carry_out(action)
        finally:
            self._stepping = False
            self._set_timer()
        for service in [service for service in self._settling if self._is_settled(service)]:
            for future in self._settling.pop(service):
                if not future.done():
                    future.set_result(None)

    def _carry_out(self, action: do.Action) -> None:
        match action:
            case do.Run(service, work, placement):
                self._services[service].run(work, placement)
            case do.Ask(service):
                self._services[service].ask()
            case do.Admit(waiter, live):
                future, request = self._waiting.pop(waiter.id)
                grant = self._grant(request, live)
                if future.done():
                    grant.close()
                else:
                    future.set_result(grant)
            case do.Reject(waiter, error):
                future, _ = self._waiting.pop(waiter.id)
                if not future.done():
                    future.set_exception(error)
            case do.Moved(service, previous, state, reason, eviction):
                self._moved(service, state)
                self._publish(ServiceChanged(self._wall_clock(), service, state, previous, reason, eviction))
            case do.Explained(service, verdict, reason):
                self._publish(Decided(self._wall_clock(), service, verdict, reason))
            case do.Forgotten(service):
                self._services.pop(service)

    def _moved(self, service: str, state: machine.State) -> None:
        """A replica that stops leads nowhere: its idle connections go at once."""
        if state is machine.State.STOPPING and (door := self._doors.pop(service, None)) is not None:
            self._on_gone(door[0])

    def _publish(self, event: Event) -> None:
        self._bus.publish(event)

    def _is_settled(self, service: str) -> bool:
        replica = self.state.replicas.get(service)
        if replica is None or replica.state not in machine.SETTLED:
            return replica is None
        return replica.wanted_since is None or replica.blocked is not None

    def _set_timer(self) -> None:
        at = self.state.next_timer
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = None if at == math.inf else asyncio.get_running_loop().call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._step(do.Tick())
