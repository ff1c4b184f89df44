"""How what is counted reads in Prometheus' text format.

Values become metric families only when they are scraped. Knows no plane and no HTTP: it is called in a thread, and
imported with the first scrape.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ai_proxy.metrics import Fleet, Histogram, Metrics

MIB: Final = 1024 * 1024


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
        yield from self._keys()
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

    def _keys(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "ai_proxy_key_requests", "Requests ended, by the key's name and status class.", labels=["key", "code"]
        )
        in_flight = GaugeMetricFamily(
            "ai_proxy_key_requests_in_flight", "Requests being served, by the key's name.", labels=["key"]
        )
        for key, use in self._fleet.keys.items():
            for hundreds, count in enumerate(use.responses):
                if count:
                    requests.add_metric([key, f"{hundreds}xx"], count)
            in_flight.add_metric([key], use.in_flight)
        yield from (requests, in_flight)

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
        grants = GaugeMetricFamily("ai_proxy_grants_open", "Requests that hold a replica.", labels=["service"])
        for service, count in fleet.grants.items():
            grants.add_metric([service], count)
        connections = GaugeMetricFamily("ai_proxy_pool_connections", "Upstream connections.", labels=["state"])
        for doing, count in fleet.connections.items():
            connections.add_metric([doing], count)
        yield from (build, state, waiting, grants, connections)
        yield GaugeMetricFamily("ai_proxy_tasks", "Live tasks of the event loop.", value=fleet.tasks)
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
