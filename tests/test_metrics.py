"""What is counted, and how it reads when scraped."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ai_proxy.api.exposition import exposition
from ai_proxy.metrics import UNROUTED, DeviceUse, Ending, Eviction, Fleet, Histogram, KeyUse, Metrics


def samples(metrics: Metrics, fleet: Fleet | None = None) -> dict[tuple[str, ...], float]:
    """Each sample of a scrape, by its name and label values in the order of their names."""
    text = exposition(metrics, fleet or Fleet()).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_request_is_counted_by_status_class_ending_and_bytes() -> None:
    metrics = Metrics(["chat"])
    m = metrics.service("chat")
    m.responses[499 // 100] += 1
    m.endings[Ending.CLIENT_GONE] += 1
    m.received_bytes += 10
    m.sent_bytes += 20
    m.in_flight += 1

    read = samples(metrics)

    assert read["ai_proxy_requests_total", "4xx", "chat"] == 1
    assert read["ai_proxy_endings_total", "client_gone", "chat"] == 1
    assert read["ai_proxy_received_bytes_total", "chat"] == 10
    assert read["ai_proxy_sent_bytes_total", "chat"] == 20
    assert read["ai_proxy_requests_in_flight", "chat"] == 1


def test_histograms_are_cumulative_and_end_at_infinity() -> None:
    metrics = Metrics(["chat"])
    m = metrics.service("chat")
    m.endings[Ending.DONE] += 2
    m.ttfb.observe(0.005)
    m.ttfb.observe(9999)

    read = samples(metrics)

    assert read["ai_proxy_ttfb_seconds_bucket", "0.005", "chat"] == 1
    assert read["ai_proxy_ttfb_seconds_bucket", "600.0", "chat"] == 1
    assert read["ai_proxy_ttfb_seconds_bucket", "+Inf", "chat"] == 2
    assert read["ai_proxy_ttfb_seconds_count", "chat"] == 2
    assert read["ai_proxy_ttfb_seconds_sum", "chat"] == 9999.005


@given(st.lists(st.floats(0, 5000)))
def test_a_histogram_puts_every_value_under_the_first_bound_not_below_it(values: list[float]) -> None:
    histogram = Histogram((0.1, 1.0, 10.0))

    for value in values:
        histogram.observe(value)

    expected = [float(sum(value <= bound for value in values)) for bound in (0.1, 1.0, 10.0, float("inf"))]
    assert [count for _, count in histogram.buckets] == expected


def test_starts_waits_and_evictions_show_without_any_ended_request() -> None:
    metrics = Metrics(["chat"])
    m = metrics.service("chat")
    m.cold_start.observe(12)
    m.queue_wait.observe(12)
    m.start_failures += 1
    m.evictions[Eviction.ROOM] += 1

    read = samples(metrics)

    assert read["ai_proxy_cold_start_seconds_bucket", "20.0", "chat"] == 1
    assert read["ai_proxy_queue_wait_seconds_count", "chat"] == 1
    assert read["ai_proxy_start_failures_total", "chat"] == 1
    assert read["ai_proxy_evictions_total", "room", "chat"] == 1


def test_the_fleet_is_shown_as_it_is_at_the_scrape() -> None:
    fleet = Fleet(
        version="1.2.3",
        states={"chat": "ready", "tts": "stopped"},
        waiting={"tts": 3},
        grants={"chat": 4},
        devices=[DeviceUse("0", 1024, 512, free_mb=384, used_mb=256, foreign_mb=128), DeviceUse("host", 2048, 0)],
        connections={"idle": 2, "active": 1},
        log_lines_dropped=7,
        tasks=9,
    )

    read = samples(Metrics(), fleet)

    assert read["ai_proxy_build_info", "1.2.3"] == 1
    assert read["ai_proxy_service_state", "chat", "ready"] == 1
    assert read["ai_proxy_requests_waiting", "tts"] == 3
    assert read["ai_proxy_grants_open", "chat"] == 4
    assert read["ai_proxy_tasks",] == 9
    assert read["ai_proxy_device_reserved_bytes", "0"] == 512 * 1024 * 1024
    assert read["ai_proxy_device_free_bytes", "0"] == 384 * 1024 * 1024
    assert read["ai_proxy_device_used_bytes", "0"] == 256 * 1024 * 1024
    assert read["ai_proxy_device_foreign_bytes", "0"] == 128 * 1024 * 1024
    assert ("ai_proxy_device_used_bytes", "host") not in read
    assert read["ai_proxy_pool_connections", "idle"] == 2
    assert read["ai_proxy_log_lines_dropped_total",] == 7
    assert read["process_resident_memory_bytes",] > 0


def test_a_key_is_told_by_its_name_and_the_classes_of_its_answers() -> None:
    read = samples(Metrics(), Fleet(keys={"backend": KeyUse([0, 0, 5, 0, 2], in_flight=3)}))

    assert {key: value for key, value in read.items() if "_key_" in key[0]} == {
        ("ai_proxy_key_requests_total", "2xx", "backend"): 5,
        ("ai_proxy_key_requests_total", "4xx", "backend"): 2,
        ("ai_proxy_key_requests_in_flight", "backend"): 3,
    }


def test_unknown_ids_never_become_labels() -> None:
    metrics = Metrics(["chat"])
    for n in range(100):
        metrics.service(f"made-up-{n}").endings[Ending.REFUSED] += 1

    read = samples(metrics)

    assert read["ai_proxy_endings_total", "refused", UNROUTED] == 100
    assert not [key for key in read if "made-up" in "".join(key)]


def test_a_reload_keeps_the_counts_of_services_that_stay_and_forgets_the_others() -> None:
    metrics = Metrics(["chat", "old"])
    metrics.service("chat").endings[Ending.DONE] += 1
    metrics.service("old").endings[Ending.DONE] += 1

    metrics.configure(["chat", "new"])

    assert metrics.service("chat").endings[Ending.DONE] == 1
    assert metrics.service("old") is metrics.unrouted
    assert [service for service, _ in metrics] == ["chat", "new", UNROUTED]


def test_a_removed_service_is_counted_until_a_change_after_its_last_request() -> None:
    metrics = Metrics(["old"])
    metrics.service("old").in_flight += 1

    metrics.configure(["chat"])
    metrics.service("old").in_flight -= 1

    assert metrics.unrouted.in_flight == 0
    metrics.configure(["chat"])
    assert metrics.service("old") is metrics.unrouted


def test_services_that_nothing_happened_to_have_no_series() -> None:
    assert not [key for key in samples(Metrics(["chat"])) if "chat" in key]


def test_owners_show_themselves() -> None:
    metrics = Metrics(["chat"])
    m = metrics.service("chat")
    m.responses[2] += 1
    m.ttfb.observe(0.5)

    assert repr(metrics) == "<Metrics of 1 services>"
    assert repr(m) == "<ServiceMetrics 1 ended, 0 in flight>"
    assert repr(m.ttfb) == "<Histogram 1 observations, sum 0.500>"
