"""A quick cover: items chosen by what they cost for what they give, one resource after the other.

For one resource, and items that can be chosen in one way each, it costs at most twice the least; for several, at
most twice the least for each. It is where the search for the cheapest begins, and what is left of it when there are
too many items.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Way(NamedTuple):
    """One way to choose an item.

    Attributes:
        cost: Not negative.
        gives: Of each resource; negative where it takes some.
    """

    cost: float
    gives: tuple[int, ...]


class Item(NamedTuple):
    """What can be chosen.

    Attributes:
        ways: How; at least one.
        along: Bits of the items that are chosen whenever this one is; theirs are among them.
        must: It is chosen in any case.
    """

    ways: tuple[Way, ...]
    along: int = 0
    must: bool = False


def greedy(items: Sequence[Item], short: Sequence[int], *, thorough: bool = False) -> dict[int, int] | None:
    """Cover what is short without looking back, then drop what is not needed.

    Args:
        items: What can be chosen.
        short: How much of each resource is missing; negative where there is some to spare.
        thorough: Choose each item in the way that gives the most. A choice can come to nothing because it was too
            gentle on some; this one, where one way of each item gives the most of all, only if there is no cover.

    Returns:
        The way taken, by item; None if it came to nothing.

    Example:
        >>> items = [Item((Way(1.0, (2,)),)), Item((Way(5.0, (10,)),)), Item((Way(9.0, (10,)),))]
        >>> greedy(items, [10])
        {1: 0}
    """
    choice = _Choice(items, list(short), thorough)
    for index, item in enumerate(items):
        if item.must:
            choice.take(index)
    while (resource := choice.wanting()) is not None:
        if not choice.cover(resource):
            return None
    choice.drop_needless()
    return choice.chosen


class _Choice:
    """A choice in the making."""

    def __init__(self, items: Sequence[Item], short: list[int], thorough: bool) -> None:
        self.chosen: dict[int, int] = {}
        self._items = items
        self._short = short
        self._thorough = thorough

    def wanting(self) -> int | None:
        """The first resource that is short."""
        return next((resource for resource, missing in enumerate(self._short) if missing > 0), None)

    def take(self, index: int, way: int | None = None) -> None:
        """Choose an item and all that it brings along."""
        if index in self.chosen:
            return
        item = self._items[index]
        self.chosen[index] = chosen = self._usual(item) if way is None else way
        self._add(item.ways[chosen], 1)
        for other in range(item.along.bit_length()):
            if item.along >> other & 1:
                self.take(other)

    def cover(self, resource: int) -> bool:
        """Choose items until nothing is missing of a resource; could it be done?

        Cheapest for what it gives first. An item that would complete the cover is never added, only noted: the
        cheapest of the covers completed so is taken. It costs at most twice the least.
        """
        missing, cost = self._short[resource], 0.0
        added: list[tuple[int, int]] = []
        cheapest, last = float("inf"), None
        for index, way, price, given in self._offers(resource):
            if any(index == other for other, _ in added):
                continue
            if given >= missing:
                if cost + price < cheapest or last is None:
                    cheapest, last = cost + price, (*added, (index, way))
            elif cost + price >= cheapest:
                break
            else:
                added.append((index, way))
                missing -= given
                cost += price
        for index, way in last or ():
            self.take(index, way)
        return last is not None

    def drop_needless(self) -> None:
        """Take back every item without which the others do, the dearest first."""
        while (index := self._needless()) is not None:
            self._add(self._items[index].ways[self.chosen.pop(index)], -1)

    def _needless(self) -> int | None:
        items, chosen = self._items, self.chosen
        for index in sorted(chosen, key=lambda index: -items[index].ways[chosen[index]].cost):
            gives = items[index].ways[chosen[index]].gives
            if all(missing + given <= 0 for missing, given in zip(self._short, gives, strict=True)) and not (
                items[index].must or any(items[other].along >> index & 1 for other in chosen)
            ):
                return index
        return None

    def _offers(self, resource: int) -> list[tuple[int, int, float, int]]:
        """Who gives some of a resource and in which way, at which cost and how much; best value first."""
        offers = []
        for index, item in enumerate(self._items):
            if index in self.chosen:
                continue
            for number in (self._usual(item),) if self._thorough else range(len(item.ways)):
                way = item.ways[number]
                if way.gives[resource] > 0:
                    offers.append((index, number, way.cost, way.gives[resource]))
        offers.sort(key=lambda offer: offer[2] / offer[3])
        return offers

    def _usual(self, item: Item) -> int:
        """The way in which an item is chosen where no resource asks for another."""
        ways = range(len(item.ways))
        if self._thorough:
            return max(ways, key=lambda way: sum(item.ways[way].gives))
        return min(ways, key=lambda way: item.ways[way].cost)

    def _add(self, way: Way, sign: int) -> None:
        for resource, given in enumerate(way.gives):
            self._short[resource] -= sign * given
