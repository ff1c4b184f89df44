"""Successors: who is used soon after whom, learned from who was.

An agent that has asked A asks B next. A link from A to B holds how often a use of A brought one of B, and how long that
took; a use of B is credited to a link by the link's part in the rate at which B was expected (Hawkes, as in
`rhythm.py`). A use of A pulls B once: B's next use ends the pull. Pure, and bounded: few links a service, few pulls.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import exp

from ai_proxy.scheduler.memos import LinkMemo

WINDOW_S = 300.0
"""What comes later than this is no successor."""

_LINKS = 8
_RECENT = 4
_PULLS = 8
_KEEP = 0.99
_FIRST_GUESS = 0.01
_UNPROVEN_USES = 10.0
_FIRST_LAG_S = 20.0
_LEAST_LAG_S = 1.0


@dataclass(slots=True)
class _Link:
    """From one service to another.

    Attributes:
        brought: Uses of the other that the one explains, decayed.
        uses: Uses of the one, decayed alike.
        lag_s: Seconds from the one to the other, in the mean.
    """

    brought: float
    uses: float
    lag_s: float

    def rate(self, elapsed_s: float) -> float:
        """Uses of the other per second that a use of the one has one expect so much later."""
        return self.brought / self.uses / self.lag_s * exp(-elapsed_s / self.lag_s)

    def credit(self, part: float, elapsed_s: float) -> None:
        """Count a use of the other, as far as the one explains it."""
        self.lag_s = max(_LEAST_LAG_S, self.lag_s + (elapsed_s - self.lag_s) * part / (self.brought + 1.0))
        self.brought += part


class Successors:
    """The links between all services."""

    def __init__(self) -> None:
        self._links: dict[str, dict[str, _Link]] = {}
        # Of those that have as many links as may be: the one to give up for another; none until it is used again
        self._spare: dict[str, str] = {}
        # Since the last use of each: who was used and when, with the link from there
        self._pulls: dict[str, dict[str, tuple[float, _Link]]] = {}
        self._recent: deque[tuple[float, str]] = deque(maxlen=_RECENT)

    def __repr__(self) -> str:
        return f"<Successors: {sum(map(len, self._links.values()))} links from {len(self._links)} services>"

    def rate(self, service: str, now: float) -> float:
        """Uses per second that are to be expected now because of what others were used.

        Args:
            service: Of whom.
            now: The time.
        """
        pulls = self._pulls.get(service)
        if not pulls:
            return 0.0
        rate = 0.0
        for at, link in pulls.values():
            if now - at < WINDOW_S:
                rate += link.rate(now - at)
        return rate

    def pulls(self, service: str, now: float) -> bool:
        """Whether anybody was used lately after whom the service is used, and it was not since.

        Args:
            service: Of whom.
            now: The time.
        """
        pulls = self._pulls.get(service)
        return pulls is not None and any(now - at < WINDOW_S for at, _ in pulls.values())

    def linked(self, service: str) -> Iterable[str]:
        """Whose rates a use of the service changes.

        Args:
            service: Who was used.
        """
        return self._links.get(service, ())

    def used(self, service: str, now: float, elsewhere: float) -> None:
        """Learn from a use.

        Args:
            service: Who was used.
            now: When; not before any earlier use.
            elsewhere: The rate at which the use was to be expected for reasons of the service's own past.
        """
        pulls = self._pulls.pop(service, {})
        if pulls:
            self._credit(pulls, now, elsewhere)
        for at, other in self._recent:
            if other != service and other not in pulls and now - at < WINDOW_S:
                self._link(other, service)
        self._pull(service, now)
        self._recent.append((now, service))

    def forget(self, service: str) -> None:
        """Drop what is remembered of a service.

        Args:
            service: Who is no longer there.
        """
        self._links.pop(service, None)
        self._pulls.pop(service, None)
        self._spare.clear()
        for links in self._links.values():
            links.pop(service, None)
        for pulls in self._pulls.values():
            pulls.pop(service, None)
        self._recent = deque((pair for pair in self._recent if pair[1] != service), maxlen=_RECENT)

    def dump(self) -> dict[str, dict[str, LinkMemo]]:
        """All that was learned; not who was used just now."""
        return {
            one: {other: LinkMemo(link.brought, link.uses, link.lag_s) for other, link in links.items()}
            for one, links in self._links.items()
        }

    def load(self, memo: dict[str, dict[str, LinkMemo]]) -> None:
        """Go on from what was learned in an earlier life.

        Args:
            memo: From `dump`.
        """
        self._links = {
            one: {
                other: _Link(link.brought, link.uses, max(_LEAST_LAG_S, link.lag_s))
                for other, link in list(links.items())[:_LINKS]
            }
            for one, links in memo.items()
        }
        self._spare.clear()
        self._pulls.clear()
        self._recent.clear()

    def _credit(self, pulls: dict[str, tuple[float, _Link]], now: float, elsewhere: float) -> None:
        parts = [(link, link.rate(now - at), now - at) for at, link in pulls.values() if now - at < WINDOW_S]
        whole = sum([part for _, part, _ in parts]) + elsewhere
        for link, part, elapsed_s in parts:
            link.credit(part / whole, elapsed_s)

    def _link(self, one: str, other: str) -> None:
        """Suppose that the one brings the other; where there are many links, in the place of the least."""
        links = self._links.setdefault(one, {})
        if other in links:
            return
        if len(links) >= _LINKS:
            spare = self._spare.pop(one, None)
            if spare is None:
                return
            del links[spare]
        links[other] = _Link(_FIRST_GUESS * _UNPROVEN_USES, _UNPROVEN_USES, _FIRST_LAG_S)

    def _pull(self, service: str, now: float) -> None:
        links = self._links.get(service)
        if not links:
            return
        least = _FIRST_GUESS
        for other, link in links.items():
            link.brought *= _KEEP
            link.uses = link.uses * _KEEP + 1.0
            if link.brought < least * link.uses:
                least = link.brought / link.uses
                self._spare[service] = other
            pulls = self._pulls.setdefault(other, {})
            pulls[service] = (now, link)
            if len(pulls) > _PULLS:
                del pulls[min(pulls.items(), key=_came)[0]]


def _came(pull: tuple[str, tuple[float, _Link]]) -> float:
    """When a pull began."""
    return pull[1][0]
