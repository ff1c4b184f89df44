"""Victims: who gives room, at the least regret, so that a demand fits.

Pure. Turns devices, host memory and named resources into a cover problem for each set of devices that could be
chosen, the most promising set first, and skips those that can't beat what was found. It does not judge who may be
asked to leave: its caller says so.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from ai_proxy.devices import Placement
from ai_proxy.scheduler.asks import Ask, Choice, Resident, Rung, Victim
from ai_proxy.scheduler.cover import Key, Search
from ai_proxy.scheduler.greedy import Item, Way
from ai_proxy.scheduler.ledger import Ledger

NODES = 600
"""Steps of the search for one ask: about 3 ms."""

_MEMORY = ""
"""Stands for host memory among the names of what devices share; no resource of the config has an empty name."""


def least_regret(
    ask: Ask, ledger: Ledger, residents: Mapping[str, Resident], candidates: Collection[str], *, budget: int = NODES
) -> Choice | None:
    """Choose who gives room so that an ask fits.

    Devices on which something loads come into question only if the others can't do.

    Args:
        ask: What must fit.
        ledger: What is held, without those that leave anyway.
        residents: Who holds it, by holder.
        candidates: Holders that may be asked, in an order that decides between equals. Whoever brings along one
            that may not be asked is not asked either.
        budget: So many steps of search at most.

    Returns:
        Those with the least regret; None if not even all of them would do.

    Example:
        >>> from types import SimpleNamespace
        >>> from ai_proxy.devices import Device
        >>> from ai_proxy.scheduler.ledger import Demand
        >>> gpu = Device("0", "GPU-a", 24000)
        >>> ledger = Ledger([gpu], 0)
        >>> ledger.reserve("old", Placement((gpu,), vram_mb=20000))
        >>> old = SimpleNamespace(service="old", rungs=[Rung(0, Placement(), 7.5)], along=())
        >>> least_regret(Ask("chat", Demand(gpus=1, vram_mb=9000)), ledger, {"old": old}, ["old"])
        Choice(victims=(Victim(holder='old', level=0),), regret=7.5, exact=True)
    """
    room = _Room(ask, ledger, residents, candidates)
    if room.hopeless:
        return None
    choice = room.choose(ask.loading, budget)
    return room.choose((), budget) if choice is None and ask.loading else choice


def vacated(ledger: Ledger, residents: Mapping[str, Resident], victims: Sequence[Victim]) -> Ledger:
    """A ledger of its own in which these have given the room that they would give."""
    other = ledger.without(victim.holder for victim in victims)
    for victim in victims:
        if victim.level:
            keeps = next(rung.keeps for rung in residents[victim.holder].rungs if rung.level == victim.level)
            other.reserve(victim.holder, keeps)
    return other


@dataclass(frozen=True, slots=True)
class _Leaver:
    """A candidate, once somebody has looked at it.

    Attributes:
        rungs: Only the stop, for one whose service is in conflict with the one that asks.
        along: Holders that leave with it, theirs included.
    """

    holder: str
    rungs: tuple[Rung, ...]
    along: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Site:
    """A device in question.

    Attributes:
        uuid: Which.
        short: What is missing on it: MiB, or the leaving of so many holders for a demand that takes it as a whole.
        bound: At least so much regret, and so many victims, make the room; none if nothing is missing.
        leavers: Who can make it.
    """

    uuid: str
    short: int
    bound: Key = (0.0, 0)
    leavers: tuple[_Leaver, ...] = ()


class _Room:
    """One ask for room, and what has been found out for it."""

    def __init__(
        self, ask: Ask, ledger: Ledger, residents: Mapping[str, Resident], candidates: Collection[str]
    ) -> None:
        self._ask = ask
        self._ledger = ledger
        self._residents = residents
        self._candidates = dict.fromkeys(candidates)
        self._spared = ask.requires | {ask.service}
        self._whole = ask.demand.vram_mb is None
        self._leavers: dict[str, _Leaver | None] = {}

        self._shared = {_MEMORY: self._short_of(_MEMORY, ask.demand.memory_mb)}
        self._shared |= {name: self._short_of(name, amount) for name, amount in ask.demand.custom}
        rivals = self._rivals()
        found = [leaver for holder in rivals if (leaver := self._leaver(holder)) is not None]
        self._must = frozenset[str]().union(*({leaver.holder, *leaver.along} for leaver in found))
        self.hopeless = len(found) < len(rivals) or any(
            short > sum(self._shares(leaver, leaver.rungs[-1], name) for leaver in self._all_with(name))
            for name, short in self._shared.items()
            if short > 0
        )

    def choose(self, avoid: Collection[str], budget: int) -> Choice | None:
        """Choose who leaves so that it fits on devices other than these."""
        gpus = self._ask.demand.gpus
        sites = self._sites(avoid) if gpus else []
        if len(sites) < gpus:
            return None
        best, victims, exact = (inf, 0), None, True
        for bound, chosen in _sets(sites, gpus):
            if bound >= best:
                break
            if budget <= 0 and victims is not None:
                exact = False
                break
            leavers, items, short = self._problem(chosen)
            search = Search(items, short, bound=best, nodes=budget)
            cover = search.run()
            budget = search.nodes
            exact = exact and search.complete
            if cover is not None:
                best = cover.key
                victims = tuple(
                    Victim(leavers[index].holder, leavers[index].rungs[way].level)
                    for index, way in sorted(cover.chosen.items())
                )
        return None if victims is None else Choice(victims, best[0], exact)

    def _short_of(self, name: str, amount: int) -> int:
        """How much is missing of what devices share. Whoever wants none of it is not short, nor may take more."""
        free = self._ledger.free_memory_mb if name == _MEMORY else self._ledger.free_custom(name)
        return amount - free if amount else min(0, -free)

    def _rivals(self) -> list[str]:
        """Holders that may not be there at the same time."""
        if not self._ask.conflicts:
            return []
        return [
            holder
            for holder, resident in self._residents.items()
            if resident.service in self._ask.conflicts and holder in self._ledger
        ]

    def _leaver(self, holder: str) -> _Leaver | None:
        """Look at a candidate; None if it, or one that it brings along, is none."""
        if holder in self._leavers:
            return self._leavers[holder]
        leaver = None
        if holder in self._candidates and (along := self._closure(holder)) is not None:
            resident = self._residents[holder]
            rungs = tuple(resident.rungs)
            if resident.service in self._ask.conflicts:
                rungs = tuple(rung for rung in rungs if not rung.level)
            leaver = _Leaver(holder, rungs, along)
        self._leavers[holder] = leaver
        return leaver

    def _closure(self, holder: str) -> frozenset[str] | None:
        """All that leave with a holder; None if one of them may not be asked."""
        found: set[str] = set()
        ahead = [holder]
        while ahead:
            resident = self._residents[ahead.pop()]
            if resident.service in self._spared:
                return None
            for other in resident.along:
                if other in self._ledger and other != holder and other not in found:
                    if other not in self._candidates:
                        return None
                    found.add(other)
                    ahead.append(other)
        return frozenset(found)

    def _all_with(self, name: str) -> list[_Leaver]:
        """Candidates that have some of what devices share."""
        found = []
        for holder in self._candidates:
            placement = self._ledger.placement(holder)
            if _amount(placement, name) and (leaver := self._leaver(holder)) is not None:
                found.append(leaver)
        return found

    def _sites(self, avoid: Collection[str]) -> list[_Site]:
        """The devices on which room is or can be made, the cheapest first."""
        ledger, demand = self._ledger, self._ask.demand
        sites = []
        for device in ledger.eligible(demand):
            uuid = device.uuid
            if uuid in avoid:
                continue
            short = len(ledger.holders_on(uuid)) if self._whole else demand.least_vram_mb - ledger.free_mb(device)
            if short <= 0:
                sites.append(_Site(uuid, short))
            elif (site := self._site(uuid, short)) is not None:
                sites.append(site)
        sites.sort(key=lambda site: site.bound)
        return sites

    def _site(self, uuid: str, short: int) -> _Site | None:
        """A device on which so much is missing; None if it can't be had."""
        charges, candidates = self._ledger.holders_on(uuid), self._candidates
        reach = sum([1 if self._whole else charged for holder, charged in charges.items() if holder in candidates])
        if reach < short:
            return None
        leavers, offers = [], []
        for holder in charges:
            leaver = self._leaver(holder)
            if leaver is None:
                continue
            most = max([self._gives(leaver, rung, uuid) for rung in leaver.rungs])
            if most > 0:
                leavers.append(leaver)
                offers.append((self._least_cost(leaver), most))
        bound = _bound(offers, short)
        return None if bound is None else _Site(uuid, short, bound, tuple(leavers))

    def _least_cost(self, leaver: _Leaver) -> float:
        """What a leaver costs a device at least, if it costs each of the devices that it is on the same."""
        if leaver.holder in self._must:
            return 0.0
        cost = min([rung.regret for rung in leaver.rungs])
        if self._ask.demand.gpus > 1:
            cost /= len(self._ledger.placement(leaver.holder).devices) or 1
        return cost

    def _gives(self, leaver: _Leaver, rung: Rung, uuid: str) -> int:
        """What a way to leave frees of a device."""
        charged = self._ledger.holders_on(uuid).get(leaver.holder)
        if charged is None:
            return 0
        kept = [device for device in rung.keeps.devices if device.uuid == uuid]
        if self._whole:
            return int(not kept)
        return charged - min(rung.keeps.vram_mb, kept[0].vram_mb) if kept else charged

    def _shares(self, leaver: _Leaver, rung: Rung, name: str) -> int:
        """What a way to leave frees of what devices share; negative where it takes some."""
        return _amount(self._ledger.placement(leaver.holder), name) - _amount(rung.keeps, name)

    def _problem(self, sites: Sequence[_Site]) -> tuple[list[_Leaver], list[Item], list[int]]:
        """The cover problem of making room on these devices: who can be chosen, as items, and what is short."""
        short_sites = [site for site in sites if site.short > 0]
        found = {leaver.holder: leaver for site in short_sites for leaver in site.leavers}
        self._gather(found, self._must)
        shared = [name for name, short in self._shared.items() if self._matters(name, short, found)]
        for name in shared:
            self._gather(found, [leaver.holder for leaver in self._all_with(name)])
        leavers = list(found.values())
        bits = {leaver.holder: 1 << index for index, leaver in enumerate(leavers)}
        items = [
            Item(
                tuple(
                    Way(
                        rung.regret,
                        (
                            *(self._gives(leaver, rung, site.uuid) for site in short_sites),
                            *(self._shares(leaver, rung, name) for name in shared),
                        ),
                    )
                    for rung in leaver.rungs
                ),
                sum(bits[other] for other in leaver.along),
                leaver.holder in self._must,
            )
            for leaver in leavers
        ]
        return leavers, items, [*(site.short for site in short_sites), *(self._shared[name] for name in shared)]

    def _matters(self, name: str, short: int, found: Mapping[str, _Leaver]) -> bool:
        """Something shared is short, or would be if all of these left in the way that takes the most of it."""
        if short > 0:
            return True
        takes = sum(max(0, *(-self._shares(leaver, rung, name) for rung in leaver.rungs)) for leaver in found.values())
        return short + takes > 0

    def _gather(self, found: dict[str, _Leaver], holders: Iterable[str]) -> None:
        """Add these and all that leave with them or with those that are there already."""
        for leaver in [*found.values(), *map(self._leaver, holders)]:
            if leaver is not None and leaver.holder not in found:
                found[leaver.holder] = leaver
        for leaver in list(found.values()):
            for other in leaver.along:
                if (brought := self._leaver(other)) is not None:
                    found.setdefault(other, brought)


