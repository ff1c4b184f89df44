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
        # More than this of a resource helps nobody, even if all that take some of it are chosen.
        self._caps = [
            missing + sum([max(0, -min([way.gives[resource] for way in item.ways])) for item in items])
            for resource, missing in enumerate(short)
        ]
        values = [[self._density(way) for way in item.ways] for item in items]
        order = sorted(range(len(items)), key=lambda index: min(values[index]))
        self._order = order if len(order) <= MOST_ITEMS else self._likeliest(order)
        self._left = [0]
        for index in reversed(self._order):
            self._left.append(self._left[-1] | 1 << index)
        self._left.reverse()
        self._ways = [sorted(range(len(value)), key=value.__getitem__) for value in values]
        self._shares = {index: self._share(items[index]) for index in self._order}
        self._offers = [self._offers_of(resource) for resource in range(len(short))]
        self._excluded: dict[int, int] | None = None
        self._relaxed: list[list[_Relaxed] | None] = [None] * len(self._order)

    def _density(self, way: Way) -> float:
        """What a way costs for what it brings, each resource weighed by how much of it is missing."""
        brings = 0.0
        for given, missing in zip(way.gives, self._short, strict=True):
            if missing > 0:
                brings += min(given, missing) / missing
        return way.cost / brings if brings > 0 else inf

    def _share(self, item: Item) -> float:
        """The part of an item's cost that each missing resource which it gives may be held to bear."""
        given = 0
        for resource, missing in enumerate(self._short):
            if missing > 0:
                for way in item.ways:
                    if way.gives[resource] > 0:
                        given += 1
                        break
        return 1 / given if given else 0.0

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

    def _offers_of(self, resource: int) -> list[tuple[float, int, int]]:
        """At which price at least, how much at most, by whom a resource is given; the cheapest first."""
        offers = []
        cap = self._caps[resource]
        # What becomes short only on the way is borne by none: the whole cost is shared out among the others.
        is_borne = self._short[resource] > 0
        for index in self._order:
            most, least = 0, inf
            for way in self._items[index].ways:
                given = min(way.gives[resource], cap)
                if given > 0:
                    most, least = max(most, given), min(least, way.cost / given)
            if most:
                offers.append((least * self._shares[index] if is_borne else 0.0, most, 1 << index))
        offers.sort()
        return offers

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
