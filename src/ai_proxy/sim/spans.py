"""Spans: what each device was held for, by whom and when, whether in a simulation or in a real run.

Plain data and the book that gathers it. It knows neither the scheduler nor how spans are drawn (`gantt.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from ai_proxy.services.machine import State


class Phase(StrEnum):
    """What a holder does with the room that it holds; READY where nobody knows whether it is idle or busy."""

    LOADING = "loading"
    READY = "ready"
    IDLE = "ready, idle"
    BUSY = "busy"
    DRAINING = "draining"
    SLEEPING = "sleeping"
    STOPPING = "stopping"


PHASES: Mapping[State, Phase] = MappingProxyType(
    {
        State.STARTING: Phase.LOADING,
        State.LOADING: Phase.LOADING,
        State.READY: Phase.IDLE,
        State.DRAINING: Phase.DRAINING,
        State.SLEEPING: Phase.SLEEPING,
        State.STOPPING: Phase.STOPPING,
    }
)
"""What a replica does with its room in each state that holds some."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in which a holder did one thing with its room on one device.

    Attributes:
        device: Its id.
        holder: Whose room it is: a replica, a lease.
        start_s: When it began, in seconds from the run's begin.
        end_s: When it ended.
        mb: Room held on this device, in MiB.
        state: What it was used for.
    """

    device: str
    holder: str
    start_s: float
    end_s: float
    mb: int
    state: Phase


@dataclass(frozen=True, slots=True)
class Delay:
    """A time in which requests waited for a service that was not ready.

    Attributes:
        service: Whom they waited for.
        start_s: When the first of them came.
        end_s: When it was served, or the last of them was refused.
        served: It was served.
    """

    service: str
    start_s: float
    end_s: float
    served: bool = True


@dataclass(slots=True)
class _Open:
    since: float
    phase: Phase
    rooms: Mapping[str, int]


@dataclass(slots=True)
class SpanBook:
    """Gathers spans from changes that are told in order of time."""

    spans: list[Span] = field(default_factory=list)
    _open: dict[str, _Open] = field(default_factory=dict)

    def tell(self, holder: str, at: float, phase: Phase | None, rooms: Mapping[str, int] | None = None) -> None:
        """Note what a holder does from now on.

        Args:
            holder: Who.
            at: When, in seconds from the run's begin.
            phase: What it does; None: it has left.
            rooms: What it holds, in MiB by device; by default what it held before.

        Example:
            >>> book = SpanBook()
            >>> book.tell("chat", 0.0, Phase.LOADING, {"0": 9000})
            >>> book.tell("chat", 5.0, Phase.IDLE)
            >>> book.tell("chat", 9.0, None)
            >>> [(span.state.value, span.end_s) for span in book.spans]
            [('loading', 5.0), ('ready, idle', 9.0)]
        """
        now = self._open.get(holder)
        if now is not None:
            if rooms is None:
                rooms = now.rooms
            if now.phase is phase and now.rooms == rooms:
                return
            self._close(holder, now, at)
        if phase is None:
            self._open.pop(holder, None)
        else:
            self._open[holder] = _Open(at, phase, rooms or {})

    def finish(self, at: float) -> tuple[Span, ...]:
        """End what is open and give all spans, in order of their begin."""
        for holder, now in self._open.items():
            self._close(holder, now, at)
        self._open.clear()
        return tuple(sorted(self.spans, key=lambda span: (span.start_s, span.device, span.holder)))

    def _close(self, holder: str, now: _Open, at: float) -> None:
        if at > now.since:
            self.spans.extend(Span(device, holder, now.since, at, mb, now.phase) for device, mb in now.rooms.items())


def devices_of(spans: Iterable[Span]) -> list[str]:
    """The devices that spans name, numbers in the order of numbers.

    Example:
        >>> devices_of([Span(device, "x", 0, 1, 1, Phase.IDLE) for device in ("10", "2", "2")])
        ['2', '10']
    """
    return sorted({span.device for span in spans}, key=lambda device: (not device.isdigit(), device.zfill(8)))