def _amount(placement: Placement, name: str) -> int:
    """What a placement has of what devices share."""
    return placement.memory_mb if name == _MEMORY else sum(amount for key, amount in placement.custom if key == name)


def _bound(offers: list[tuple[float, int]], short: int) -> Key | None:
    """At least so much is to be paid, to so many, for what is short; None if it can't be had.

    Args:
        offers: For how much, how much at most.
        short: What is missing.

    Example:
        >>> _bound([(5.0, 10), (1.0, 10), (2.0, 4)], 12)
        (3.0, 2)
    """
    rest, count = short, 0
    for _, given in sorted(offers, key=lambda offer: -offer[1]):
        rest -= given
        count += 1
        if rest <= 0:
            break
    if rest > 0:
        return None
    rest, pieces = short, 0.0
    for cost, given in sorted(offers, key=lambda offer: offer[0] / offer[1]):
        if rest <= given:
            pieces += cost * rest / given
            break
        pieces += cost
        rest -= given
    return max(pieces, sum(sorted([cost for cost, _ in offers])[:count])), count


def _sets(sites: Sequence[_Site], size: int) -> Iterator[tuple[Key, list[_Site]]]:
    """All sets of so many sites with what each costs at least, the cheapest first; `sites` are in that order."""
    first = tuple(range(size))
    heap = [(_bound_of(sites, first), first)]
    seen = {first}
    while heap:
        bound, places = heappop(heap)
        yield bound, [sites[place] for place in places]
        for index, place in enumerate(places):
            following = (*places[:index], place + 1, *places[index + 1 :])
            is_free = place + 1 < (places[index + 1] if index + 1 < size else len(sites))
            if is_free and following not in seen:
                seen.add(following)
                heappush(heap, (_bound_of(sites, following), following))


def _bound_of(sites: Sequence[_Site], places: tuple[int, ...]) -> Key:
    bounds = [sites[place].bound for place in places]
    return sum(cost for cost, _ in bounds), max((count for _, count in bounds), default=0)
