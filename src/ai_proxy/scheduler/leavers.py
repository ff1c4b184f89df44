"""Leavers: who may be asked to give room for one ask, and what each way to do so frees.

Pure. Nobody is looked at before somebody wants to know, and nobody twice: what a resident would be missed for is
computed when it is read.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from ai_proxy.devices import Placement
from ai_proxy.scheduler.asks import Ask, Fleet, Rung
from ai_proxy.scheduler.ledger import Ledger

MEMORY = ""
"""Stands for host memory among the names of what devices share; no resource of the config has an empty name."""

_NOBODY: frozenset[str] = frozenset()


class Leaver(NamedTuple):
    """A candidate that was looked at.

    Attributes:
        holder: Its name in the ledger.
        rungs: Only the stop, for one whose service is in conflict with the one that asks.
        along: Holders that leave with it, theirs included.
    """

    holder: str
    rungs: Sequence[Rung]
    along: frozenset[str]


class Leavers:
    """Who may be asked, for one ask.

    Args:
        ask: What must fit.
        ledger: What is held, without those that leave anyway.
        fleet: Who holds it.
        candidates: Holders that may be asked.

    Attributes:
        candidates: Who may be asked, by holder, unless they bring along one that may not be.
        must: Holders that have to leave whatever else happens, as their services are in conflict.
        shared: What is missing of host memory and of named resources; negative where there is some to spare.
        hopeless: Those in conflict can't all leave, or not even all candidates have enough of what devices share.
    """

    def __init__(self, ask: Ask, ledger: Ledger, fleet: Fleet, candidates: Collection[str]) -> None:
        self._ask = ask
        self._ledger = ledger
        self._fleet = fleet
        self.candidates = dict.fromkeys(candidates)
        self._spared = ask.requires | {ask.service}
        self._known: dict[str, Leaver | None] = {}
        self._having: dict[str, list[Leaver]] = {}

        rivals = self._rivals()
        found = [leaver for holder in rivals if (leaver := self.get(holder)) is not None]
        self.must = _NOBODY.union(*({leaver.holder, *leaver.along} for leaver in found))
        self.shared = {MEMORY: self._missing(MEMORY, ask.demand.memory_mb)}
        self.shared |= {name: self._missing(name, amount) for name, amount in ask.demand.custom}
        self.hopeless = len(found) < len(rivals) or any(
            missing > sum(self._amount(leaver.holder, name) for leaver in self.having(name))
            for name, missing in self.shared.items()
            if missing > 0
        )

    def __repr__(self) -> str:
        return f"<Leavers for {self._ask.service}: {len(self.candidates)}, {len(self._known)} looked at>"

    @cached_property
    def floors(self) -> dict[str, float]:
        """What each candidate would be missed for at least."""
        return self._fleet.floors(self.candidates)

    def get(self, holder: str) -> Leaver | None:
        """Look at a holder; None if it may not be asked, or brings along one that may not."""
        if holder not in self._known:
            self._known[holder] = self._look_at(holder) if holder in self.candidates else None
        return self._known[holder]

    def having(self, name: str) -> list[Leaver]:
        """All who have some of what devices share."""
        if name not in self._having:
            holders = [holder for holder in self.candidates if self._amount(holder, name)]
            self._having[name] = [leaver for holder in holders if (leaver := self.get(holder)) is not None]
        return self._having[name]

    def along(self, holder: str) -> frozenset[str]:
        """Who leaves with a holder."""
        leaver = self.get(holder)
        return leaver.along if leaver is not None else _NOBODY

    def rungs(self, holder: str) -> Sequence[Rung]:
        """The ways in which a holder can give room for this ask."""
        leaver = self.get(holder)
        return leaver.rungs if leaver is not None else ()

    def left(self, chosen: Mapping[str, Rung]) -> dict[str, int]:
        """What is missing of what devices share if these have left in these ways."""
        return {
            name: missing - sum([self.frees_shared(holder, rung, name) for holder, rung in chosen.items()])
            for name, missing in self.shared.items()
        }

    def shared_at_stake(self, uuids: Collection[str]) -> list[str]:
        """What devices share and is short, or could become so if all who are asked for room leave."""
        at_stake = [name for name, missing in self.shared.items() if missing > 0]
        while True:
            found = self.for_room(uuids, at_stake)
            more = [name for name in self.shared if name not in at_stake and self._may_run_short(name, found)]
            if not more:
                return at_stake
            at_stake += more

    def _may_run_short(self, name: str, leavers: Iterable[Leaver]) -> bool:
        takes = [max([-self.frees_shared(leaver.holder, rung, name) for rung in leaver.rungs]) for leaver in leavers]
        return self.shared[name] + sum([taken for taken in takes if taken > 0]) > 0

    def for_room(self, uuids: Iterable[str], shared: Iterable[str]) -> list[Leaver]:
        """All who matter for room on these devices and of these shared resources, with all that leave with them."""
        holders = [holder for uuid in uuids for holder in self.on(uuid)]
        holders += [leaver.holder for name in shared for leaver in self.having(name)]
        return self._with_company([*holders, *self.must])

    def on(self, uuid: str) -> list[str]:
        """Candidates that hold some of a device."""
        return [holder for holder in self._ledger.holders_on(uuid) if holder in self.candidates]

    def _with_company(self, holders: Iterable[str]) -> list[Leaver]:
        """These, as far as they may be asked, and all that leave with them."""
        found: dict[str, Leaver] = {}
        for holder in holders:
            if holder not in found and (leaver := self.get(holder)) is not None:
                found[holder] = leaver
                for other in leaver.along:
                    if (brought := self.get(other)) is not None:
                        found[other] = brought
        return list(found.values())

    def frees(self, holder: str, rung: Rung, uuid: str) -> int:
        """What a way to leave frees of a device: MiB, or 1 if the ask takes it as a whole and this leaves it."""
        charged = self._ledger.holders_on(uuid).get(holder)
        if charged is None:
            return 0
        kept = [device for device in rung.keeps.devices if device.uuid == uuid] if rung.level else ()
        if self._ask.demand.vram_mb is None:
            return int(not kept)
        return charged - min(rung.keeps.vram_mb, kept[0].vram_mb) if kept else charged

    def frees_shared(self, holder: str, rung: Rung, name: str) -> int:
        """What a way to leave frees of what devices share; negative where it takes some."""
        return self._amount(holder, name) - _amount_of(rung.keeps, name)

    def _look_at(self, holder: str) -> Leaver | None:
        resident = self._fleet[holder]
        service = resident.service
        along = self._closure(holder) if resident.along else _NOBODY
        if along is None or service in self._spared:
            return None
        rungs = resident.rungs
        if service in self._ask.conflicts:
            rungs = [rung for rung in rungs if not rung.level]
        return Leaver(holder, rungs, along)

    def _amount(self, holder: str, name: str) -> int:
        return _amount_of(self._ledger.placement(holder), name)

    def _missing(self, name: str, amount: int) -> int:
        """How much is missing of what devices share. Whoever wants none of it is not short, nor may take more."""
        free = self._ledger.free_memory_mb if name == MEMORY else self._ledger.free_custom(name)
        return amount - free if amount else min(0, -free)

    def _rivals(self) -> list[str]:
        """Holders that may not be there at the same time."""
        conflicts = self._ask.conflicts
        if not conflicts:
            return []
        everybody = self._fleet.items()
        return [holder for holder, resident in everybody if resident.service in conflicts and holder in self._ledger]

    def _closure(self, holder: str) -> frozenset[str] | None:
        """All that leave with a holder; None if one of them may not be asked."""
        found = {holder}
        ahead = [holder]
        while ahead:
            for other in self._fleet[ahead.pop()].along:
                if other in self._ledger and other not in found:
                    if other not in self.candidates or self._fleet[other].service in self._spared:
                        return None
                    found.add(other)
                    ahead.append(other)
        return frozenset(found - {holder})


def _amount_of(placement: Placement, name: str) -> int:
    if name == MEMORY:
        return placement.memory_mb
    return sum(amount for key, amount in placement.custom if key == name)
