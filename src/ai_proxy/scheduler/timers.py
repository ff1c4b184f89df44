"""Timers: when each service is to be looked at next.

Pure book-keeping; who keeps the clock asks for what is due. A service has one time, the nearest that was named.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from math import inf

_SPARE = 64


class Timers:
    """The next time of each service.

    Example:
        >>> timers = Timers()
        >>> for at in (9.0, 5.0, 7.0):
        ...     timers.arm(at, "chat")
        >>> timers.nearest, list(timers.due(6.0)), list(timers.due(9.0))
        (5.0, ['chat'], [])
    """

    def __init__(self) -> None:
        self._armed: dict[str, tuple[float, int, str]] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._count = 0

    def __repr__(self) -> str:
        return f"<Timers of {len(self._armed)} services, the nearest at {self.nearest:.3f}>"

    def __len__(self) -> int:
        """How many times are remembered, those that were moved forward included."""
        return len(self._heap)

    @property
    def nearest(self) -> float:
        """No service is due before; infinity if none is ever."""
        return self._heap[0][0] if self._heap else inf

    def of(self, service: str) -> float:
        """When a service will be looked at; infinity if never."""
        armed = self._armed.get(service)
        return armed[0] if armed is not None else inf

    def arm(self, at: float, service: str) -> None:
        """Have a service looked at no later than `at`; a no-op if it will be anyway."""
        armed = self._armed.get(service)
        if at >= (armed[0] if armed is not None else inf):
            return
        self._count += 1
        self._armed[service] = armed = (at, self._count, service)
        heappush(self._heap, armed)
        if len(self._heap) > 2 * len(self._armed) + _SPARE:
            # A time is often moved forward long before the old one comes.
            self._heap = list(self._armed.values())
            heapify(self._heap)

    def due(self, now: float) -> Iterator[str]:
        """Take the services whose time has come, the earliest first."""
        while self._heap and self._heap[0][0] <= now:
            timer = heappop(self._heap)
            if self._armed.get(timer[2]) is timer:
                del self._armed[timer[2]]
                yield timer[2]

    def forget(self, service: str) -> None:
        """Drop a service's time; idempotent."""
        self._armed.pop(service, None)
