"""Figures made of a recorder's notes."""

import json

from ai_proxy.errors import NoRoom, WaitTimeout
from ai_proxy.sim.recorder import Recorder
from ai_proxy.sim.report import report_of
from tests.sim.fleets import LOAD_S, fleet


def test_a_wait_that_is_longer_than_promised_is_counted() -> None:
    notes = Recorder()
    bound_s = 0.0 + 0.0 + 2 * LOAD_S + 30.0
    for service, wait_s in (("a", bound_s - 1), ("b", bound_s + 1)):
        notes.waits(service, 0.0, ready=False)
        notes.granted(service, 0.0, wait_s)

    fairness = report_of("ours", fleet(8_000), notes, 100.0).fairness

    assert fairness.violations == 1
    assert fairness.nearest > 1.0


def test_each_claim_ahead_lengthens_the_bound_by_a_turn() -> None:
    notes = Recorder()
    notes.waits("a", 0.0, ready=False)
    notes.waits("b", 0.0, ready=False)
    notes.granted("b", 0.0, 2 * 2 * LOAD_S + 30.0)

    assert report_of("ours", fleet(8_000), notes, 100.0).fairness.violations == 0


def test_a_start_that_everybody_gave_up_on_counts_until_the_last_refusal() -> None:
    notes = Recorder()
    for at in (0.0, 5.0):
        notes.requests += 1
        notes.waits("a", at, ready=False)
    notes.rejected("a", WaitTimeout("it was not ready"), 10.0)
    notes.rejected("a", WaitTimeout("it was not ready again"), 15.0)

    report = report_of("ours", fleet(8_000), notes, 20.0)

    assert (report.cold_starts, report.cold_start_s) == (0, 15.0)
    assert (report.refused, report.reasons) == ({"wait_timeout": 2}, {"wait_timeout": "it was not ready"})


def test_waiting_for_a_slot_of_a_ready_service_is_no_cold_start() -> None:
    notes = Recorder()
    notes.waits("a", 0.0, ready=True)
    notes.granted("a", 0.0, 3.0)

    report = report_of("ours", fleet(8_000), notes, 20.0)

    assert (report.cold_starts, report.waits.count) == (0, 1)


def test_a_request_that_nobody_answered_is_missed() -> None:
    notes = Recorder()
    notes.requests = 3
    notes.closed(1.0)
    notes.rejected("a", NoRoom("it needs more"), 1.0)

    assert report_of("ours", fleet(8_000), notes, 20.0).unanswered == 1


def test_a_report_is_plain_json() -> None:
    said = report_of("ours", fleet(8_000), Recorder(), 1 / 3).as_json()

    assert json.loads(json.dumps(said)) == said
    assert said["length_s"] == 0.333
