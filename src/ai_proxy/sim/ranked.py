"""A fixed rule of eviction in the place of the scheduler's estimates.

The planner evicts those of whom the sum of regrets is least. A fixed rule only says who goes first: the n-th service in
its order gets a regret of 2 ** n, so that no sum of those before it outweighs it. What the planner finds then is what
the rule means: victims in the rule's order until it fits, and of those nobody in vain.
"""

from collections.abc import Iterable

from ai_proxy.sim.policies import Policy

_HIGHEST = 1000


class Ranked:
    """Answers the core's questions about regret by a policy's order.

    Args:
        policy: Is asked for the value of each service.
        services: All there are.

    Attributes:
        told: Nothing: a rank stands for no longer than the moment.
    """

    def __init__(self, policy: Policy, services: Iterable[str]) -> None:
        self.told: dict[str, tuple[float, float]] = {}
        self._policy = policy
        self._services = tuple(services)
        self._ranks: dict[str, int] = {}
        self._ranked_at: float | None = None

    def __repr__(self) -> str:
        return f"<Ranked by {type(self._policy).__name__}, {len(self._services)} services>"

    def came(self, service: str, now: float) -> None:
        """A request for the service has come, warm or cold."""
        self._policy.used(service, now)
        self._ranked_at = None

    def left(self, service: str, now: float) -> None:
        """The service was made to leave for another."""
        self._policy.left(service, now)
        self._ranked_at = None

    def used(self, service: str, now: float) -> None:
        """Nothing: a policy counts every request, not only those that the core calls a use."""

    def configure(self, service: str, *, reload_s: float, size_mb: float, weight: float) -> None:
        """Nothing: a policy knows the fleet from the start."""

    def forget(self, service: str) -> None:
        """Nothing: no service leaves a simulation."""

    def regret(self, service: str, now: float) -> float:
        """What counts as lost if the service is evicted."""
        if self._ranked_at != now:
            values = {each: self._policy.value(each, now) for each in self._services}
            self._ranks = {
                each: rank for rank, each in enumerate(sorted(values, key=lambda each: (values[each], each)))
            }
            self._ranked_at = now
        return 2.0 ** min(self._ranks[service], _HIGHEST)
