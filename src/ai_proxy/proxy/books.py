"""Keeps the books of requests: metrics, and one access entry each."""

import time
from collections.abc import Callable

from ai_proxy.logging import NAME_CHARS, Access
from ai_proxy.metrics import CLIENT_CLOSED_REQUEST, UNROUTED, Ending, Metrics
from ai_proxy.proxy.request import Request


class Books:
    """Counts requests in and out.

    Args:
        metrics: The counters.
        access: Takes one entry a request; must not wait.
        clock: Monotonic seconds, the one that requests are stamped with.
        wall_clock: Seconds since the epoch.
    """

    def __init__(
        self,
        metrics: Metrics,
        access: Callable[[Access], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self._wall_clock = wall_clock
        self._metrics = metrics
        self._access = access

    def __repr__(self) -> str:
        return f"<Books of {self._metrics!r}>"

    def open(self, request: Request, service: str) -> None:
        """A request has found its service."""
        request.service = service
        self._metrics.service(service).in_flight += 1

    def close(self, request: Request) -> None:
        """A request has ended, whatever way."""
        service = request.service
        ending = request.ending or Ending.REFUSED
        total_s = self.clock() - request.since
        status = request.status or CLIENT_CLOSED_REQUEST
        if service is None:
            counters = self._metrics.unrouted
        else:
            counters = self._metrics.service(service)
            counters.in_flight -= 1
        counters.responses[status // 100] += 1
        counters.endings[ending] += 1
        counters.received_bytes += request.body.received
        counters.sent_bytes += request.sent
        counters.duration.observe(total_s)
        if request.ttfb_s is not None:
            counters.ttfb.observe(request.ttfb_s)
        if request.queue_s:
            counters.queue_wait.observe(request.queue_s)
        scope = request.scope
        client, way = scope["client"], request.way
        self._access(
            Access(
                self._wall_clock(),
                scope["method"],
                scope["raw_path"],
                status,
                request.id,
                service or UNROUTED,
                # Whatever the client sent, and the entry may have to wait for its writer.
                request.model[:NAME_CHARS],
                (f"{client[0]}:{client[1]}" if client else "-") if way is None else way.client,
                request.sent,
                total_s,
                request.queue_s,
                request.ttfb_s,
                ending,
                request.beats,
                request.key,
                request.body.received,
            )
        )
