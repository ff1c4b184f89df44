"""What is written down of the fleet's events."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from loguru import logger

from ai_proxy.control.journal import Journal
from ai_proxy.events import ConfigApplied, ConfigRefused, Decided, Progress, RuntimeChanged, ServiceChanged
from ai_proxy.metrics import Eviction, Metrics


@pytest.fixture
def lines() -> Iterator[list[str]]:
    written: list[str] = []
    sink = logger.add(
        lambda line: written.append(str(line).strip()), level="DEBUG", format="{level} {extra[service]} {message}"
    )
    with logger.contextualize(service="-"):
        yield written
    logger.remove(sink)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(["chat"])


def go(journal: Journal, *path: str, reason: str = "because", eviction: str | None = None) -> None:
    """Let `chat` go through these states, a second each."""
    for at, (previous, state) in enumerate(pairwise(path)):
        journal.write(ServiceChanged(float(at), "chat", state, previous, reason, eviction))


def test_a_cold_start_is_measured_from_its_first_waiter_to_ready(metrics: Metrics) -> None:
    go(Journal(metrics), "stopped", "queued", "starting", "loading", "ready")

    assert metrics.service("chat").cold_start.total == 3.0


def test_an_adoption_is_no_cold_start(metrics: Metrics) -> None:
    go(Journal(metrics), "stopped", "loading", "ready")

    assert sum(metrics.service("chat").cold_start.counts) == 0


def test_a_failed_start_is_counted_and_logged_with_its_cause(metrics: Metrics, lines: list[str]) -> None:
    journal = Journal(metrics)
    go(journal, "queued", "starting", "loading", "stopping", reason="chat exited with code 1")
    go(journal, "stopping", "failed", reason="lost")

    assert metrics.service("chat").start_failures == 1
    assert lines[-1] == "WARNING chat stopping → failed: chat exited with code 1"


def test_a_replica_that_broke_while_it_was_ready_is_no_failed_start(metrics: Metrics) -> None:
    go(Journal(metrics), "loading", "ready", "stopping", "failed")

    assert metrics.service("chat").start_failures == 0


def test_an_eviction_is_counted_by_its_reason(metrics: Metrics) -> None:
    go(Journal(metrics), "ready", "stopping", eviction="room")

    assert metrics.service("chat").evictions[Eviction.ROOM] == 1


def test_each_replica_counts_for_its_service(metrics: Metrics) -> None:
    Journal(metrics).write(ServiceChanged(0.0, "chat#1", "stopping", "ready", "because", "room"))

    assert metrics.service("chat").evictions[Eviction.ROOM] == 1


def test_a_lease_is_no_cold_start_of_anything(metrics: Metrics) -> None:
    journal = Journal(metrics)
    for at, (previous, state) in enumerate(pairwise(("stopped", "queued", "starting", "loading", "ready"))):
        journal.write(ServiceChanged(float(at), "lease:game-1", state, previous, "because"))

    assert sum(metrics.unrouted.cold_start.counts) == 0


def test_what_an_operator_should_know_is_logged_at_its_level(metrics: Metrics, lines: list[str]) -> None:
    journal = Journal(metrics)
    journal.write(Progress(0, "chat", "pulling image, 41 %"))
    journal.write(Decided(0, "chat", "wait", "GPU 0 is full"))
    journal.write(ConfigApplied(0, "added b"))
    journal.write(ConfigRefused(0, "ai-proxy.yaml:3: no"))
    journal.write(RuntimeChanged(0, "docker", available=False, reason="no answer"))
    journal.write(RuntimeChanged(0, "docker", available=True, reason=""))

    assert lines == [
        "DEBUG chat pulling image, 41 %",
        "INFO chat wait: GPU 0 is full",
        "INFO - Config applied: added b",
        "ERROR - Config refused, the former one stays in force:\nai-proxy.yaml:3: no",
        "ERROR - The docker runtime does not answer: no answer",
        "INFO - The docker runtime answers",
    ]
