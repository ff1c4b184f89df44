"""Writes down what happens: events of the bus become log lines and counters.

The only listener that logs decisions, so that whoever decides need not know of logs or metrics.
"""

from loguru import logger

from ai_proxy.control.leases import PREFIX
from ai_proxy.events import (
    ConfigApplied,
    ConfigRefused,
    Decided,
    Event,
    Progress,
    RuntimeChanged,
    ServiceChanged,
)
from ai_proxy.metrics import Eviction, Metrics
from ai_proxy.runtimes.base import service_of
from ai_proxy.services.machine import State


class Journal:
    """Listens to a bus.

    Args:
        metrics: Where starts, failures and evictions are counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._queued_at: dict[str, float] = {}
        self._ending: dict[str, ServiceChanged] = {}

    def __repr__(self) -> str:
        return f"<Journal, {len(self._queued_at)} cold starts under way>"

    def write(self, event: Event) -> None:
        """Take one event."""
        match event:
            case ServiceChanged():
                self._count(event)
                self._log_change(event)
            case Progress(service=service, text=text):
                logger.bind(service=service).debug(text)
            case Decided(service=service, verdict=verdict, reason=reason):
                logger.bind(service=service).info("{}: {}", verdict, reason)
            case ConfigApplied(summary=summary):
                logger.info("Config applied: {}", summary)
            case ConfigRefused(error=error):
                logger.error("Config refused, the former one stays in force:\n{}", error)
            case RuntimeChanged(runtime=runtime, available=True):
                logger.info("The {} runtime answers", runtime)
            case RuntimeChanged(runtime=runtime, reason=reason):
                logger.error("The {} runtime does not answer: {}", runtime, reason)

    def _count(self, event: ServiceChanged) -> None:
        if event.service.startswith(PREFIX):
            return  # a lease starts nothing that could fail or be slow
        counters = self._metrics.service(service_of(event.service))
        if event.state == State.QUEUED:
            self._queued_at.setdefault(event.service, event.at)
        elif event.state == State.READY and event.service in self._queued_at:
            counters.cold_start.observe(event.at - self._queued_at.pop(event.service))
        elif event.state in {State.STOPPED, State.FAILED}:
            self._queued_at.pop(event.service, None)
            ending = self._ending.get(event.service)
            was_starting = ending is not None and ending.previous in {State.STARTING, State.LOADING}
            counters.start_failures += event.state == State.FAILED and was_starting
        if event.eviction is not None:
            counters.evictions[Eviction(event.eviction)] += 1

    def _log_change(self, event: ServiceChanged) -> None:
        # An operator reads about what lasts and what failed; the steps between are detail.
        level, reason = "DEBUG", event.reason
        if event.state in {State.READY, State.STOPPED} or event.eviction is not None:
            level = "INFO"
        if event.state == State.STOPPING:
            self._ending[event.service] = event
        elif event.state in {State.STOPPED, State.FAILED}:
            # What is confirmed now was caused when the end began.
            ending = self._ending.pop(event.service, event)
            reason = ending.reason
        if event.state == State.FAILED:
            level = "WARNING"
        logger.bind(service=event.service).log(level, "{} → {}: {}", event.previous, event.state, reason)
