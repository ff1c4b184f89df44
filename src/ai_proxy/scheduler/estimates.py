"""Estimates: what the absence of a service is expected to cost.

Joins what is known of a service (how long it takes to come back, what room it holds) with how soon it will be wanted
(`rhythm`, `successors`), and checks by `shadows` that no simpler rule does better on the uses at hand. Pure: no clock;
the time is told and never runs backwards. It knows nothing of devices, replicas or requests.
"""

from math import inf
from typing import Protocol

import msgspec

from ai_proxy.scheduler.memos import EstimatesMemo
from ai_proxy.scheduler.rhythm import Rhythm
from ai_proxy.scheduler.shadows import Contest, Cost
from ai_proxy.scheduler.successors import Successors

ABSENCE_S = 60.0
"""Regret is told for so long an absence."""

_AGAIN_S, _AGAIN_SHARE = 1.0, 0.02
"""A regret stands for this long, or for this share of the time since the last use: it changes as that time grows."""

_MANY = 100
"""Beyond so many services both grow with them, and whoever proves right does not have all regrets told anew at once: a
plan for a thousand has no time to weigh each of them. What a use changes is told anew in any case."""

TOGETHER_S = 1.0
"""Uses closer together than this are one: those that come while nobody is there come in crowds."""

_UNKNOWN = Cost(reload_s=30.0, size_mb=16_384.0)
_PRICE = 0.75
"""Memory that is freed beyond the need is worth this part of what the last victim was worth to its memory."""
_LEAST = 0.05
"""But nobody's regret falls below this part of what it would be otherwise, so that the order stays."""


class Estimator(Protocol):
    """What it costs to have a service leave: a memory of when each was used.

    Attributes:
        told: Regrets that were told, by service: until when each stands, and what it is.
    """

    told: dict[str, tuple[float, float]]

    def configure(self, service: str, /, *, reload_s: float, size_mb: float, weight: float) -> None:
        """Take what a service takes to load and what room it holds."""
        ...

    def used(self, service: str, now: float, /) -> None:
        """A service was needed, by a request that came a while after the one before."""
        ...

    def forget(self, service: str, /) -> None:
        """A service is no more."""
        ...

    def regret(self, service: str, now: float, /) -> float:
        """The weighed seconds that are expected to be lost if a service leaves now."""
        ...


