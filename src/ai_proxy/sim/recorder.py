"""Notes what happens in a simulation, as little as the figures need.

It is told everything in order of time and decides nothing; `report.py` makes figures of its notes.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ai_proxy.errors import CannotServe
from ai_proxy.sim.spans import Delay, Phase, SpanBook


@dataclass(slots=True)
class _Cold:
    since: float
    ahead: int
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class ColdStart(Delay):
    """A wait for a service that was not ready.

    Attributes:
        ahead: How many other services were waited for when it began.
    """

    ahead: int = 0


@dataclass(slots=True, repr=False)
class Recorder:
    """The notes of one simulation.

    Attributes:
        requests: How many came.
        warm: How many of them were granted at once.
        waits_s: How long each of the others waited until it was granted.
        refused: How many got an error, by its code.
        reasons: The first message of each of these.
        finished: How many were served to their end.
        colds: Waits for services that were not ready.
        loads: How long each start took until its engine was ready; wakings are not among them.
        wakes: How long each waking took.
        sleeps: How often an engine was put to sleep.
        evictions: How often a replica had to leave, by reason.
        longest_exchange_s: From a grant to its end.
        longest_stop_s: Until a replica that was told to leave had given its room back.
        held_mb_s: Room times time, by device.
        busy_s: How long a request was open on some replica of the device, by device.
        book: What was held when, if that is wanted.
    """

    book: SpanBook | None = None
    requests: int = 0
    warm: int = 0
    waits_s: array[float] = field(default_factory=lambda: array("d"))
    refused: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    finished: int = 0
    colds: list[ColdStart] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    wakes: list[float] = field(default_factory=list)
    sleeps: int = 0
    evictions: Counter[str] = field(default_factory=Counter)
    longest_exchange_s: float = 0.0
    longest_stop_s: float = 0.0
    held_mb_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    busy_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    _cold: dict[str, _Cold] = field(default_factory=dict)
    _rooms: dict[str, tuple[float, Mapping[str, int]]] = field(default_factory=dict)
    _busy: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0, 0.0]))

    def __repr__(self) -> str:
        return f"<Recorder {self.requests} requests, {self.finished} finished, {len(self.colds)} cold starts>"

    # Requests

    def waits(self, service: str, now: float, *, ready: bool) -> None:
        """A request could not be granted at once."""
        if not ready and service not in self._cold:
            self._cold[service] = _Cold(now, len(self._cold))
        if service in self._cold:
            self._cold[service].waiting += 1

    def granted(self, service: str, since: float, now: float) -> None:
        """A request that waited got its grant."""
        self.waits_s.append(now - since)
        if (cold := self._cold.pop(service, None)) is not None:
            self.colds.append(ColdStart(service, cold.since, now, served=True, ahead=cold.ahead))

    def rejected(self, service: str, error: CannotServe, now: float) -> None:
        """A request got an error."""
        self.refused[error.code] += 1
        self.reasons.setdefault(error.code, error.message)
        cold = self._cold.get(service)
        if cold is None:
            return
        cold.waiting -= 1
        if not cold.waiting:
            del self._cold[service]
            self.colds.append(ColdStart(service, cold.since, now, served=False, ahead=cold.ahead))

    def closed(self, took_s: float) -> None:
        """A request was served to its end."""
        self.finished += 1
        self.longest_exchange_s = max(self.longest_exchange_s, took_s)

    # Replicas

    def holds(self, replica: str, phase: Phase | None, rooms: Mapping[str, int], now: float) -> None:
        """A replica does something else with its room, or holds another."""
        since, before = self._rooms.pop(replica, (now, {}))
        for device, mb in before.items():
            self.held_mb_s[device] += mb * (now - since)
        if phase is not None:
            self._rooms[replica] = (now, rooms)
        if self.book is not None:
            self.book.tell(replica, now, phase, rooms)

    def works(self, replica: str, devices: Iterable[str], now: float, *, busy: bool) -> None:
        """The first request on a replica begins, or the last one ends."""
        for device in devices:
            entry = self._busy[device]
            if busy:
                if not entry[0]:
                    entry[1] = now
                entry[0] += 1
            else:
                entry[0] -= 1
                if not entry[0]:
                    self.busy_s[device] += now - entry[1]
        if self.book is not None:
            self.book.tell(replica, now, Phase.BUSY if busy else Phase.IDLE)

    def end(self, now: float) -> None:
        """The simulation ends: what is still held, worked on and waited for counts up to now."""
        for replica, (_, rooms) in list(self._rooms.items()):
            since, _ = self._rooms.pop(replica)
            for device, mb in rooms.items():
                self.held_mb_s[device] += mb * (now - since)
        for device, (count, since) in self._busy.items():
            if count:
                self.busy_s[device] += now - since
        for service, cold in self._cold.items():
            self.colds.append(ColdStart(service, cold.since, now, served=False, ahead=cold.ahead))
        self._cold.clear()
