"""One deadline that is set anew for every wait, on a timer that is armed only now and then.

Creating and cancelling a loop timer for each request costs more than parsing it. A `Deadline` moves its
due time as a number and leaves the timer where it is; a timer that fires too early re-arms itself. It
knows nothing of what it guards.
"""

import asyncio
from collections.abc import Callable
from math import inf

# uvloop rounds timers to milliseconds, so one may fire this much too early.
RESOLUTION_S = 0.001


class Deadline:
    """Calls `expired` once a set deadline has passed; setting it anew replaces the former one."""

    __slots__ = ("_due", "_expired", "_loop", "_timer", "_timer_at")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._due = inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    def __repr__(self) -> str:
        left = "none" if self._due == inf else f"{self._due - self._loop.time():.3f}s"
        return f"<Deadline: {left}>"

    def set(self, delay_s: float) -> None:
        """Let the deadline pass `delay_s` from now."""
        due = self._due = self._loop.time() + delay_s
        if due < self._timer_at:
            self._arm(due)

    def cancel(self) -> None:
        """Forget the deadline and its timer."""
        self._due = self._timer_at = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._timer_at = inf
        if self._due > self._loop.time() + RESOLUTION_S:
            if self._due != inf:
                self._arm(self._due)
            return
        self._due = inf
        self._expired()
