"""The planner: where a demand goes, or who must leave for it.

Pure: everything it weighs comes in as arguments, and every answer carries its reason for people. Victims are taken
least recently used first and never more than needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ai_proxy.devices import Placement
from ai_proxy.scheduler.ledger import Demand, Ledger


@dataclass(frozen=True, slots=True)
class Resident:
    """A replica that holds a reservation.

    Attributes:
        holder: Its name in the ledger.
        last_used: When its last request ended; the smaller, the longer ago.
        idle: No request is open on it and its engine does nothing.
        pinned: It may not be made to leave.
        leaving: It is on its way out already.
    """

    holder: str
    last_used: float
    idle: bool
    pinned: bool = False
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """It fits: start it there."""

    placement: Placement
    reason: str


@dataclass(frozen=True, slots=True)
class Evict:
    """It fits once these have left; all of them are idle."""

    victims: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """It can't be started now, but time may change that."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """It can't be started as long as the config and the devices are what they are."""

    reason: str


type Plan = Start | Evict | Wait | Refuse


def plan(demand: Demand, ledger: Ledger, residents: Sequence[Resident]) -> Plan:
    """Decide what a demand needs.

    1. It fits now: Start.
    2. It would not fit if all that may leave had left: Refuse.
    3. It fits once those on their way out have left: Wait.
    4. It fits if some idle ones leave: Evict.
    5. Otherwise those that could leave are busy: Wait.

    Args:
        demand: What is asked for.
        ledger: What is held; every resident is one of its holders.
        residents: Who holds it.

    Example:
        >>> from ai_proxy.devices import Device
        >>> gpu = Device("0", "GPU-a", 24000)
        >>> ledger = Ledger([gpu], 0)
        >>> ledger.reserve("old", Placement((gpu,), vram_mb=20000))
        >>> plan(Demand(gpus=1, vram_mb=9000), ledger, [Resident("old", 1.0, idle=True)]).victims
        ('old',)
    """
    # 1
    if (placement := ledger.fit(demand)) is not None:
        return Start(placement, "it fits")
    # 2
    if ledger.without(r.holder for r in residents if r.leaving or not r.pinned).fit(demand) is None:
        return Refuse(_never(demand, ledger, residents))
    # 3
    leaving = [resident.holder for resident in residents if resident.leaving]
    rest = ledger.without(leaving)
    if rest.fit(demand) is not None:
        return Wait(f"{_names(leaving)} must have left first")
    # 4
    idle = [resident for resident in residents if resident.idle and not resident.leaving]
    if (victims := make_room(demand, rest, idle)) is not None:
        return Evict(victims, f"it needs {demand}; least recently used of the idle: {_names(victims)}")
    # 5
    busy = [r.holder for r in residents if not (r.idle or r.pinned or r.leaving)]
    return Wait(f"it needs {demand}; {_names(busy)} can't leave before the work in progress is done")


def make_room(demand: Demand, ledger: Ledger, residents: Sequence[Resident]) -> tuple[str, ...] | None:
    """Choose who leaves so that a demand fits: least recently used first, nobody in vain.

    Args:
        demand: What must fit.
        ledger: What is held, without those that leave anyway.
        residents: Who may be asked; the pinned among them are not.

    Returns:
        The holders to remove, least recently used first; None if not even all of them would do.
    """
    victims: list[str] = []
    for resident in sorted((r for r in residents if not r.pinned), key=lambda resident: resident.last_used):
        victims.append(resident.holder)
        if ledger.without(victims).fit(demand) is not None:
            return _needed(victims, lambda kept: ledger.without(kept).fit(demand) is not None)
    return None


def _needed(victims: list[str], suffices: Callable[[list[str]], bool]) -> tuple[str, ...]:
    """Drop every victim without whom the others suffice, the most recently used first."""
    for victim in reversed(list(victims)):
        others = [other for other in victims if other != victim]
        if suffices(others):
            victims = others
    return tuple(victims)


def _never(demand: Demand, ledger: Ledger, residents: Sequence[Resident]) -> str:
    if ledger.without(resident.holder for resident in residents).fit(demand) is not None:
        pinned = [resident.holder for resident in residents if resident.pinned]
        return f"it needs {demand}, which pinned services hold: {_names(pinned)}"
    if demand.pins:
        return f"it needs {demand} on {', '.join(demand.pins)}; this machine does not have that"
    if demand.gpus > len(ledger.devices):
        has = len(ledger.devices)
        return f"it needs {demand}; this machine has {has} GPU{'s' * (has != 1)}: set resources.gpus or devices"
    largest = max((device.vram_mb for device in ledger.devices), default=0)
    return f"it needs {demand}; the largest GPU has {largest:,} MB and the host {ledger.memory_mb:,} MB"


def _names(holders: Sequence[str]) -> str:
    return ", ".join(holders) or "nobody"
