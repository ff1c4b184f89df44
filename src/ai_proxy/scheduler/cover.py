"""Cover: choose, at the least cost, items that together give as much as is short of several resources.

Pure arithmetic that knows neither services nor devices. Each item can be chosen in one of several ways, some items
only together with others. Branch and bound over the items, likeliest first: exact if it comes to its end, else the
best that was found, which is no worse than a greedy choice.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf

from ai_proxy.scheduler.greedy import Item, Way, greedy

MOST_ITEMS = 20
"""Among more items than these only the likeliest are searched, and the answer is not called exact."""

SETUP_NODES = 6
"""What a search costs beside its steps, counted in steps; and half a step for each item and resource."""

TRIFLE = 1e-7
"""What costs less by no more than this is not better: sums of the same costs differ by less."""

_FEW_ITEMS = 6
"""So few are searched through faster than something to begin with is found."""


type _Gives = dict[int, list[tuple[int, float]]]
"""How much of each resource the ways of an item give, and at which cost."""


@dataclass(frozen=True, slots=True)
class Cover:
    """A choice that is enough.

    Attributes:
        chosen: The way taken, by item.
        cost: Of all of them.
    """

    chosen: dict[int, int]
    cost: float


class Search:
    """A search for the cheapest cover; made for one problem, run once.

    Args:
        items: What can be chosen.
        short: How much of each resource is missing; negative where there is some to spare.
        bound: Only a cover that costs less is of interest.
        nodes: So many steps may be taken.

    Attributes:
        nodes: Steps that are left; negative if there were too few.
        complete: Whether there is no better cover than the one found.
    """

    def __init__(self, items: Sequence[Item], short: Sequence[int], *, bound: float = inf, nodes: int) -> None:
        self.nodes = nodes
        self.complete = False

        self._items = items
        self._short = tuple(short)
        self._must = sum(1 << index for index, item in enumerate(items) if item.must)
        self._best = bound
        self._found: dict[int, int] | None = None
        self._chosen: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Search of {len(self._items)} items, {self.nodes} nodes left, best {self._best}>"

    def run(self) -> Cover | None:
        """Find the cheapest cover below the bound; None if there is none, or none was found."""
        self.nodes -= SETUP_NODES + len(self._items) * len(self._short) // 2
        if self._best == inf and len(self._items) > _FEW_ITEMS:
            self._begin()
        self._prepare()
        self._branch(0, self._must, 0, self._short, 0.0)
        self.complete = self.nodes >= 0 and len(self._order) == len(self._items)
        if self._found is None and self._best == inf and not self.complete:
            self._begin()
        return None if self._found is None else Cover(self._found, self._best)

    def _begin(self) -> None:
        """Have something to begin with, or to end with."""
        for thorough in (False, True):
            if (chosen := greedy(self._items, self._short, thorough=thorough)) is not None:
                self._keep(sum(self._items[index].ways[way].cost for index, way in chosen.items()), chosen)

    def _keep(self, cost: float, chosen: dict[int, int]) -> None:
        """Keep a cover if it is the best so far."""
        if cost < self._best - TRIFLE:
            self._best, self._found = cost, dict(chosen)

    def _prepare(self) -> None:
        """Put the items in order and build what the steps look up."""
        items, short = self._items, self._short
        values, offered = self._values()
        order = sorted(range(len(items)), key=lambda index: min(values[index]))
        self._order = order if len(order) <= MOST_ITEMS else self._likeliest(order)
        self._left = [0]
        for index in reversed(self._order):
            self._left.append(self._left[-1] | 1 << index)
        self._left.reverse()
        self._ways = [sorted(range(len(value)), key=value.__getitem__) for value in values]
        self._offers: list[list[tuple[float, int, int]]] = [[] for _ in short]
        for index in self._order:
            self._offer(index, offered[index])
        for offers in self._offers:
            offers.sort()
        self._excluded: dict[int, int] | None = None
        self._relaxed: list[list[_Relaxed] | None] = [None] * len(self._order)

    def _values(self) -> tuple[list[list[float]], list[_Gives]]:
        """What each way costs for what it brings, each resource weighed by how much of it is missing; and who gives it.

        All that is asked of every way is found in one pass: few steps follow, so that this is most of the work.
        """
        short = self._short
        values, offered = [], []
        taken = [0] * len(short)
        for item in self._items:
            value: list[float] = []
            gives: _Gives = {}
            takes: dict[int, int] = {}
            for way in item.ways:
                brings = 0.0
                for resource, given in enumerate(way.gives):
                    if given > 0:
                        missing = short[resource]
                        if missing > 0:
                            brings += min(given, missing) / missing
                        gives.setdefault(resource, []).append((given, way.cost))
                    elif given < 0:
                        takes[resource] = max(takes.get(resource, 0), -given)
                value.append(way.cost / brings if brings > 0 else inf)
            for resource, amount in takes.items():
                taken[resource] += amount
            values.append(value)
            offered.append(gives)
        # More than this of a resource helps nobody, even if all that take some of it are chosen.
        self._caps = [missing + more for missing, more in zip(short, taken, strict=True)]
        return values, offered

    def _offer(self, index: int, gives: _Gives) -> None:
        """Note at which price at least, how much at most an item gives of each resource."""
        # Each missing resource that it gives may be held to bear the same part of its cost. What becomes short only on
        # the way is borne by none: the whole cost is shared out among the others.
        bearers = sum([self._short[resource] > 0 for resource in gives])
        for resource, ways in gives.items():
            cap = self._caps[resource]
            if cap > 0:
                share = 1 / bearers if self._short[resource] > 0 else 0.0
                least = min([cost / min(given, cap) for given, cost in ways])
                most = min(max([given for given, _ in ways]), cap)
                self._offers[resource].append((least * share, most, 1 << index))

    def _likeliest(self, order: list[int]) -> list[int]:
        """Those of the best cover known, then the cheapest, with all that they bring along."""
        kept = self._must
        for index in (*(self._found or ()), *order):
            wanted = kept | self._items[index].along | 1 << index
            if wanted.bit_count() <= MOST_ITEMS:
                kept = wanted
        return [index for index in order if kept >> index & 1]

    def _exclusions(self) -> dict[int, int]:
        """Which items are out of question once an item is not chosen: those that bring it along, and worse ones."""
        items = self._items
        excluded = dict.fromkeys(self._order, 0)
        tied = self._must
        for index in self._order:
            along = items[index].along
            if along:
                tied |= along | 1 << index
                for other in self._order:
                    if along >> other & 1:
                        excluded[other] |= 1 << index
        loose = [index for index in self._order if not tied >> index & 1]
        for place, index in enumerate(loose):
            for other in loose[place + 1 :]:
                if self._dominates(items[index], items[other]):
                    excluded[index] |= 1 << other
        return excluded

    def _dominates(self, item: Item, other: Item) -> bool:
        """Wherever the other is chosen, this one would do as well for no more."""
        for than in other.ways:
            for way in item.ways:
                if way.cost <= than.cost and self._gives_as_much(way, than):
                    break
            else:
                return False
        return True

    def _gives_as_much(self, way: Way, than: Way) -> bool:
        for mine, theirs, cap in zip(way.gives, than.gives, self._caps, strict=True):
            if mine < theirs and mine < cap:
                return False
        return True

    def _branch(self, place: int, must: int, never: int, short: tuple[int, ...], cost: float) -> None:
        """Decide the item at this place of the order and all after it.

        Args:
            place: In the order.
            must: Bits of items that are to be chosen.
            never: Bits of items that may not be chosen.
            short: What is still missing.
            cost: Of what is chosen so far.
        """
        self.nodes -= 1
        if self.nodes < 0:
            return
        chosen = self._chosen
        if not must & self._left[place] and max(short, default=0) <= 0:
            self._keep(cost, chosen)
            return
        if place == len(self._order) or cost + self._least(place, short) >= self._best - TRIFLE:
            return
        index = self._order[place]
        item, bit = self._items[index], 1 << index
        if not never & bit:
            for number in self._ways[index]:
                way = item.ways[number]
                chosen[index] = number
                rest = tuple([missing - given for missing, given in zip(short, way.gives, strict=True)])
                self._branch(place + 1, must | item.along, never, rest, cost + way.cost)
            del chosen[index]
        if not must & bit:
            if self._excluded is None:
                self._excluded = self._exclusions()
            self._branch(place + 1, must, never | self._excluded[index], short, cost)

    def _least(self, place: int, short: tuple[int, ...]) -> float:
        """At least so much is to be paid for what is missing, from this place on; infinity if it can't be had."""
        relaxed = self._relaxed[place]
        if relaxed is None:
            self.nodes -= len(short)
            relaxed = self._relaxed[place] = [self._relax(place, resource) for resource in range(len(short))]
        return sum([line.cost(missing) for line, missing in zip(relaxed, short, strict=True) if missing > 0])

    def _relax(self, place: int, resource: int) -> "_Relaxed":
        left = self._left[place]
        return _Relaxed([(price, most) for price, most, bit in self._offers[resource] if left & bit])


class _Relaxed:
    """One resource, bought piece by piece from items that can be divided: what it costs at least."""

    __slots__ = ("_costs", "_given", "_prices")

    def __init__(self, pieces: list[tuple[float, int]]) -> None:
        self._prices = [price for price, _ in pieces]
        self._given = list(accumulate([given for _, given in pieces], initial=0))
        self._costs = list(accumulate([price * given for price, given in pieces], initial=0.0))

    def cost(self, missing: int) -> float:
        place = bisect_left(self._given, missing) - 1
        if place == len(self._prices):
            return inf
        return self._costs[place] + (missing - self._given[place]) * self._prices[place]
