"""What is counted, as plain attributes.

Owns the counters and histograms of one process. Counting takes no lock and no call: `m.in_flight += 1`. Values become
metric families only when they are scraped (`api/exposition.py`). Label values are bounded: configured service ids,
names of configured keys and the enums below. What others own (states, devices, pools, keys) comes in as a `Fleet`;
nothing here knows where from.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from typing import Final

LATENCY_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
START_BUCKETS_S: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0)

CLIENT_CLOSED_REQUEST: Final = 499
"""The status of requests whose client left before it was told one."""

UNROUTED: Final = "-"
"""The `service` of requests that no route took."""


class Ending(StrEnum):
    """Why an exchange ended."""

    DONE = "done"
    """The whole answer was relayed, whatever its status."""
    REFUSED = "refused"
    """The proxy answered with an error of its own."""
    CLIENT_GONE = "client_gone"
    """The client left first."""
    UPSTREAM_BROKE = "upstream_broke"
    """The replica failed after the answer had begun."""
    UPSTREAM_SLOW = "upstream_slow"
    """The replica let a deadline pass after the answer had begun."""
    CANCELLED = "cancelled"
    """An operator ended it, or the proxy is shutting down."""


class Eviction(StrEnum):
    """Why a replica had to leave though nothing was wrong with it."""

    ROOM = "room"
    """It was idle and another service needs its room."""
    CLAIM = "claim"
    """It was drained for a service that had waited too long."""
    IDLE = "idle"
    """Nobody used it for its idle timeout."""


class Histogram:
    """Counts of observations by upper bound, and their sum.

    Example:
        >>> histogram = Histogram((0.1, 1.0))
        >>> for value in (0.05, 0.1, 5.0):
        ...     histogram.observe(value)
        >>> histogram.counts, round(histogram.total, 2)
        ([2, 0, 1], 5.15)
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def __repr__(self) -> str:
        return f"<Histogram {sum(self.counts)} observations, sum {self.total:.3f}>"

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound, the last one `+Inf`."""
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


class ServiceMetrics:
    """What is counted for one service.

    Attributes:
        responses: Requests ended, by the hundreds of their status: `responses[status // 100] += 1`.
        endings: Requests ended, by why.
        in_flight: Requests between their head and their end.
        received_bytes: Body bytes taken from clients.
        sent_bytes: Body bytes sent to clients.
        ttfb: From a request's head to its answer's first byte, seconds.
        duration: From a request's head to its end, seconds.
        queue_wait: How long requests waited for a grant, seconds; those that did not wait are not in it.
        cold_start: From a cold service's first waiting request to its first grant, seconds.
        start_failures: Starts that failed.
        evictions: Replicas that had to leave, by why.
    """

    __slots__ = (
        "cold_start",
        "duration",
        "endings",
        "evictions",
        "in_flight",
        "queue_wait",
        "received_bytes",
        "responses",
        "sent_bytes",
        "start_failures",
        "ttfb",
    )

    def __init__(self) -> None:
        self.responses = [0] * 10
        self.endings = dict.fromkeys(Ending, 0)
        self.in_flight = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.ttfb = Histogram(LATENCY_BUCKETS_S)
        self.duration = Histogram(LATENCY_BUCKETS_S)
        self.queue_wait = Histogram(LATENCY_BUCKETS_S)
        self.cold_start = Histogram(START_BUCKETS_S)
        self.start_failures = 0
        self.evictions = dict.fromkeys(Eviction, 0)

    def __repr__(self) -> str:
        return f"<ServiceMetrics {sum(self.responses)} ended, {self.in_flight} in flight>"

    @property
    def is_used(self) -> bool:
        """Whether any request came."""
        return bool(self.in_flight) or any(self.responses) or any(self.endings.values())


class Metrics:
    """The counters of one process, by service.

    Args:
        services: Ids of the configured services.
    """

    def __init__(self, services: Iterable[str] = ()) -> None:
        self.unrouted = ServiceMetrics()
        self._services: dict[str, ServiceMetrics] = {}
        self.configure(services)

    def __repr__(self) -> str:
        return f"<Metrics of {len(self._services)} services>"

    def configure(self, services: Iterable[str]) -> None:
        """Count for these services, keeping what was counted for those that stay.

        A removed service is kept while it drains: its open requests still have to be counted out.
        """
        draining = {service: m for service, m in self._services.items() if m.in_flight}
        kept = {service: self._services.get(service) or ServiceMetrics() for service in services}
        self._services = draining | kept

    def service(self, service: str) -> ServiceMetrics:
        """The counters of one service; those of `unrouted` if it is not configured, so that labels stay bounded."""
        return self._services.get(service, self.unrouted)

    def __iter__(self) -> Iterator[tuple[str, ServiceMetrics]]:
        yield from self._services.items()
        yield UNROUTED, self.unrouted


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """One device's memory at the time of a scrape; None where nobody knows.

    Attributes:
        device: `gpu` and its id, or `memory` for the host's.
        capacity_mb: What there is for services.
        reserved_mb: What they have reserved.
        free_mb: What a start may have.
        used_mb: What is not free, whoever uses it.
        foreign_mb: Of that, what others use.
    """

    device: str
    capacity_mb: int
    reserved_mb: int
    free_mb: int | None = None
    used_mb: int | None = None
    foreign_mb: int | None = None


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What came with one key, at the time of a scrape.

    Attributes:
        responses: Requests ended, by the hundreds of their status.
        in_flight: Requests between their head and their end.
    """

    responses: Sequence[int]
    in_flight: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """What others own and a scrape shows.

    Attributes:
        version: Of the proxy.
        states: State of each service.
        waiting: Requests that wait, by service; zeros may be left out.
        grants: Open grants, by service; zeros may be left out.
        keys: What came with each key, by the key's name; unused ones may be left out.
        devices: Memory of each device; the host's is one of them.
        connections: Upstream connections by what they do: `idle`, `active`.
        log_lines_dropped: Log lines that found the buffer full.
        tasks: Live tasks of the event loop, the scrape's own among them.
    """

    version: str = ""
    states: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    grants: Mapping[str, int] = field(default_factory=dict)
    keys: Mapping[str, KeyUse] = field(default_factory=dict)
    devices: Sequence[DeviceUse] = ()
    connections: Mapping[str, int] = field(default_factory=dict)
    log_lines_dropped: int = 0
    tasks: int = 0
