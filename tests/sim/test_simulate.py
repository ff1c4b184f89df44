"""The simulation of whole traces: what is counted, and that nothing is lost or left to chance."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_proxy.scheduler.state import Settings
from ai_proxy.sim.simulate import simulate
from ai_proxy.sim.spans import Phase
from ai_proxy.sim.traces import GENERATORS, Request
from tests.sim.fleets import LOAD_S, STOP_S, fleet, trace


def test_a_cold_request_waits_for_the_load_and_a_warm_one_for_nothing() -> None:
    report = simulate(fleet(8_000), trace((5.0, "s0", 2.0), (20.0, "s0", 1.0))).report

    assert (report.requests, report.finished, report.unanswered) == (2, 2, 0)
    assert (report.cold_starts, report.cold_start_s) == (1, LOAD_S)
    assert (report.waits.count, report.waits.p50_s, report.waits.p99_s) == (1, 0.0, LOAD_S)
    assert (report.loads, report.load_s) == (1, LOAD_S)
    assert report.length_s == 21.0


def test_requests_that_come_while_it_loads_share_one_cold_start() -> None:
    report = simulate(fleet(8_000), trace((0.0, "s0", 2.0), (4.0, "s0", 2.0), (8.0, "s0", 2.0))).report

    assert (report.cold_starts, report.cold_start_s, report.loads) == (1, LOAD_S, 1)
    assert (report.waits.count, report.waits.longest_s) == (3, LOAD_S)


def test_making_room_takes_a_stop_and_is_counted_as_an_eviction() -> None:
    report = simulate(fleet(8_000, 8_000), trace((0.0, "s0", 1.0), (100.0, "s1", 1.0))).report

    assert report.evictions == {"room": 1}
    assert report.cold_start_s == LOAD_S + (STOP_S + LOAD_S)
    assert report.fairness.stop_s == STOP_S


def test_a_busy_replica_is_left_alone_until_the_claim_and_the_wait_keeps_to_the_bound() -> None:
    report = simulate(
        fleet(8_000, 8_000, settings=Settings(claim_after_s=5.0)),
        trace((0.0, "s0", 100.0), (20.0, "s1", 1.0)),
    ).report

    assert report.evictions == {"claim": 1}
    assert report.fairness.exchange_s == 100.0
    assert report.fairness.violations == 0
    assert report.unanswered == 0


def test_a_service_that_can_never_fit_is_refused_and_not_lost() -> None:
    report = simulate(fleet(8_000, 90_000), trace((0.0, "s1", 1.0), (1.0, "s0", 1.0))).report

    assert report.refused == {"no_room": 1}
    assert (report.finished, report.unanswered) == (1, 0)


def test_an_engine_without_a_free_slot_lets_requests_wait_inside() -> None:
    report = simulate(fleet(8_000, slots=1), trace((0.0, "s0", 5.0), (0.0, "s0", 5.0))).report

    assert report.length_s == LOAD_S + 10.0
    assert report.waits.longest_s == LOAD_S
    assert report.fairness.exchange_s == 10.0


def test_a_preloaded_service_is_ready_before_anybody_asks() -> None:
    report = simulate(fleet(8_000, preload=["s0"]), trace((60.0, "s0", 1.0))).report

    assert (report.loads, report.cold_starts, report.waits.count) == (1, 0, 0)


def test_use_of_a_device_is_told_as_room_held_and_time_with_a_request_open() -> None:
    (use,) = simulate(fleet(5_000), trace((0.0, "s0", 4.0), (16.0, "s0", 4.0))).report.devices

    assert use.held == pytest.approx(0.5)
    assert use.busy == pytest.approx(8.0 / 20.0)


def test_replicas_beside_each_other_count_a_device_as_busy_once() -> None:
    (use,) = simulate(fleet(5_000, 5_000), trace((0.0, "s0", 10.0), (0.0, "s1", 10.0))).report.devices

    assert use.held <= 1.0
    assert use.busy <= 1.0


@pytest.mark.parametrize(("gpu_mb", "loads"), [(10_000, 1), (16_000, 2)], ids=["no-room", "room"])
def test_a_crowd_has_another_replica_where_there_is_room_and_is_served_in_any_case(gpu_mb: int, loads: int) -> None:
    services = fleet(8_000, gpus_mb=(gpu_mb,), max_replicas=2, target_inflight=1)
    crowd = trace((0.0, "s0", 1.0), *((20.0 + number, "s0", 90.0) for number in range(4)), (200.0, "s0", 1.0))
    report = simulate(services, crowd).report

    assert (report.finished, report.loads) == (6, loads)


def test_what_was_recorded_covers_every_replicas_life() -> None:
    outcome = simulate(fleet(8_000, 8_000), trace((0.0, "s0", 2.0), (20.0, "s1", 1.0)), record=True)

    lives = {holder: [s.state for s in outcome.spans if s.holder == holder] for holder in ("s0", "s1")}
    assert lives["s0"] == [Phase.LOADING, Phase.BUSY, Phase.IDLE, Phase.STOPPING]
    assert lives["s1"] == [Phase.LOADING, Phase.BUSY]
    assert [(wait.service, wait.served) for wait in outcome.waits] == [("s0", True), ("s1", True)]


@pytest.mark.parametrize("generator", list(GENERATORS))
def test_the_same_trace_gives_the_same_figures(generator: str) -> None:
    services = fleet(4_000, 3_000, 6_000, 5_000)
    requests = GENERATORS[generator]([spec.id for spec in services.specs], 300.0, 0.2, 3)

    assert simulate(services, requests).report == simulate(services, requests).report


@settings(max_examples=25)
@given(
    sizes=st.lists(st.sampled_from((2_000, 5_000, 9_000, 12_000)), min_size=1, max_size=5),
    gpus=st.lists(st.sampled_from((6_000, 10_000)), min_size=1, max_size=2),
    asks=st.lists(st.tuples(st.floats(0, 300), st.integers(0, 4), st.floats(0, 90)), max_size=25),
    max_wait_s=st.sampled_from((5.0, 600.0)),
)
def test_every_request_is_answered_and_no_device_overfilled(
    sizes: list[int], gpus: list[int], asks: list[tuple[float, int, float]], max_wait_s: float
) -> None:
    services = fleet(*sizes, gpus_mb=gpus, max_wait_s=max_wait_s)
    requests = sorted(Request(at, f"s{index % len(sizes)}", work_s) for at, index, work_s in asks)

    outcome = simulate(services, requests, record=True)

    assert outcome.report.unanswered == 0
    assert outcome.report.finished + sum(outcome.report.refused.values()) == len(requests)
    for device in services.devices:
        changes = [(s.start_s, s.mb) for s in outcome.spans if s.device == device.id]
        changes += [(s.end_s, -s.mb) for s in outcome.spans if s.device == device.id]
        held = 0
        for _, mb in sorted(changes):
            held += mb
            assert held <= device.vram_mb