class Estimates:
    """What each service would be missed for.

    Args:
        memory_mb: The room that the services share; 0 as long as it is not known.

    Attributes:
        told: As of every `Estimator`.
    """

    def __init__(self, memory_mb: float = 0.0) -> None:
        # What is known of the services and of the machine
        self._costs: dict[str, Cost] = {}
        self._total = _UNKNOWN
        self._memory_mb = memory_mb
        # What was learned of their uses
        self._rhythm = Rhythm()
        self._successors = Successors()
        self._last_used: dict[str, float] = {}
        self._experts = {
            "rhythm": self._by_rhythm,
            "popularity": self._by_popularity,
            "frequency": self._by_frequency,
            "recency": self._by_recency,
        }
        self._contest = Contest(self._experts)
        self.told: dict[str, tuple[float, float]] = {}

    def __repr__(self) -> str:
        return f"<Estimates of {len(self._last_used)} services: {self._contest!r}, {self._rhythm!r}>"

    def used(self, service: str, now: float) -> None:
        """Learn that a service was wanted, after a while in which it was not or while it was not there.

        Args:
            service: Who.
            now: When; not before any earlier use.
        """
        if now - self._last_used.get(service, -inf) < TOGETHER_S:
            return
        own, pulled = self._rhythm.rate(service, now), self._successors.rate(service, now)
        leader = self._contest.leader
        if self._memory_mb > 0.0:
            self._contest.used(service, self._costs.get(service, _UNKNOWN), self._memory_mb, now)
        self._successors.used(service, now, own)
        self._rhythm.used(service, now, pulled)
        self._last_used[service] = now
        if self._contest.leader != leader and len(self._costs) <= _MANY:
            self.told.clear()
        for changed in (service, *self._successors.linked(service)):
            self.told.pop(changed, None)

    def regret(self, service: str, now: float) -> float:
        """Seconds of waiting, times weight, that a minute without the service is expected to cost.

        Args:
            service: Who might leave.
            now: The time; not before the last use.
        """
        known = self.told.get(service)
        if known is not None and now < known[0]:
            return known[1]
        cost = self._costs.get(service, _UNKNOWN)
        worth = self._experts[self._contest.leader](service, now)
        margin = self._contest.margin * _PRICE
        regret = max(worth - margin, worth * _LEAST) * cost.size_mb * ABSENCE_S
        stands_s = _AGAIN_S
        if not self._successors.pulls(service, now):
            stands_s = max(_AGAIN_S, _AGAIN_SHARE * (now - self._last_used.get(service, now)))
        self.told[service] = (now + stands_s * max(1.0, len(self._costs) / _MANY), regret)
        return regret

    def configure(self, service: str, *, reload_s: float, size_mb: float, weight: float = 1.0) -> None:
        """Say what a service takes, measured or assumed; again if it changes.

        Args:
            service: Who.
            reload_s: Seconds until it is back.
            size_mb: The room that it holds, over all devices.
            weight: How much its waiting counts.
        """
        cost = Cost(reload_s * weight, max(size_mb, 1.0))
        known = self._costs.get(service)
        self._costs[service] = cost
        if known is not None and known.size_mb != cost.size_mb:
            self._contest.forget(service)
        self._sum_up(known, cost)
        self.told.pop(service, None)

    def forget(self, service: str) -> None:
        """Drop all that is known of a service.

        Args:
            service: Who is no longer there.
        """
        self._sum_up(self._costs.pop(service, None), None)
        self._last_used.pop(service, None)
        self._rhythm.forget(service)
        self._successors.forget(service)
        self._contest.forget(service)
        self.told.pop(service, None)

    def dump(self) -> object:
        """All that was learned, fit for JSON."""
        saved, squares = self._contest.dump()
        return msgspec.to_builtins(EstimatesMemo(self._rhythm.dump(), self._successors.dump(), saved, squares))

    def load(self, memo: object, now: float) -> None:
        """Go on from what was learned in an earlier life, as if no time had passed since.

        Args:
            memo: From `dump`, through JSON or not.
            now: The time.

        Raises:
            ValueError: It is no such memo; nothing has changed.
        """
        told = msgspec.convert(memo, EstimatesMemo)
        self._rhythm.load(told.rhythm, now)
        self._successors.load(told.links)
        self._contest.load(told.saved, told.squares, now)
        self._last_used = {service: now - pace.age_s for service, pace in told.rhythm.paces.items()}
        self.told.clear()

    def _sum_up(self, less: Cost | None, more: Cost | None) -> None:
        for cost, sign in ((less, -1.0), (more, 1.0)):
            if cost is not None:
                total = self._total
                self._total = Cost(total.reload_s + sign * cost.reload_s, total.size_mb + sign * cost.size_mb)

    def _usual(self) -> float:
        """Seconds of reload per MB, over all services."""
        return self._total.reload_s / self._total.size_mb

    # What a service is worth to its memory: seconds of reload to be expected per second and MB

    def _by_rhythm(self, service: str, now: float) -> float:
        cost = self._costs.get(service, _UNKNOWN)
        rate = self._rhythm.rate(service, now) + self._successors.rate(service, now)
        return rate * cost.reload_s / cost.size_mb

    def _by_popularity(self, service: str, now: float) -> float:
        """As if only the long run mattered."""
        cost = self._costs.get(service, _UNKNOWN)
        return self._rhythm.lasting(service, now) * cost.reload_s / cost.size_mb

    def _by_frequency(self, service: str, now: float) -> float:
        """As if it mattered alone: least often used leaves first."""
        return self._rhythm.lasting(service, now) * self._usual()

    def _by_recency(self, service: str, now: float) -> float:
        """As if only the last use mattered: least recently used leaves first."""
        return self._usual() / (now - self._last_used.get(service, -inf) + 1.0)
