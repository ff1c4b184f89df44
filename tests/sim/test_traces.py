"""Traces are drawn from a seed, or read from a file whose faults are named by line."""

import gzip
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest

from ai_proxy.sim.recorded import BadTrace, read_rows, read_trace
from ai_proxy.sim.traces import DAY_S, GENERATORS, bursty, chains, diurnal, poisson, sessions, zipf

FLEET = [f"s{number}" for number in range(12)]


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_a_trace_is_a_function_of_its_seed(name: str) -> None:
    generate = GENERATORS[name]

    assert generate(FLEET, 20_000, 0.05, 3) == generate(FLEET, 20_000, 0.05, 3)
    assert generate(FLEET, 20_000, 0.05, 3) != generate(FLEET, 20_000, 0.05, 4)


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_a_trace_is_in_order_of_time_within_its_length_and_has_the_rate_asked_for(name: str) -> None:
    traces = [GENERATORS[name](FLEET, DAY_S, 0.02, seed) for seed in range(3)]

    for trace in traces:
        assert all(earlier.at <= later.at for earlier, later in pairwise(trace))
        assert all(0 <= request.at < DAY_S and request.service_time_s > 0 for request in trace)
        assert {request.service for request in trace} <= set(FLEET)
    assert fmean(len(trace) for trace in traces) == pytest.approx(0.02 * DAY_S, rel=0.3)


def test_popularity_falls_with_the_exponent() -> None:
    flat = Counter(request.service for request in zipf(FLEET, 50_000, 0.1, 1, exponent=0.0))
    steep = Counter(request.service for request in zipf(FLEET, 50_000, 0.1, 1, exponent=2.0))

    assert max(flat.values()) < 2 * min(flat[service] for service in FLEET)
    assert max(steep.values()) > steep.total() / 2


def test_requests_of_a_burst_stand_close_together() -> None:
    def repeats(trace: list[str]) -> float:
        return sum(a == b for a, b in pairwise(trace)) / len(trace)

    calm = [request.service for request in poisson(FLEET, DAY_S, 0.01, 5)]
    burst = [request.service for request in bursty(FLEET, DAY_S, 0.01, 5)]

    assert repeats(burst) > 2 * repeats(calm)


def test_each_service_has_its_hour() -> None:
    trace = diurnal(["one"], 10 * DAY_S, 0.01, 2, sharpness=6.0)

    by_hour = Counter(int(request.at % DAY_S // 3600) for request in trace)
    assert sum(count for _, count in by_hour.most_common(8)) > 0.9 * by_hour.total()


def test_a_step_of_a_chain_is_followed_by_the_next() -> None:
    trace = chains(FLEET, DAY_S, 0.001, 2, lag_s=1.0)

    following = Counter((a.service, b.service) for a, b in pairwise(trace) if b.at - a.at < 60)
    likely = sum(count for _, count in following.most_common(len(FLEET)))
    assert likely > 0.8 * following.total()


def test_a_session_stays_on_its_service() -> None:
    arrivals = [(float(at), 1.0) for at in range(2_000)]

    trace = sessions(arrivals, FLEET, 1, length=50, concurrent=1)

    assert [request.at for request in trace] == [at for at, _ in arrivals]
    assert sum(a.service != b.service for a, b in pairwise(trace)) < 2_000 / 50 * 1.5


def test_a_csv_with_services_is_read_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("at,service,duration\n10,b,2.5\n4,a,1\n")

    trace = read_trace(path, stretch=2.0)

    assert [(r.at, r.service, r.service_time_s) for r in trace] == [(0.0, "a", 1.0), (12.0, "b", 2.5)]


def test_rows_without_services_become_sessions_and_tokens_become_seconds(tmp_path: Path) -> None:
    path = tmp_path / "azure.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        file.write("2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.6805900,396,100\n")

    trace = read_trace(path, ["a", "b"], tokens_per_s=100)

    assert [(r.at, r.service_time_s) for r in trace] == [(0.0, 0.44), (4.0, 1.0)]
    assert {r.service for r in trace} <= {"a", "b"}
    with pytest.raises(BadTrace, match="name no service"):
        read_trace(path)


def test_json_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    rows = [
        {"timestamp": "2026-01-01T00:00:00Z", "model": "a", "tokens": 100},
        {"timestamp": 1767225603.5, "model": "b"},
    ]
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows))

    trace = read_trace(path)

    assert [(r.at, r.service, r.service_time_s) for r in trace] == [(0.0, "a", 2.0), (3.5, "b", 3.0)]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("time.csv", "at,service\n1,a\nsoon,b\n", "line 3: 'soon' is neither seconds nor an ISO 8601 time"),
        ("nan.csv", "at,service\nnan,a\n", "line 2: 'nan' is neither"),
        ("none.csv", "when,service\n1,a\n", "line 2: it has no time"),
        ("wide.csv", "at,service\n1,a,b\n", "line 2: it has not as many columns"),
        ("short.csv", "at,service\n1\n", "line 2: it has not as many columns"),
        ("negative.csv", "at,duration\n1,-1\n", "line 2: its duration is negative"),
        ("work.jsonl", '{"at": 1, "duration": [3]}\n', r"line 1: \[3\] is no number"),
        ("json.jsonl", '{"at": 1}\n{"at": \n', "line 2: "),
        ("list.jsonl", "\n[1]\n", "line 2: it is no JSON object"),
        ("empty.csv", "at,service\n", "no rows"),
        ("mixed.csv", "at,service\n1,a\n2,\n", "some rows name a service and some do not"),
    ],
)
def test_a_line_that_cant_be_read_is_named(tmp_path: Path, name: str, text: str, problem: str) -> None:
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(BadTrace, match=problem) as caught:
        read_trace(path, ["a"])

    assert name in str(caught.value)


@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_file_is_a_fault_that_names_it(tmp_path: Path, cut: bool) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress(b"at,service\n1,a\n" * 1000)[:40] if cut else gzip.compress(b"at\n\xff\n"))

    with pytest.raises(BadTrace, match=r"trace\.csv\.gz, after 0 rows"):
        read_rows(path)
