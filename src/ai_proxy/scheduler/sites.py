"""Sites: the devices on which room could be made for one ask, and what that costs at least on each.

Pure. They come cheapest first. Each is looked at in three steps, and only those that come first by the last one go
through the next: a floor that takes next to nothing to find, a bound, and what it really costs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import repeat
from math import inf

from ai_proxy.devices import Device
from ai_proxy.scheduler.asks import Ask, Rung
from ai_proxy.scheduler.cover import Search
from ai_proxy.scheduler.greedy import Item, Way
from ai_proxy.scheduler.leavers import Leavers
from ai_proxy.scheduler.ledger import Books, Ledger

EACH = 1e-6
"""What a victim costs beside its regret, in seconds: of two choices that are missed as little, the smaller."""


@dataclass(slots=True)
class Site:
    """A device in question.

    Attributes:
        uuid: Which.
        short: What is missing on it: MiB, or the leaving of so many holders for an ask that takes it as a whole.
        bound: It costs at least so much.
        ways: The cheapest way to make the room here alone, by holder; None if it is not known.
        settled: Nothing more is to be found out.
    """

    uuid: str
    short: int
    bound: float = 0.0
    ways: dict[str, Rung] | None = None
    settled: bool = False


class Sites:
    """The devices on which there is or can be room for an ask, cheapest first.

    Whoever is on several devices costs each of them its part, if the ask is for several: what a set of devices
    costs is then never less than the sum of their bounds.

    Args:
        ask: What must fit.
        ledger: What is held, without those that leave anyway.
        leavers: Who may be asked.
        devices: Those that come into question.
        nodes: So many steps of search may be taken.

    Attributes:
        nodes: Steps that are left.
    """

    def __init__(self, ask: Ask, ledger: Ledger, leavers: Leavers, devices: Iterable[Device], *, nodes: int) -> None:
        self.nodes = nodes
        self._ask = ask
        self._whole = ask.demand.vram_mb is None
        self._unshared = ask.demand.gpus == 1 and not leavers.must
        self._ledger = ledger
        self._leavers = leavers
        self._sorted: list[Site] = []
        self._missing: list[tuple[str, int]] = []
        self._ahead: list[tuple[float, int, Site | None]] = []
        self._look_at(ledger.books(devices))

    def __repr__(self) -> str:
        return f"<Sites for {self._ask.service}: {len(self._sorted)} in order, at most {len(self._ahead)} more>"

    def at(self, place: int, *, below: float = inf) -> Site | None:
        """The site at a place of the order; None if there are fewer, or it does not cost less than `below`."""
        while len(self._sorted) <= place:
            if not self._ahead or self._ahead[0][0] >= below:
                return None
            _, number, site = heappop(self._ahead)
            if site is not None and (site.settled or self.nodes <= 0):
                self._sorted.append(site)
                continue
            if site is None:
                site = self._site(*self._missing[number])
            else:
                self._settle(site)
            if site is not None:
                heappush(self._ahead, (site.bound, number, site))
        return self._sorted[place]

    def _look_at(self, books: Iterable[Books]) -> None:
        """Find what is missing on each device and what it costs no less than, if those who may be asked have enough.

        This is done for every device, so that nobody is looked at for it and next to nothing is called.
        """
        whole, needed_mb = self._whole, self._ask.demand.least_vram_mb
        floors = self._floors()
        missing, ahead = self._missing, self._ahead
        for device, _, free_mb, _, charges in books:
            short = len(charges) if whole else needed_mb - free_mb
            least = 0.0
            if short > 0:
                least = min(map(floors.get, charges, repeat(inf)), default=inf)
                given = [charged for holder, charged in charges.items() if holder in floors]
                if (len(given) if whole else sum(given)) < short:
                    continue
            ahead.append((least, len(missing), None))
            missing.append((device.uuid, short))
        heapify(ahead)

    def _floors(self) -> dict[str, float]:
        """What each of those who may be asked costs at least each device that it is on."""
        floors = self._leavers.floors
        if self._unshared:
            return floors
        return self._ledger.shared_out(floors) | dict.fromkeys(self._leavers.must, 0.0)

    def _site(self, uuid: str, short: int) -> Site | None:
        """A device on which so much is missing; None if it can't be had."""
        if short <= 0:
            return Site(uuid, short, ways={}, settled=True)
        charges, leavers, whole = self._ledger.holders_on(uuid), self._leavers, self._whole
        offers: list[tuple[float, int]] = []
        reach, alone, only = 0, inf, None
        for holder, charged in charges.items():
            leaver = leavers.get(holder)
            if leaver is None:
                continue
            share = 1.0 if self._unshared else self._share(holder)
            least, most = inf, 0
            for rung in leaver.rungs:
                frees = leavers.frees(holder, rung, uuid) if rung.level else (1 if whole else charged)
                if frees > 0:
                    cost = (rung.regret + EACH) * share
                    least, most = min(least, cost), max(most, frees)
                    if frees >= short and cost < alone:
                        alone, only = cost, (holder, rung)
            if most:
                offers.append((least, most))
                reach += most
        if reach < short:
            return None
        bound = _bound(offers, short, alone)
        if only is not None and bound >= alone:
            return Site(uuid, short, bound, dict([only]), settled=True)
        return Site(uuid, short, bound)

    def _share(self, holder: str) -> float:
        """The part of its cost that a holder costs each device that it is on."""
        if holder in self._leavers.must:
            return 0.0
        return 1.0 if self._ask.demand.gpus == 1 else 1 / self._ledger.spread(holder)

    def _ways(self, holder: str, uuid: str) -> list[tuple[Rung, float, int]]:
        """The ways of a holder to give room on a device: what each costs this device, and what it frees of it."""
        leaver = self._leavers.get(holder)
        if leaver is None:
            return []
        share = self._share(holder)
        ways = [(rung, (rung.regret + EACH) * share, self._leavers.frees(holder, rung, uuid)) for rung in leaver.rungs]
        return [way for way in ways if way[2] > 0]

    def _settle(self, site: Site) -> None:
        """Find the cheapest way to make the room on a device, as if it were the only one and nothing were shared."""
        site.settled = True
        holders = {
            holder: ways for holder in self._ledger.holders_on(site.uuid) if (ways := self._ways(holder, site.uuid))
        }
        items = [Item(tuple([Way(cost, (frees,)) for _, cost, frees in ways])) for ways in holders.values()]
        search = Search(items, (site.short,), nodes=self.nodes)
        cover = search.run()
        self.nodes = search.nodes
        if cover is not None and search.complete:
            named = list(holders.items())
            site.bound = max(site.bound, cover.cost)
            site.ways = {named[index][0]: named[index][1][way][0] for index, way in cover.chosen.items()}


def _bound(offers: list[tuple[float, int]], short: int, alone: float) -> float:
    """At least so much is to be paid for what is short.

    Args:
        offers: For how much at least, how much at most, from each who offers some; together it is enough.
        short: What is missing.
        alone: The cheapest offer that is enough by itself.

    Example:
        >>> _bound([(5.0, 10), (1.0, 8), (2.0, 4)], 9, alone=5.0)
        3.0
        >>> _bound([(5.0, 10), (1.0, 8), (2.0, 4)], 12, alone=inf)
        3.0
    """
    if len(offers) == 1:
        return alone
    count = 0
    for given in sorted([given for _, given in offers], reverse=True):
        short -= given
        count += 1
        if short <= 0:
            break
    costs = sorted([cost for cost, _ in offers])
    return sum(costs[:count]) if count > 1 else min(alone, costs[0] + costs[1])
