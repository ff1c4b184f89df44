"""Real runs: from the event stream to spans."""

import json

import pytest

from ai_proxy.sim.history import BadHistory, history_of
from ai_proxy.sim.spans import Phase


def told(at: float, state: str, service: str = "chat", **more: object) -> str:
    return json.dumps({"type": "service", "at": at, "service": service, "state": state, **more})


LIFE = [
    told(1000.0, "queued"),
    told(1001.0, "starting", devices=["0", "1"], vram_mb=9_000),
    told(1002.0, "loading", devices=["0", "1"], vram_mb=9_000),
    told(1005.0, "ready", devices=["0", "1"], vram_mb=9_000),
    told(1020.0, "stopping", devices=["0", "1"], vram_mb=9_000),
    told(1021.0, "stopped"),
]


def test_a_life_is_a_row_of_spans_on_each_of_its_devices() -> None:
    run = history_of(LIFE)

    assert {span.device for span in run.spans} == {"0", "1"}
    assert [(span.state, span.start_s, span.end_s) for span in run.spans if span.device == "0"] == [
        (Phase.LOADING, 1.0, 5.0),
        (Phase.READY, 5.0, 20.0),
        (Phase.STOPPING, 20.0, 21.0),
    ]
    assert run.length_s == 21.0


def test_requests_that_were_measured_tell_busy_from_idle() -> None:
    run = history_of(LIFE, open_on=[("chat", 1006.0, 1008.0), ("chat", 1019.0, 1030.0)])

    states = [(span.state, span.end_s) for span in run.spans if span.device == "0" and 5 <= span.start_s < 20]
    assert states == [(Phase.IDLE, 6.0), (Phase.BUSY, 8.0), (Phase.IDLE, 19.0), (Phase.BUSY, 20.0)]


def test_rooms_that_events_do_not_tell_may_be_known_from_elsewhere() -> None:
    lines = [told(0.0, "starting"), told(5.0, "ready"), told(9.0, "stopped")]

    assert history_of(lines).spans == ()
    assert [span.mb for span in history_of(lines, rooms={"chat": {"0": 7_000}}).spans] == [7_000, 7_000]


def test_a_replica_that_sleeps_keeps_what_its_event_says() -> None:
    lines = [told(0.0, "ready", devices=["0"], vram_mb=9_000), told(5.0, "sleeping", devices=["0"], vram_mb=500)]

    spans = history_of([*lines, told(9.0, "queued", "other")]).spans

    assert [(span.state, span.mb) for span in spans] == [(Phase.READY, 9_000), (Phase.SLEEPING, 500)]


def test_a_replica_on_which_nothing_was_open_is_idle() -> None:
    assert {span.state for span in history_of(LIFE, open_on=[]).spans} == {Phase.LOADING, Phase.IDLE, Phase.STOPPING}


def test_what_still_runs_at_the_end_lasts_until_then() -> None:
    assert history_of([*LIFE[:4], told(1050.0, "queued", "other")]).spans[-1].end_s == 50.0


def test_requests_that_waited_are_waits() -> None:
    answer = {"type": "request_answered", "request": "r", "service": "chat", "waited_s": 3.0}
    lines = [told(1000.0, "queued")] + [
        json.dumps({**answer, "at": at, "outcome": outcome})
        for at, outcome in ((1005.0, "admitted"), (1006.0, "queue_full"))
    ]

    waits = history_of(lines).waits

    assert [(wait.start_s, wait.end_s, wait.served) for wait in waits] == [(2.0, 5.0, True), (3.0, 6.0, False)]


def test_other_events_and_empty_lines_are_passed_over() -> None:
    assert history_of(["", json.dumps({"type": "decision", "at": 1.0, "service": "chat"})]).spans == ()


def test_events_that_were_lost_are_counted() -> None:
    run = history_of([LIFE[0], json.dumps({"type": "lost", "events": 3}), *LIFE[1:]])

    assert (run.lost, run.length_s) == (3, 21.0)


@pytest.mark.parametrize("line", ["no json", "[]", '{"at": 1}', '{"type": "service", "at": 1, "service": "a"}'])
def test_a_line_that_is_no_event_is_named(line: str) -> None:
    with pytest.raises(BadHistory, match="line 2: not an event"):
        history_of([LIFE[0], line])


def test_a_state_that_nobody_knows_is_named() -> None:
    with pytest.raises(BadHistory, match=r"line 1.*sideways"):
        history_of([told(0.0, "sideways")])
