"""Shadows: what each way to choose victims would have cost over the same uses.

A shadow holds names only: who would be resident if its expert had chosen all victims, in one pool of memory. The
contest follows the first expert unless another has paid so much less lately that chance does not explain it. Pure; a
use costs a look-up a shadow, and a miss looks at no more than a few residents, however many there are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

HALF_LIFE_S = 6 * 3_600.0
_SAMPLE = 12
_UNSURE = 9.0
"""A lead must be greater than what chance makes of the uses that told experts apart, and of so many more."""
_LATEST = 0.05

type Expert = Callable[[str, float], float]
"""What a service is worth to its memory at a time, in a measure of the expert's own: only the order counts."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a service takes.

    Attributes:
        reload_s: Seconds until it is back, times its weight.
        size_mb: The room that it needs; more than 0.
    """

    reload_s: float
    size_mb: float


class Shadow:
    """Who would be resident if an expert had chosen all victims.

    Args:
        expert: Says who is worth what.

    Attributes:
        held_mb: The residents, and what each holds.
        margin: What the last victim was worth to its memory.
    """

    def __init__(self, expert: Expert) -> None:
        self.held_mb: dict[str, float] = {}
        self.margin = 0.0
        self._expert = expert
        # The residents again, in no order that matters, and where each stands in it
        self._residents: list[str] = []
        self._places: dict[str, int] = {}
        self._used_mb = 0.0
        self._hand = 0

    def __repr__(self) -> str:
        return f"<Shadow of {len(self._residents)} residents in {self._used_mb:,.0f} MB>"

    def load(self, service: str, size_mb: float, memory_mb: float, now: float) -> None:
        """Take a service in; those that are worth least leave until it fits, and nobody in vain.

        Args:
            service: Who is not resident.
            size_mb: The room that it needs.
            memory_mb: The room there is.
            now: The time.
        """
        short_mb = self._used_mb + size_mb - memory_mb
        while short_mb > 0 and self._residents:
            short_mb -= self._evict(short_mb, now)
        self._places[service] = len(self._residents)
        self._residents.append(service)
        self.held_mb[service] = size_mb
        self._used_mb += size_mb

    def drop(self, service: str) -> None:
        """Let a service leave, if it is there.

        Args:
            service: Who.
        """
        place = self._places.pop(service, None)
        if place is None:
            return
        last = self._residents.pop()
        if last != service:
            self._residents[place] = last
            self._places[last] = place
        self._used_mb -= self.held_mb.pop(service)

    def _evict(self, short_mb: float, now: float) -> float:
        """Let leave whom a look at some finds to be worth least; how much that gives."""
        worth = {each: self._expert(each, now) for each in self._some()}
        victims: list[str] = []
        given_mb = 0.0
        for each in sorted(worth, key=worth.__getitem__):
            victims.append(each)
            given_mb += self.held_mb[each]
            if given_mb >= short_mb:
                break
        self.margin = worth[victims[-1]]
        for each in reversed(victims):
            if given_mb - self.held_mb[each] >= short_mb:
                given_mb -= self.held_mb[each]
            else:
                self.drop(each)
        return given_mb

    def _some(self) -> Sequence[str]:
        """All residents, or the next few in turn where there are many."""
        residents = self._residents
        if len(residents) <= _SAMPLE:
            return residents
        begin = self._hand % len(residents)
        self._hand = begin + _SAMPLE
        some = residents[begin : begin + _SAMPLE]
        return some + residents[: _SAMPLE - len(some)]


class Contest:
    """Which expert to follow.

    Args:
        experts: By name; the first is followed as long as none is better beyond doubt.

    Attributes:
        leader: The name of the one to follow.
    """

    def __init__(self, experts: Mapping[str, Expert]) -> None:
        self.leader = next(iter(experts))
        self._shadows = {name: Shadow(expert) for name, expert in experts.items()}
        self._first = self.leader
        # Seconds of reload that each has saved against the first, and the sum of their squares, both decayed; the
        # square of a usual reload
        self._saved = dict.fromkeys(experts, 0.0)
        self._squares = dict.fromkeys(experts, 0.0)
        self._typical = 0.0
        self._at = 0.0

    def __repr__(self) -> str:
        saved = ", ".join(f"{name} {saved:+,.0f} s" for name, saved in self._saved.items() if name != self._first)
        return f"<Contest: follows {self.leader}; against {self._first} {saved}>"

    @property
    def margin(self) -> float:
        """What the last victim of the leader's shadow was worth to its memory, in the leader's measure."""
        return self._shadows[self.leader].margin

    def used(self, service: str, cost: Cost, memory_mb: float, now: float) -> None:
        """Let each shadow serve a use, and judge.

        Args:
            service: Who was used.
            cost: What it takes.
            memory_mb: The room there is.
            now: The time.
        """
        missed = [name for name, shadow in self._shadows.items() if service not in shadow.held_mb]
        if not missed:
            return
        for name in missed:
            self._shadows[name].load(service, cost.size_mb, memory_mb, now)
        if len(missed) < len(self._shadows):
            self._settle(set(missed), cost.reload_s, now)

    def forget(self, service: str) -> None:
        """Let a service leave all shadows.

        Args:
            service: Who is no longer there, or takes another room than before.
        """
        for shadow in self._shadows.values():
            shadow.drop(service)

    def dump(self) -> tuple[dict[str, float], dict[str, float]]:
        """What each expert has saved, and the squares; not who would be resident."""
        return dict(self._saved), dict(self._squares)

    def load(self, saved: Mapping[str, float], squares: Mapping[str, float], now: float) -> None:
        """Go on from what was learned in an earlier life, as if no time had passed since.

        Args:
            saved: From `dump`; experts that are not known here are left out.
            squares: Likewise.
            now: The time.
        """
        self._saved = {name: saved.get(name, 0.0) for name in self._saved}
        self._squares = {name: squares.get(name, 0.0) for name in self._squares}
        self._at = now
        self.leader = self._judge()

    def _settle(self, missed: set[str], reload_s: float, now: float) -> None:
        kept = 0.5 ** ((now - self._at) / HALF_LIFE_S)
        self._at = now
        self._typical += (reload_s * reload_s - self._typical) * _LATEST
        base = reload_s if self._first in missed else 0.0
        for name in self._saved:
            saved = base - (reload_s if name in missed else 0.0)
            self._saved[name] = self._saved[name] * kept + saved
            self._squares[name] = self._squares[name] * kept * kept + saved * saved
        self.leader = self._judge()

    def _judge(self) -> str:
        saved, squares = self._saved, self._squares
        leader = self.leader if saved[self.leader] > 0.0 else self._first
        best = max(saved, key=saved.__getitem__)
        chance = sqrt(max(squares[best], squares[leader]) + _UNSURE * self._typical)
        return best if saved[best] - saved[leader] > chance else leader
