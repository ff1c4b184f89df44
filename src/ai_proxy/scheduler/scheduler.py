"""The driver of the core: the one owner of the fleet's state, and the gate of the data plane.

Every public method is one synchronous turn of the owner, on one event loop; only `admit` and `settled` wait. Decisions
are the core's: this file brings it events and the time, and carries its actions out. No locks.
"""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from itertools import count

from ai_proxy.devices import Placement
from ai_proxy.errors import CannotServe
from ai_proxy.events import Decided, Event, EventBus, RequestAnswered, RequestWaited, ServiceChanged
from ai_proxy.gate import RequestInfo
from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler import core
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.balance import choose
from ai_proxy.scheduler.figures import Figures
from ai_proxy.scheduler.grants import USE_GAP_S, Grants, OpenGrant
from ai_proxy.scheduler.lines import Waiter
from ai_proxy.scheduler.measured import Measured
from ai_proxy.scheduler.place import consider
from ai_proxy.scheduler.planner import Plan
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.scheduler.state import Live, SchedulerState, ServiceState, Settings
from ai_proxy.services import machine
from ai_proxy.services.owner import Leftovers
from ai_proxy.services.service import Service
from ai_proxy.transport.origin import Origin


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

        self._makers: dict[str, Callable[[int], Service]] = {}
        self._hands: dict[str, Service] = {}
        self._doors: dict[str, tuple[Origin, bytes]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._generations = count(1)

        self._waiter_ids = count(1)
        self._waiting: dict[int, tuple[asyncio.Future[OpenGrant], RequestInfo]] = {}
        self._grants = Grants(self._closed, state, clock)
        self._settling: dict[str, list[asyncio.Future[None]]] = {}

        self._inbox: deque[do.Event] = deque()
        self._stepping = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def __repr__(self) -> str:
        return f"<Scheduler {len(self._grants.open)} open, {len(self._waiting)} waiting: {self.state!r}>"

    # The gate

    def try_admit(self, request: RequestInfo) -> OpenGrant | None:
        """Grant at once if the service is ready and takes more; else None."""
        live = self.state.ready.get(request.service)
        if live is None:
            return None
        if live.peers:
            live = choose(live.peers, request.affinity, self.state.random.random)
        if live.open >= live.limit:
            return None
        if not live.open and request.since - live.last_used > USE_GAP_S:
            self.state.estimates.used(request.service, self._clock())
        live.open += 1
        grant = self._grant(request, live)
        if live.open > live.crowded_above:
            self._step(do.Crowded(request.service))
        return grant

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
        arrived_at = self._wall_clock() - max(waiter.since - request.since, 0.0)
        self._publish(RequestWaited(self._wall_clock(), request.id, request.service, arrived_at))
        self._step(do.Arrived(waiter))
        outcome = "left"
        try:
            grant = await future
        except CannotServe as error:
            outcome = error.code
            raise
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().close()
            else:
                self._step(do.Left(waiter))
            raise
        else:
            outcome = "admitted"
            return grant
        finally:
            self._waiting.pop(waiter.id, None)
            waited_s = self._clock() - waiter.since
            self._publish(RequestAnswered(self._wall_clock(), request.id, request.service, outcome, waited_s))

    def requests(self) -> Iterable[tuple[RequestInfo, bool]]:
        """Every request in the house, and whether it has its grant."""
        yield from ((request, False) for _, request in self._waiting.values())
        yield from ((grant.request, True) for grant in self._grants.open)

    def open_grants(self) -> Mapping[str, int]:
        """How many grants of each service are open; zeros are left out."""
        return Counter(grant.request.service for grant in self._grants.open)

    def _waiter(self, request: RequestInfo) -> Waiter:
        now = self._clock()
        service = self.state.services.get(request.service)
        max_wait_s = service.spec.max_wait_s if service is not None else 0.0
        if request.max_wait_s is not None:
            max_wait_s = min(request.max_wait_s, max_wait_s)
        until, priority = now + max_wait_s, request.priority
        return Waiter(next(self._waiter_ids), request.service, now, until, request.may_swap, priority)

    def _grant(self, request: RequestInfo, live: Live) -> OpenGrant:
        origin, base_path = self._doors[live.replica.key]
        return OpenGrant(self._grants, request, live, origin, base_path)

    def _closed(self, live: Live) -> None:
        live.open -= 1
        live.last_used = self._clock()
        if core.cares(self.state, live):
            self._step(do.Closed(live.replica.service.id))

    # The owner of services

    def report(
        self,
        service: str,
        event: machine.Event,
        *,
        instance: Instance | None = None,
        failure: CannotServe | None = None,
        leftovers: Leftovers | None = None,
    ) -> None:
        """Take what happened to a replica; `service` is its key."""
        if instance is not None:
            generation = next(self._generations)
            tls, is_alive = instance.tls, instance.is_alive
            origin = Origin(instance.scheme, instance.host, instance.port, generation, tls=tls, is_alive=is_alive)
            self._doors[service] = (origin, instance.base_path.encode())
        left = leftovers.held_mb if leftovers is not None else {}
        self._step(do.Reported(service, event, instance, failure, left))

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

    def find(self, service: str) -> ServiceState | None:
        """What is known of a service; to be read, not kept."""
        return self.state.services.get(service)

    def hands(self, service: str) -> list[Service]:
        """The hands of a service's replicas, the first replica's first."""
        state = self.state.services.get(service)
        return [] if state is None else [self._hands[each.key] for each in state.replicas if each.key in self._hands]

    def hand(self, key: str) -> Service | None:
        """The hands of a replica, by its key."""
        return self._hands.get(key)

    def hands_of(self, service: str, number: int) -> Service:
        """The hands of one replica; they are made if there are none."""
        key = f"{service}#{number}" if number else service
        if key not in self._hands:
            self._hands[key] = self._makers[service](number)
        return self._hands[key]

    def add(self, spec: ServiceSpec, make: Callable[[int], Service]) -> None:
        """Take a new service under control.

        Args:
            spec: What is to be known of it.
            make: Makes the hands of its replica with a number.
        """
        self._makers[spec.id] = make
        self.hands_of(spec.id, 0)
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

    def recall(self, service: str, figures: Figures) -> None:
        """Go by what was measured of a service from now on."""
        self._step(do.Recalled(service, figures))

    def measured(self, event: Measured) -> None:
        """Take what the devices say of themselves."""
        self._step(event)

    def consider(self, service: str) -> Plan:
        """What would be done if a service was to start now."""
        return consider(self.state, self._clock(), self.state.services[service])

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
        for service in [service for service in self._makers if service not in kept]:
            await self.settled(service)
        await self.aclose()

    async def aclose(self) -> None:
        """End the timers and the services' tasks; replicas are left as they are."""
        if self._timer is not None:
            self._timer.cancel()
        self._grants.close()
        for hands in list(self._hands.values()):
            await hands.aclose()
        if self._closing:
            await asyncio.wait(self._closing)

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

    def _carry_out(self, action: do.Action) -> None:  # noqa: C901, PLR0912  # a flat dispatch, one case an action
        match action:
            case do.Run(key, work, placement, level):
                replica = self.state.replicas[key]
                self.hands_of(replica.service.id, replica.number).run(work, placement, level)
            case do.Prepare(key, room):
                replica = self.state.replicas[key]
                self.hands_of(replica.service.id, replica.number).prepare(room)
            case do.Ask(key):
                self._hands[key].ask()
            case do.Hurry(key):
                if (hurried := self.state.replicas[key].live) is not None:
                    self._grants.hurry(hurried, self.state.settings.max_request_s)
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
            case do.Moved():
                self._moved(action)
            case do.Explained(service, verdict, reason):
                self._publish(Decided(self._wall_clock(), service, verdict, reason))
            case do.Forgotten(key):
                self._forget(key)

    def _moved(self, move: do.Moved) -> None:
        """A replica that stops leads nowhere: its idle connections go at once."""
        if move.state is machine.State.STOPPING and (door := self._doors.pop(move.replica, None)) is not None:
            self._on_gone(door[0])
        unwanted = move.state is machine.State.STOPPED and move.previous is machine.State.QUEUED
        if unwanted and (hands := self.hand(move.replica)) is not None:
            hands.call_off()
        key, now, ledger = move.replica, self._wall_clock(), self.state.ledger
        room = ledger.placement(key) if key in ledger else Placement()
        devices = tuple(device.id for device in room.devices)
        why = (move.reason, move.eviction, move.beneficiary)
        self._publish(ServiceChanged(now, key, move.state, move.previous, *why, move.level, devices, room.vram_mb))

    def _forget(self, key: str) -> None:
        """A replica's hands have nothing left to do; a service that is gone needs no more of them."""
        hands = self._hands.pop(key, None)
        if hands is None:
            return  # there was no room for it, so that it never had work to do
        closing = asyncio.create_task(hands.aclose(), name=f"{key}: close")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        if hands.id not in self.state.services:
            self._makers.pop(hands.id, None)

    def _publish(self, event: Event) -> None:
        self._bus.publish(event)

    def _is_settled(self, service: str) -> bool:
        state = self.state.services.get(service)
        if state is None:
            return True
        if any(replica.state not in machine.SETTLED for replica in state.replicas):
            return state.id in self.state.ready and state.wanted_since == math.inf
        return state.wanted_since == math.inf or state.blocked is not None

    def _set_timer(self) -> None:
        at = self.state.timers.nearest
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = None if at == math.inf else asyncio.get_running_loop().call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._step(do.Tick())
