"""What is counted, as plain attributes, and how it reads in Prometheus' text format.

Owns the counters and histograms of one process. Counting takes no lock and no call: `m.in_flight += 1`. Values become
metric families only when they are scraped. Label values are bounded: configured service ids and the enums below.
Gauges that others own (states, devices, pools) come in as a `Fleet`; nothing here knows where from.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

LATENCY_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
START_BUCKETS_S: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0)

UNROUTED: Final = "-"
"""The `service` of requests that no route took."""

MIB: Final = 1024 * 1024


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
class Fleet:
    """What others own and a scrape shows.

    Attributes:
        version: Of the proxy.
        states: State of each service.
        waiting: Requests that wait, by service; zeros may be left out.
        devices: Memory of each device; the host's is one of them.
        connections: Upstream connections by what they do: `idle`, `active`.
        log_lines_dropped: Log lines that found the buffer full.
    """

    version: str = ""
    states: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    devices: Sequence[DeviceUse] = ()
    connections: Mapping[str, int] = field(default_factory=dict)
    log_lines_dropped: int = 0


def exposition(metrics: Metrics, fleet: Fleet) -> bytes:
    """Write all values in Prometheus' text format.

    Example:
        >>> metrics = Metrics(["chat"])
        >>> metrics.service("chat").responses[200 // 100] += 1
        >>> text = exposition(metrics, Fleet(states={"chat": "ready"})).decode()
        >>> 'ai_proxy_requests_total{code="2xx",service="chat"} 1.0' in text
        True
        >>> 'ai_proxy_service_state{service="chat",state="ready"} 1.0' in text
        True
    """
    registry = CollectorRegistry()
    registry.register(_Scrape(metrics, fleet))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Scrape(Collector):
    """One reading of all values. What never happened has no series: a thousand idle services cost a scrape little."""

    def __init__(self, metrics: Metrics, fleet: Fleet) -> None:
        self._services = [(service, m) for service, m in metrics if m.is_used]
        self._metrics = metrics
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._starts()
        yield from self._gauges()
        yield from self._memory()

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "ai_proxy_requests", "Requests ended, by status class.", labels=["service", "code"]
        )
        endings = CounterMetricFamily("ai_proxy_endings", "Requests ended, by why.", labels=["service", "reason"])
        in_flight = GaugeMetricFamily("ai_proxy_requests_in_flight", "Requests being served.", labels=["service"])
        received = CounterMetricFamily("ai_proxy_received_bytes", "Body bytes from clients.", labels=["service"])
        sent = CounterMetricFamily("ai_proxy_sent_bytes", "Body bytes to clients.", labels=["service"])
        for service, m in self._services:
            for hundreds, count in enumerate(m.responses):
                if count:
                    requests.add_metric([service, f"{hundreds}xx"], count)
            for ending, count in m.endings.items():
                if count:
                    endings.add_metric([service, ending], count)
            in_flight.add_metric([service], m.in_flight)
            received.add_metric([service], m.received_bytes)
            sent.add_metric([service], m.sent_bytes)
        yield from (requests, endings, in_flight, received, sent)
        served = self._services
        yield _histograms("ai_proxy_ttfb_seconds", "To the answer's first byte.", [(s, m.ttfb) for s, m in served])
        yield _histograms("ai_proxy_request_seconds", "To the request's end.", [(s, m.duration) for s, m in served])

    def _starts(self) -> Iterator[Metric]:
        every = list(self._metrics)
        waits, starts = [(s, m.queue_wait) for s, m in every], [(s, m.cold_start) for s, m in every]
        yield _histograms("ai_proxy_queue_wait_seconds", "Requests' waits for a grant, where they waited.", waits)
        yield _histograms("ai_proxy_cold_start_seconds", "First waiting request to first grant.", starts)
        failures = CounterMetricFamily("ai_proxy_start_failures", "Starts that failed.", labels=["service"])
        evictions = CounterMetricFamily(
            "ai_proxy_evictions", "Replicas that had to leave, by why.", labels=["service", "reason"]
        )
        for service, m in every:
            if m.start_failures:
                failures.add_metric([service], m.start_failures)
            for reason, count in m.evictions.items():
                if count:
                    evictions.add_metric([service, reason], count)
        yield from (failures, evictions)

    def _gauges(self) -> Iterator[Metric]:
        fleet = self._fleet
        build = GaugeMetricFamily("ai_proxy_build_info", "Version of the proxy.", labels=["version"])
        build.add_metric([fleet.version], 1)
        state = GaugeMetricFamily(
            "ai_proxy_service_state", "1 for the state that it is in.", labels=["service", "state"]
        )
        for service, now in fleet.states.items():
            state.add_metric([service, now], 1)
        waiting = GaugeMetricFamily("ai_proxy_requests_waiting", "Requests that wait for a grant.", labels=["service"])
        for service, count in fleet.waiting.items():
            waiting.add_metric([service], count)
        connections = GaugeMetricFamily("ai_proxy_pool_connections", "Upstream connections.", labels=["state"])
        for doing, count in fleet.connections.items():
            connections.add_metric([doing], count)
        yield from (build, state, waiting, connections)
        yield CounterMetricFamily(
            "ai_proxy_log_lines_dropped", "Log lines that found the buffer full.", value=fleet.log_lines_dropped
        )

    def _memory(self) -> Iterator[Metric]:
        for kind in ("capacity", "reserved", "free", "used", "foreign"):
            family = GaugeMetricFamily(f"ai_proxy_device_{kind}_bytes", f"Memory: {kind}.", labels=["device"])
            for use in self._fleet.devices:
                if (size_mb := getattr(use, f"{kind}_mb")) is not None:
                    family.add_metric([use.device], size_mb * MIB)
            yield family


def _histograms(name: str, about: str, values: Iterable[tuple[str, Histogram]]) -> Metric:
    family = HistogramMetricFamily(name, about, labels=["service"])
    for service, histogram in values:
        if any(histogram.counts):
            family.add_metric([service], histogram.buckets, sum_value=histogram.total)
    return family
