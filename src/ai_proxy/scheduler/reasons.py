"""Reasons: what the planner decided and why, said for people.

Pure wording. It names devices, figures, and who is in the way and why; it decides nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from ai_proxy.devices import Device, Placement
from ai_proxy.scheduler.asks import Ask, Choice, Fleet, Victim
from ai_proxy.scheduler.ledger import Ledger

_NAMED = 5
"""So many names are told of a longer list."""

_DEVICES = 2
"""So many devices are told of where more are short."""


class Reasons:
    """The words for one ask.

    Args:
        ask: What is asked for.
        ledger: What is held.
        fleet: Who holds it.

    Attributes:
        rivals: Those of them that may not be there at the same time.
    """

    def __init__(self, ask: Ask, ledger: Ledger, fleet: Fleet) -> None:
        self._ask = ask
        self._ledger = ledger
        self._fleet = fleet
        self.rivals = (
            [h for h, resident in fleet.items() if resident.service in ask.conflicts and h in ledger]
            if ask.conflicts
            else []
        )

    def __repr__(self) -> str:
        return f"<Reasons for {self._ask.service}: {self._ask.demand}>"

    def start(self, placement: Placement) -> str:
        """Why it starts."""
        demand = self._ask.demand
        if not demand.gpus and not demand.memory_mb and not demand.custom:
            return "it needs no room"
        return f"{demand} {'fits' if demand.gpus else 'is there'}{_on(placement.devices)}"

    def soon(self, placement: Placement, leaving: Collection[str]) -> str:
        """What is yet to happen, of its own accord, before it starts."""
        if not self.rivals and self._ledger.fit(self._ask.demand, self._ask.lost) is not None:
            return f"it needs {self._ask.demand}; something else is loading{_on(placement.devices)}, one at a time"
        on_it = [h for h in leaving if any(h in self._ledger.holders_on(d.uuid) for d in placement.devices)]
        rivals = [h for h in self.rivals if h not in on_it]
        return f"{_names([*on_it, *rivals] or leaving)} must have left first"

    def evict(self, choice: Choice, placement: Placement) -> str:
        """Who gives room, and at what price."""
        who = ", ".join(_said(victim) for victim in choice.victims)
        cut = "" if choice.exact else " (heuristic: the search for less was cut off)"
        return f"it needs {self._ask.demand}; {who}{_on(placement.devices)}: regret {choice.regret:.3g} s{cut}"

    def never(self, pinned: Sequence[str]) -> str:
        """Why it can't be started as things are."""
        ask, ledger = self._ask, self._ledger
        demand = ask.demand
        needs = f"it needs {demand}"
        if rivals := [holder for holder in self.rivals if holder in pinned]:
            return f"it may not run beside {_names(rivals)}, pinned"
        if ledger.with_only(()).fit(demand) is not None:
            return f"{needs}, which pinned services hold: {_names(pinned)}"
        for name, amount in demand.custom:
            if amount > ledger.capacities.get(name, 0):
                return f"{needs}; of {name} there are {ledger.capacities.get(name, 0):,}: see capacities"
        if too_few := self._too_few():
            return f"{needs}{too_few}"
        largest_mb = max((device.vram_mb for device in ledger.eligible(demand)), default=0)
        headroom = f", of which {ledger.headroom_mb:,} stay free," if ledger.headroom_mb and largest_mb else ""
        which = "the largest GPU in question" if demand.pins else "the largest GPU"
        return f"{needs}; {which} has {largest_mb:,} MB{headroom} and the host {ledger.memory_mb:,} MB"

    def _too_few(self) -> str:
        """Why it can't be started on a machine with so few devices; nothing if there are enough."""
        demand, ledger = self._ask.demand, self._ledger
        having = len(ledger.eligible(replace(demand, gpus=1)))
        if demand.pins and having < demand.gpus:
            return f" on {', '.join(demand.pins)}; this machine does not have that"
        if having < demand.gpus:
            return f"; this machine has {having} GPU{'s' * (having != 1)}: set resources.gpus or devices"
        most = max((len(alike) for alike in ledger.alike(demand)), default=0)
        if demand.gpus < 2 or most >= demand.gpus:
            return ""
        if demand.pins:
            return f" on {', '.join(demand.pins)}; several GPUs must be of one make, and no MIG instances"
        return f" of one make; this machine has {most} of one make, MIG instances aside: set resources.gpus or devices"

    def blocked(self, rest: Ledger, candidates: Collection[str]) -> str:
        """Who is in the way, and why they stay.

        Args:
            rest: What is held without those that leave anyway.
            candidates: Who could leave, which is not enough.
        """
        demand = self._ask.demand
        candidates = {holder for holder in candidates if not self._is_kept(holder, rest, candidates)}
        why = []
        if rivals := [holder for holder in self.rivals if holder in rest and holder not in candidates]:
            why.append(f"it may not run beside {self._stay(dict.fromkeys(rivals, 0))}")
        why += self._of_shared(rest, candidates)
        if self._ask.lost and (lost := [each for each in rest.eligible(demand) if each.uuid in self._ask.lost]):
            why.append(f"out of question: {_gpus(lost)}")
        why += [self._of_device(rest, device, candidates) for device in self._nearest(rest, candidates)]
        return "; ".join([f"it needs {demand}", *why])

    def _of_shared(self, rest: Ledger, candidates: Collection[str]) -> list[str]:
        """What of host memory and named resources would be short even if the candidates left."""
        demand, why = self._ask.demand, []
        short_mb = demand.memory_mb - rest.free_memory_mb
        memory = {h: held.memory_mb for h, held in rest.held.items() if held.memory_mb} if short_mb > 0 else {}
        if short_mb > sum(memory[holder] for holder in memory if holder in candidates):
            held = {holder: mb for holder, mb in memory.items() if holder not in candidates}
            why.append(f"the host has {rest.free_memory_mb:,} MB free ({self._stay(held)})")
        for name, amount in demand.custom:
            having = {
                holder: dict(held.custom)[name] for holder, held in rest.held.items() if name in dict(held.custom)
            }
            if amount > rest.free_custom(name) + sum(having[holder] for holder in having if holder in candidates):
                staying = dict.fromkeys((holder for holder in having if holder not in candidates), 0)
                why.append(f"{rest.free_custom(name):,} of {name} are free ({self._stay(staying)})")
        return why

    def _is_kept(self, holder: str, rest: Ledger, candidates: Collection[str]) -> bool:
        """It could leave, but the one that asks needs it, or another that needs it stays."""
        resident = self._fleet[holder]
        needed = resident.service == self._ask.service or resident.service in self._ask.requires
        return needed or any(other in rest and other not in candidates for other in resident.along)

    def _nearest(self, rest: Ledger, candidates: Collection[str]) -> list[Device]:
        """Of the devices that it would fit on, but not even if the candidates left, those that come closest."""
        demand, lost = self._ask.demand, self._ask.lost
        whole, least_mb = demand.vram_mb is None, demand.least_vram_mb
        enough_mb = 0 if whole else least_mb + rest.headroom_mb

        def lacking(device: Device) -> int:
            charges = rest.holders_on(device.uuid)
            if whole:
                return len([holder for holder in charges if holder not in candidates])
            return (
                least_mb - rest.free_mb(device) - sum([charges[holder] for holder in charges if holder in candidates])
            )

        nearest: list[tuple[int, list[Device]]] = []
        for alike in rest.alike(demand):
            able = [device for device in alike if device.vram_mb >= enough_mb and device.uuid not in lost]
            short = [(lacks, place) for place, device in enumerate(able) if (lacks := lacking(device)) > 0]
            lack = demand.gpus - (len(able) - len(short))
            nearest.append((lack, [able[place] for _, place in sorted(short)[:_DEVICES]]))
        lack, devices = min(nearest, key=lambda each: each[0], default=(0, []))
        return devices if lack > 0 else []

    def _of_device(self, rest: Ledger, device: Device, candidates: Collection[str]) -> str:
        staying = {holder: mb for holder, mb in rest.holders_on(device.uuid).items() if holder not in candidates}
        foreign_mb = rest.foreign_mb(device)
        others = [self._stay(staying)] * bool(staying) + [f"other programs: {foreign_mb:,} MB"] * bool(foreign_mb)
        return f"GPU {device.id} has {rest.free_mb(device):,} MB free ({'; '.join(others)})"

    def _stay(self, holders: Mapping[str, int]) -> str:
        """Who stays, by why, with how much each has."""
        by_why: dict[str, list[str]] = {}
        for holder, mb in holders.items():
            by_why.setdefault(self._why(holder), []).append(f"{holder} {mb:,} MB" if mb else holder)
        return "; ".join(f"{why}: {_names(names)}" for why, names in by_why.items())

    def _why(self, holder: str) -> str:
        """Why a holder stays."""
        if holder not in self._fleet:
            return "held"
        if holder in self._fleet.pinned:
            return "pinned"
        priority = self._fleet.idle.get(holder)
        if priority is None:
            return "busy"
        return "of higher priority" if priority > self._ask.priority else "kept"


def _said(victim: Victim) -> str:
    return f"{victim.holder} sleeps (level {victim.level})" if victim.level else f"{victim.holder} stops"


def _on(devices: Sequence[Device]) -> str:
    return f" on {_gpus(devices)}" if devices else ""


def _gpus(devices: Sequence[Device]) -> str:
    return f"GPU{'s' * (len(devices) > 1)} {', '.join(device.id for device in devices)}"


def _names(names: Iterable[str]) -> str:
    every = list(names)
    more = [f"{len(every) - _NAMED} more"] if len(every) > _NAMED else []
    return ", ".join([*every[:_NAMED], *more]) or "nobody"
