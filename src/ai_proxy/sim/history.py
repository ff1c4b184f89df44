"""From what a real run told to spans that can be drawn: the event stream as `ai-proxy events --json` prints it.

Pure. An event tells when a replica changed and, where it says so, what it holds on which devices; what was open on it
is no event, and is brought by who has measured it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ai_proxy.services.machine import State
from ai_proxy.sim.spans import PHASES, Delay, Phase, Span, SpanBook

type Rooms = Mapping[str, int]
type Open = tuple[str, float, float]

_STATES = frozenset(State)


class BadHistory(ValueError):
    """A line is not one of the event stream; the message names it and what is wrong there."""


@dataclass(frozen=True, slots=True)
class History:
    """A real run.

    Attributes:
        spans: What was held when, in seconds from the first event.
        waits: What was waited for.
        length_s: From the first event to the last.
        lost: Events that the watcher was too slow for: around them spans may be too long, or missing.
    """

    spans: tuple[Span, ...]
    waits: tuple[Delay, ...]
    length_s: float
    lost: int = 0


def history_of(
    lines: Iterable[str], *, rooms: Mapping[str, Rooms] | None = None, open_on: Iterable[Open] | None = None
) -> History:
    """Read the events of a run.

    Args:
        lines: One JSON object a line, in order of time.
        rooms: What a replica holds, in MiB by device, for events that do not say it.
        open_on: Requests that were served: replica, begin and end in Unix time; None: nobody knows.

    Raises:
        BadHistory: A line can't be read.

    Example:
        >>> def line(at, state):
        ...     told = {"type": "service", "at": at, "service": "chat", "state": state}
        ...     return json.dumps(told | {"devices": ["0"], "vram_mb": 9000})
        >>> run = history_of([line(100, "starting"), line(104, "ready"), line(109, "stopping"), line(110, "stopped")])
        >>> [(span.state.value, span.start_s, span.end_s) for span in run.spans]
        [('loading', 0.0, 4.0), ('ready', 4.0, 9.0), ('stopping', 9.0, 10.0)]
    """
    book, waits = SpanBook(), []
    begin: float | None = None
    at, lost = 0.0, 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            if event["type"] == "lost":
                lost += int(event["events"])
                continue
            moment = float(event["at"])
            begin = moment if begin is None else begin
            at = moment - begin
            if event["type"] == "service":
                _change(book, event, at, rooms or {})
            elif event["type"] == "request_answered":
                since = max(at - float(event["waited_s"]), 0.0)
                waits.append(Delay(str(event["service"]), since, at, served=event["outcome"] == "admitted"))
        except (ValueError, KeyError, TypeError) as fault:
            raise BadHistory(f"line {number}: not an event as `ai-proxy events --json` prints it ({fault!r})") from None
    spans = book.finish(at)
    if open_on is None:
        spans = tuple(replace(it, state=Phase.READY) if it.state is Phase.IDLE else it for it in spans)
    else:
        spans = with_work(
            spans, [(holder, start - (begin or 0.0), end - (begin or 0.0)) for holder, start, end in open_on]
        )
    return History(spans, tuple(waits), at, lost)


def with_work(spans: Iterable[Span], open_on: Iterable[Open]) -> tuple[Span, ...]:
    """Tell busy from idle where a request was open.

    Args:
        spans: Ready replicas are idle in them.
        open_on: Replica, begin and end in seconds from the run's begin; they may overlap.

    Example:
        >>> idle = Span("0", "chat", 0.0, 10.0, 9000, Phase.IDLE)
        >>> [(span.state.value, span.end_s) for span in with_work([idle], [("chat", 2.0, 4.0), ("chat", 3.0, 5.0)])]
        [('ready, idle', 2.0), ('busy', 5.0), ('ready, idle', 10.0)]
    """
    busy: dict[str, list[tuple[float, float]]] = {}
    for holder, start_s, end_s in sorted(open_on, key=lambda one: one[1]):
        times = busy.setdefault(holder, [])
        if times and start_s <= times[-1][1]:
            times[-1] = (times[-1][0], max(end_s, times[-1][1]))
        else:
            times.append((start_s, end_s))
    parts: list[Span] = []
    for span in spans:
        parts += _split(span, busy.get(span.holder, ())) if span.state is Phase.IDLE else [span]
    return tuple(parts)


def _change(book: SpanBook, event: Mapping[str, Any], at: float, known: Mapping[str, Rooms]) -> None:
    holder = str(event["service"])
    rooms: Rooms | None = known.get(holder)
    if event.get("devices"):
        rooms = {str(device): int(event["vram_mb"]) for device in event["devices"]}
    if event["state"] not in _STATES:
        raise ValueError(f"no state is called {event['state']}")
    book.tell(holder, at, PHASES.get(event["state"]), rooms)


def _split(span: Span, busy: Sequence[tuple[float, float]]) -> list[Span]:
    parts, at = [], span.start_s
    for start_s, end_s in busy:
        start_s, end_s = max(start_s, at), min(end_s, span.end_s)  # noqa: PLW2901  # cut to the span
        if start_s >= end_s:
            continue
        if start_s > at:
            parts.append(replace(span, start_s=at, end_s=start_s))
        parts.append(replace(span, start_s=start_s, end_s=end_s, state=Phase.BUSY))
        at = end_s
    if at < span.end_s:
        parts.append(replace(span, start_s=at))
    return parts
