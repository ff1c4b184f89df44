"""Estimates: what the absence of a service is expected to cost.

Joins what is known of a service (how long it takes to come back, what room it holds) with how soon it will be wanted
(`rhythm`, `successors`), and checks by `shadows` that no simpler rule does better on the uses at hand. Pure: no clock;
the time is told and never runs backwards. It knows nothing of devices, replicas or requests.
"""

from collections.abc import Sequence

from ai_proxy.scheduler.rhythm import Rhythm
from ai_proxy.scheduler.shadows import Contest, Cost
from ai_proxy.scheduler.successors import Successors

ABSENCE_S = 60.0
"""Regret is told for so long an absence."""

_UNKNOWN = Cost(reload_s=30.0, size_mb=16_384.0)
_PRICE = 0.75
_LEAST = 0.05
_BLEND = 0.1


class Estimates:
    """What each service would be missed for.

    Args:
        memory_mb: The room that the services share; 0 as long as it is not known.
    """

    def __init__(self, memory_mb: float = 0.0) -> None:
        # What is known of the services and of the machine
        self._costs: dict[str, Cost] = {}
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
        self._price = 0.0

    def __repr__(self) -> str:
        return f"<Estimates of {len(self._last_used)} services: {self._contest!r}, {self._rhythm!r}>"

    def used(self, service: str, now: float) -> None:
        """Learn that a service was wanted, after a while in which it was not or while it was not there.

        Args:
            service: Who.
            now: When; not before any earlier use.
        """
        own, pulled = self._rhythm.rate(service, now), self._successors.rate(service, now)
        if self._memory_mb > 0.0:
            self._contest.used(service, self._costs.get(service, _UNKNOWN), self._memory_mb, now)
        self._successors.used(service, now, own)
        self._rhythm.used(service, now, pulled)
        self._last_used[service] = now

    def regret(self, service: str, now: float) -> float:
        """Seconds of waiting, times weight, that a minute without the service is expected to cost.

        Args:
            service: Who might leave.
            now: The time; not before the last use.
        """
        cost = self._costs.get(service, _UNKNOWN)
        worth = self._experts[self._contest.leader](service, now)
        margin = self._contest.margin * _PRICE
        return max(worth - margin, worth * _LEAST) * cost.size_mb * ABSENCE_S

    def successors(self, service: str) -> Sequence[tuple[str, float]]:
        """Who is likely to be wanted within minutes of a use of the service, with the probability, likeliest first.

        Args:
            service: Who was used.
        """
        return self._successors.following(service)

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

    def capacity(self, memory_mb: float) -> None:
        """Say how much room the services share.

        Args:
            memory_mb: Over all devices.
        """
        self._memory_mb = memory_mb

    def forget(self, service: str) -> None:
        """Drop all that is known of a service.

        Args:
            service: Who is no longer there.
        """
        self._costs.pop(service, None)
        self._last_used.pop(service, None)
        self._rhythm.forget(service)
        self._successors.forget(service)
        self._contest.forget(service)

    # What a service is worth to its memory, in each expert's own measure

    def _by_rhythm(self, service: str, now: float) -> float:
        cost = self._costs.get(service, _UNKNOWN)
        rate = self._rhythm.rate(service, now) + self._successors.rate(service, now)
        return rate * cost.reload_s / cost.size_mb

    def _by_popularity(self, service: str, now: float) -> float:
        cost = self._costs.get(service, _UNKNOWN)
        return self._rhythm.lasting(service, now) * cost.reload_s / cost.size_mb

    def _by_frequency(self, service: str, now: float) -> float:
        return self._rhythm.lasting(service, now)

    def _by_recency(self, service: str, now: float) -> float:
        return 1.0 / (now - self._last_used.get(service, 0.0) + 1.0)
