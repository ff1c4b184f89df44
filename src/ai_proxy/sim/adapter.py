"""The scheduler's core as a simulation drives it: the one file of `sim` that knows its state and its events.

It mirrors the driver of the real system: a request to a ready service is granted without a step of the core, and a
grant's end is told to the core only where it cares. No clock: every call brings the time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler import core
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.balance import choose
from ai_proxy.scheduler.figures import Figures
from ai_proxy.scheduler.ledger import Ledger
from ai_proxy.scheduler.lines import Waiter
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.scheduler.state import Live, SchedulerState
from ai_proxy.services.machine import Action, Event
from ai_proxy.sim.model import Fleet
from ai_proxy.sim.policies import Policy
from ai_proxy.sim.ranked import Ranked

HOST = "host memory"

USE_GAP_S = 1.0
"""As the real driver's: a request so long after the one before is a use of its service by itself."""


class Core:
    """The real core over a fleet that exists only on paper.

    Args:
        fleet: Devices and services.
        policy: A fixed rule of eviction, in place of the scheduler's own estimates.
    """

    def __init__(self, fleet: Fleet, policy: Policy | None = None) -> None:
        self._ranked = Ranked(policy, [spec.id for spec in fleet.specs]) if policy is not None else None
        self._conflicts = policy.conflicts if policy is not None else {}
        ledger = Ledger(fleet.devices, fleet.memory_mb, headroom_mb=fleet.headroom_mb, capacities=fleet.capacities)
        self._state = SchedulerState(ledger, fleet.settings, estimates=self._ranked)
        self._shows_memory = any(nap.moves for spec in fleet.specs for nap in spec.naps)
        self._waits_s = {spec.id: spec.max_wait_s for spec in fleet.specs}

    def __repr__(self) -> str:
        return f"<Core of {self._state!r}>"

    @property
    def next_timer(self) -> float:
        """When it wants a tick; infinity if never."""
        return self._state.timers.nearest

    def is_ready(self, service: str) -> bool:
        """A replica of the service takes requests, though perhaps not one more."""
        return service in self._state.ready

    def admit(self, service: str, now: float) -> Live | None:
        """Grant at once if a ready replica takes one more; the warm path."""
        if self._ranked is not None:
            self._ranked.came(service, now)
        live = self._state.ready.get(service)
        if live is None:
            return None
        if live.peers:
            live = choose(live.peers, None, self._state.random.random)
        if live.open >= live.limit:
            return None
        if not live.open and now - live.last_used > USE_GAP_S:
            self._state.estimates.used(service, now)
        live.open += 1
        return live

    def crowd(self, service: str, live: Live, now: float) -> Sequence[do.Action]:
        """A request was granted at once: another replica may be of use."""
        return core.step(self._state, now, do.Crowded(service)) if live.open > live.crowded_above else ()

    def close(self, service: str, live: Live, now: float) -> Sequence[do.Action]:
        """Give a grant back."""
        live.open -= 1
        live.last_used = now
        return core.step(self._state, now, do.Closed(service)) if core.cares(self._state, live) else ()

    def arrive(self, number: int, service: str, now: float) -> Sequence[do.Action]:
        """Have a request wait."""
        waiter = Waiter(number, service, now, now + self._waits_s[service])
        return core.step(self._state, now, do.Arrived(waiter))

    def report(self, replica: str, event: Event, now: float) -> Sequence[do.Action]:
        """Tell what came of an action."""
        instance = Instance(replica, service_of(replica), "127.0.0.1", 1) if event is Event.LAUNCHED else None
        return core.step(self._state, now, do.Reported(replica, event, instance))

    def tell_work(self, replica: str, now: float, *, busy: bool) -> Sequence[do.Action]:
        """Answer the core's question whether an engine works."""
        return core.step(self._state, now, do.WorkTold(replica, busy, now))

    def start(self, service: str, now: float) -> Sequence[do.Action]:
        """Have a service run though nobody asked for it yet."""
        return core.step(self._state, now, do.StartAsked(service))

    def configure(self, fleet: Fleet, now: float) -> Sequence[do.Action]:
        """Make the services known, and what their engines take as if it had been learned."""
        actions: list[do.Action] = []
        for spec in fleet.specs:
            engine = fleet.engines[spec.id]
            wakes_s = {nap.level: (engine.takes_s(Action.WAKE, nap.level),) for nap in spec.naps}
            seen = Figures(loads_s=(engine.ready_s,), stops_s=(engine.stop_s,), wakes_s=wakes_s)
            actions += core.step(self._state, now, do.Configured(self._ruled(spec)))
            actions += core.step(self._state, now, do.Recalled(spec.id, seen))
        return actions

    def tick(self, now: float) -> Sequence[do.Action]:
        """The time of `next_timer` has come."""
        return core.step(self._state, now, do.Tick())

    def evicted(self, replica: str, now: float) -> None:
        """A replica had to leave for another service."""
        if self._ranked is not None:
            self._ranked.left(service_of(replica), now)

    def _ruled(self, spec: ServiceSpec) -> ServiceSpec:
        """A policy may forbid services to be there together."""
        rivals = self._conflicts.get(spec.id)
        return replace(spec, conflicts=spec.conflicts | rivals) if rivals else spec

    def life(self, replica: str) -> Live | None:
        """The present life of a replica; none if its service is done with it."""
        known = self._state.replicas.get(replica)
        return None if known is None else known.live

    def rooms(self, replica: str) -> Mapping[str, int]:
        """What a replica holds, in MiB by device; of the host's memory only where sleepers go there."""
        if replica not in self._state.ledger:
            return {}
        placement = self._state.ledger.placement(replica)
        rooms = {device.id: min(placement.vram_mb, device.vram_mb) for device in placement.devices}
        return rooms | {HOST: placement.memory_mb} if self._shows_memory and placement.memory_mb else rooms


def service_of(replica: str) -> str:
    """The service that a replica belongs to.

    Example:
        >>> service_of("chat"), service_of("chat#2")
        ('chat', 'chat')
    """
    return replica.partition("#")[0]
