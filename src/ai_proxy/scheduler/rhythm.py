"""Rhythm: how soon a service is asked for again, learned from when it was asked for before.

A use makes further uses of the same service likelier for a while: for seconds (a conversation), minutes (a burst),
hours (a working day), days (its popularity). Its rate is a weighted sum of its uses, decayed over such spans: a Hawkes
process. The weights are shared by all services and follow the stream of uses by incremental expectation maximisation.
Pure: time is told, and nothing is known of a service but when it was used.
"""

from dataclasses import dataclass
from math import exp

from ai_proxy.scheduler.memos import PaceMemo, RhythmMemo

SPANS_S = (30.0, 240.0, 1_920.0, 15_360.0, 122_880.0)
"""Each is eight times the one before, so that one exponential gives all decays."""

_RATIO = 8
_LONGEST_S = SPANS_S[-1]
_KEEP = 0.98
"""Of what the weights rest on, so much remains at each use: they follow the last 50."""
_PRIOR = 2.0
_UNSEEN = 0.5
_UNSEEN_S = 1_800.0
"""A service counts as used half a time in half an hour before anything was seen of it."""


@dataclass(slots=True)
class _Pace:
    """What is remembered of a service: its uses, decayed over each span, as of the last."""

    counts: list[float]
    at: float


class Rhythm:
    """The rates of use of all services."""

    def __init__(self) -> None:
        # Of each service
        self._paces: dict[str, _Pace] = {}
        # Of all together: for each span, the uses that it explains, and those that it would explain alone
        self._explained = [_PRIOR] * len(SPANS_S)
        self._expected = [_PRIOR * len(SPANS_S)] * len(SPANS_S)
        self._sum = _Pace([0.0] * len(SPANS_S), 0.0)
        self._begin: float | None = None
        # Derived from these: what a decayed use adds to a rate, and what a service has without any
        self._lengths = [*SPANS_S[:-1], _UNSEEN_S]
        self._factors = [0.0] * len(SPANS_S)
        self._floor = 0.0
        self._weigh(0.0)

    def __repr__(self) -> str:
        shares = ", ".join(
            f"{weight:.2f} over {span:,.0f} s" for span, weight in zip(SPANS_S, self.weights, strict=True)
        )
        return f"<Rhythm of {len(self._paces)} services: {shares}>"

    @property
    def weights(self) -> tuple[float, ...]:
        """How many further uses a use brings over each span; about 1 in all."""
        return tuple(a / b for a, b in zip(self._explained, self._expected, strict=True))

    def rate(self, service: str, now: float) -> float:
        """Uses per second that are to be expected now, if none has come since the last.

        Args:
            service: Of whom.
            now: The time; not before the service's last use.
        """
        pace = self._paces.get(service)
        if pace is None:
            return self._floor
        day = exp((pace.at - now) / _LONGEST_S)
        hours = day**_RATIO
        half_hour = hours**_RATIO
        minutes = half_hour**_RATIO
        n0, n1, n2, n3, n4 = pace.counts
        f0, f1, f2, f3, f4 = self._factors
        return (
            self._floor
            + f0 * n0 * minutes**_RATIO
            + f1 * n1 * minutes
            + f2 * n2 * half_hour
            + f3 * n3 * hours
            + f4 * n4 * day
        )

    def lasting(self, service: str, now: float) -> float:
        """Uses per second in the long run, whatever the moment.

        Args:
            service: Of whom.
            now: The time; not before the service's last use.
        """
        pace = self._paces.get(service)
        if pace is None:
            return 0.0
        return pace.counts[-1] * exp((pace.at - now) / _LONGEST_S) / self._lengths[-1]

    def used(self, service: str, now: float, elsewhere: float) -> None:
        """Learn from a use.

        Args:
            service: Who was used.
            now: When; not before any earlier use.
            elsewhere: The rate at which the use was to be expected for reasons that are not the service's own past.
        """
        if self._begin is None:
            self._begin = self._sum.at = now
        self._pass(now)
        pace = self._paces.get(service)
        if pace is None:
            pace = self._paces[service] = _Pace([0.0] * len(SPANS_S), now)
        else:
            left = zip(pace.counts, _decays(now - pace.at), strict=True)
            pace.counts = [count * decay for count, decay in left]
            self._explain(pace.counts, elsewhere)
        pace.counts = [count + 1.0 for count in pace.counts]
        pace.at = now
        self._sum.counts = [count + 1.0 for count in self._sum.counts]
        self._weigh(now)

    def forget(self, service: str) -> None:
        """Drop what is remembered of a service.

        Args:
            service: Who is no longer there.
        """
        self._paces.pop(service, None)

    def dump(self) -> RhythmMemo:
        """All that was learned."""
        end = self._sum.at
        return RhythmMemo(
            paces={name: PaceMemo(end - pace.at, list(pace.counts)) for name, pace in self._paces.items()},
            together=list(self._sum.counts),
            explained=list(self._explained),
            expected=list(self._expected),
            seen_s=0.0 if self._begin is None else end - self._begin,
        )

    def load(self, memo: RhythmMemo, now: float) -> None:
        """Go on from what was learned in an earlier life, as if no time had passed since.

        Args:
            memo: From `dump`.
            now: The time.
        """
        self._paces = {name: _Pace(list(pace.counts), now - pace.age_s) for name, pace in memo.paces.items()}
        self._sum = _Pace(list(memo.together), now)
        self._explained, self._expected = list(memo.explained), list(memo.expected)
        self._begin = now - memo.seen_s
        self._weigh(now)

    def _pass(self, now: float) -> None:
        """Let time pass: how many uses each span alone would have had one expect since the last of any service."""
        counts = self._sum.counts
        left = [count * decay for count, decay in zip(counts, _decays(now - self._sum.at), strict=True)]
        self._expected = [
            (expected + (count - remains) * span / length) * _KEEP
            for expected, count, remains, span, length in zip(
                self._expected, counts, left, SPANS_S, self._lengths, strict=True
            )
        ]
        self._sum.counts = left
        self._sum.at = now

    def _explain(self, counts: list[float], elsewhere: float) -> None:
        """Divide a use among the spans, each by its part in the rate at which the use was expected."""
        parts = [factor * count for factor, count in zip(self._factors, counts, strict=True)]
        parts[-1] += self._floor
        whole = sum(parts) + elsewhere
        self._explained = [
            (explained + part / whole) * _KEEP for explained, part in zip(self._explained, parts, strict=True)
        ]

    def _weigh(self, now: float) -> None:
        if self._begin is not None:
            # What began less than its span ago has not yet gathered the count that its rate would give it.
            self._lengths[-1] = _UNSEEN_S + _LONGEST_S * (1.0 - exp((self._begin - now) / _LONGEST_S))
        self._factors = [
            explained / expected / length
            for explained, expected, length in zip(self._explained, self._expected, self._lengths, strict=True)
        ]
        self._floor = _UNSEEN * self._factors[-1]


def _decays(elapsed_s: float) -> tuple[float, ...]:
    day = exp(-elapsed_s / _LONGEST_S)
    hours = day**_RATIO
    half_hour = hours**_RATIO
    minutes = half_hour**_RATIO
    return (minutes**_RATIO, minutes, half_hour, hours, day)
