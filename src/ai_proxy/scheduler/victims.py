"""Victims: who gives room, at the least regret, so that a demand fits.

Pure. For each set of devices that could be chosen, the most promising set first, the room to be made is a cover
problem over devices, host memory and named resources; sets that can't beat what was found are skipped. It does not
judge who may be asked to leave: its caller says so.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from math import inf

from ai_proxy.devices import Device
from ai_proxy.scheduler.asks import Ask, Choice, Fleet, Rung, Victim
from ai_proxy.scheduler.cover import TRIFLE, Search
from ai_proxy.scheduler.greedy import Item, Way
from ai_proxy.scheduler.leavers import Leavers
from ai_proxy.scheduler.ledger import Ledger
from ai_proxy.scheduler.sites import EACH, Site, Sites

NODES = 400
"""Steps of the search for one ask, each of which takes some microseconds: about 2 ms."""

_LOOKS = 4
"""To find the floors of so many candidates takes as long as a step; a large fleet may use up half of the steps so."""


def least_regret(
    ask: Ask, ledger: Ledger, fleet: Fleet, candidates: Collection[str], *, budget: int = NODES
) -> Choice | None:
    """Choose who gives room so that an ask fits.

    Devices on which something loads come into question only if the others can't do.

    Args:
        ask: What must fit.
        ledger: What is held, without those that leave anyway.
        fleet: Who holds it.
        candidates: Holders that may be asked, busy or not. Whoever brings along one that may not be asked is not
            asked either.
        budget: So many steps of search at most; to look at a large fleet counts as some of them.

    Returns:
        Those with the least regret; None if not even all of them would do.

    Example:
        >>> from ai_proxy.devices import Device, Placement
        >>> from ai_proxy.scheduler.ledger import Demand
        >>> from ai_proxy.scheduler.residents import Residents
        >>> from ai_proxy.scheduler.spec import ServiceSpec
        >>> from ai_proxy.scheduler.state import SchedulerState, ServiceState
        >>> gpu = Device("0", "GPU-a", 24000)
        >>> state = SchedulerState(Ledger([gpu], 0))
        >>> old = ServiceState(ServiceSpec("old", Demand(gpus=1, vram_mb=20000)))
        >>> state.replicas["old"] = old.replicas[0]
        >>> state.ledger.reserve("old", Placement((gpu,), vram_mb=20000))
        >>> choice = least_regret(
        ...     Ask("chat", Demand(gpus=1, vram_mb=9000)), state.ledger, Residents(state, now=0.0), ["old"]
        ... )
        >>> choice.victims, choice.exact
        ((Victim(holder='old', level=0),), True)
    """
    leavers = Leavers(ask, ledger, fleet, candidates)
    if leavers.hopeless:
        return None
    budget -= min(len(candidates) // _LOOKS, budget // 2)
    choice = _chosen(ask, ledger, leavers, ask.closed, budget)
    if choice is None and ask.loading:
        choice = _chosen(ask, ledger, leavers, ask.lost, budget)
    return choice if choice is None or choice.exact else _needed(ask, ledger, leavers, choice)


def _chosen(ask: Ask, ledger: Ledger, leavers: Leavers, avoid: Collection[str], budget: int) -> Choice | None:
    """The best choice for any set of devices that may be combined."""
    best, exact = None, True
    for alike in ledger.alike(ask.demand):
        devices = [device for device in alike if device.uuid not in avoid] if avoid else alike
        room = _Room(ask, ledger, leavers, devices, budget)
        choice = room.choose()
        if choice is not None and (best is None or choice.regret < best.regret):
            best = choice
        exact, budget = exact and room.exact, room.nodes
    return best if best is None or best.exact == exact else replace(best, exact=exact)


def vacated(ledger: Ledger, victims: Iterable[Victim]) -> Ledger:
    """A ledger of its own in which these have given the room that they would give."""
    victims = tuple(victims)
    other = ledger.without(victim.holder for victim in victims)
    for victim in victims:
        if victim.level:
            other.reserve(victim.holder, victim.keeps)
    return other


def _needed(ask: Ask, ledger: Ledger, leavers: Leavers, choice: Choice) -> Choice:
    """Spare whom a search that was cut off has chosen in vain, the most missed first."""
    room = vacated(ledger, choice.victims)
    avoid = ask.closed if room.fit(ask.demand, ask.closed) else ask.lost

    def others_do(victim: Victim, others: Sequence[Victim]) -> bool:
        if victim.holder in leavers.must or any(victim.holder in leavers.along(other.holder) for other in others):
            return False
        ledger.repeat(victim.holder, room)
        if room.free_memory_mb >= min(0, ledger.free_memory_mb) and room.fit(ask.demand, avoid) is not None:
            return True
        room.release(victim.holder)
        if victim.level:
            room.reserve(victim.holder, victim.keeps)
        return False

    victims = choice.victims
    while True:
        for victim in reversed(victims):
            others = tuple([other for other in victims if other is not victim])
            if others_do(victim, others):
                victims = others
                break
        else:
            break
    levels = {victim.holder: victim.level for victim in victims}
    regrets = [r.regret for holder, level in levels.items() for r in leavers.rungs(holder) if r.level == level]
    return replace(choice, victims=victims, regret=sum(regrets))


class _Room:
    """Room for one ask, on some of these devices.

    Attributes:
        exact: Whether the search came to its end.
    """

    def __init__(self, ask: Ask, ledger: Ledger, leavers: Leavers, devices: Iterable[Device], nodes: int) -> None:
        self._gpus = ask.demand.gpus
        self._leavers = leavers
        self._sites = Sites(ask, ledger, leavers, devices, nodes=nodes)

        self._best = inf
        self._found: dict[str, Rung] | None = None
        self.exact = True

    @property
    def nodes(self) -> int:
        """Steps that are left."""
        return self._sites.nodes

    def choose(self) -> Choice | None:
        """Choose who gives room; None if there is not enough."""
        sites = self._sites
        for bound, chosen in self._sets(self._gpus):
            if sites.nodes <= 0 and self._found is not None:
                self.exact = False
                break
            sites.nodes -= 1
            if (apart := self._apart(chosen, bound)) is not None:
                self._best, self._found = bound, apart
            else:
                self._search(chosen)
        if self._found is None:
            return None
        found = sorted(self._found.items(), key=lambda item: (item[1].regret, item[0]))
        victims = tuple([Victim(holder, rung.level, rung.keeps) for holder, rung in found])
        return Choice(victims, sum([rung.regret for _, rung in found]), self.exact)

    def _sets(self, size: int) -> Iterator[tuple[float, list[Site]]]:
        """All sets of so many sites with what each costs at least, the cheapest first, while they beat the best."""
        sites = self._sites
        first = [site for place in range(size) if (site := sites.at(place)) is not None]
        ahead = [(sum([site.bound for site in first]), tuple(range(size)), first)] if len(first) == size else []
        seen = {tuple(range(size))}
        while ahead:
            bound, places, chosen = heappop(ahead)
            if bound >= self._best - TRIFLE:
                return
            yield bound, chosen
            for index, place in enumerate(places):
                following = (*places[:index], place + 1, *places[index + 1 :])
                if place + 1 in places or following in seen:
                    continue
                seen.add(following)
                others = sum([site.bound for site in chosen if site is not chosen[index]])
                if (site := sites.at(place + 1, below=self._best - TRIFLE - others)) is not None:
                    heappush(ahead, (others + site.bound, following, [*chosen[:index], site, *chosen[index + 1 :]]))

    def _apart(self, sites: Sequence[Site], bound: float) -> dict[str, Rung] | None:
        """What is cheapest for each of these devices alone, if that is all there is to it: nothing can cost less."""
        found: dict[str, Rung] = {}
        for site in sites:
            if site.ways is None or any(found.get(holder, rung) is not rung for holder, rung in site.ways.items()):
                return None
            found |= site.ways
        cost = sum([rung.regret + EACH for rung in found.values()])
        leavers = self._leavers
        if leavers.must or cost > bound + TRIFLE or any(missing > 0 for missing in leavers.left(found).values()):
            return None
        return None if any(brings for holder in found if (brings := leavers.along(holder))) else found

    def _search(self, sites: Sequence[Site]) -> None:
        """Search for the cheapest way to make the room on these devices."""
        leavers = self._leavers
        short = {site.uuid: site.short for site in sites if site.short > 0}
        shared = leavers.shared_at_stake(short)
        found = list(leavers.for_room(short, shared))
        bits = {leaver.holder: 1 << index for index, leaver in enumerate(found)}
        there = [(uuid, leavers.on(uuid)) for uuid in short]
        items = []
        for holder, rungs, along in found:
            ways = []
            for rung in rungs:
                frees = [leavers.frees(holder, rung, uuid) if holder in who else 0 for uuid, who in there]
                frees += [leavers.frees_shared(holder, rung, name) for name in shared]
                ways.append(Way(rung.regret + EACH, tuple(frees)))
            items.append(Item(tuple(ways), sum([bits[other] for other in along]), holder in leavers.must))
        missing = [*short.values(), *(leavers.shared[name] for name in shared)]
        search = Search(items, missing, bound=self._best, nodes=max(0, self._sites.nodes))
        cover = search.run()
        self._sites.nodes = search.nodes
        self.exact = self.exact and search.complete
        if cover is not None:
            self._best = cover.cost
            self._found = {found[index].holder: found[index].rungs[way] for index, way in cover.chosen.items()}
