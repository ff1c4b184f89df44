"""The scheduler's core as a simulation drives it: the one file of `sim` that knows its state and its events.

It mirrors the driver of the real system: a request to a ready service is granted without a step of the core, and a
grant's end is told to the core only where it cares. No clock: every call brings the time.
"""

from collections.abc import Mapping, Sequence

from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler import core
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.ledger import Ledger
from ai_proxy.scheduler.state import Live, SchedulerState, Waiter
from ai_proxy.services.machine import Event
from ai_proxy.sim.model import Fleet

HOST = "host memory"


class Core:
    """The real core over a fleet that exists only on paper.

    Args:
        fleet: Devices and services.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._state = SchedulerState(Ledger(fleet.devices, fleet.memory_mb), fleet.settings)
        self._shows_memory = any(spec.demand.memory_mb for spec in fleet.specs)
        self._waits_s = {spec.id: spec.max_wait_s for spec in fleet.specs}

    def __repr__(self) -> str:
        return f"<Core of {self._state!r}>"

    @property
    def next_timer(self) -> float:
        """When it wants a tick; infinity if never."""
        return self._state.next_timer

    def is_ready(self, service: str) -> bool:
        """A replica of the service takes requests, though perhaps not one more."""
        return service in self._state.ready

    def admit(self, service: str) -> Live | None:
        """Grant at once if a ready replica takes one more; the warm path."""
        live = self._state.ready.get(service)
        if live is None or live.open >= live.limit:
            return None
        live.open += 1
        return live

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
        instance = Instance(replica, replica, "127.0.0.1", 1) if event is Event.LAUNCHED else None
        return core.step(self._state, now, do.Reported(replica, event, instance))

    def tell_work(self, replica: str, now: float, *, busy: bool) -> Sequence[do.Action]:
        """Answer the core's question whether an engine works."""
        return core.step(self._state, now, do.WorkTold(replica, busy, now))

    def start(self, service: str, now: float) -> Sequence[do.Action]:
        """Have a service run though nobody asked for it yet."""
        return core.step(self._state, now, do.StartAsked(service))

    def configure(self, fleet: Fleet, now: float) -> Sequence[do.Action]:
        """Make the services known."""
        return [action for spec in fleet.specs for action in core.step(self._state, now, do.Configured(spec))]

    def tick(self, now: float) -> Sequence[do.Action]:
        """The time of `next_timer` has come."""
        return core.step(self._state, now, do.Tick())

    def life(self, replica: str) -> Live | None:
        """The present life of a replica."""
        return self._state.replicas[replica].live

    def rooms(self, replica: str) -> Mapping[str, int]:
        """What a replica holds, in MiB by device."""
        placement = self._state.ledger.held.get(replica)
        if placement is None:
            return {}
        rooms = {device.id: min(placement.vram_mb, device.vram_mb) for device in placement.devices}
        return rooms | {HOST: placement.memory_mb} if self._shows_memory and placement.memory_mb else rooms


def service_of(replica: str) -> str:
    """The service that a replica belongs to.

    Example:
        >>> service_of("chat"), service_of("chat#2")
        ('chat', 'chat')
    """
    return replica.partition("#")[0]
