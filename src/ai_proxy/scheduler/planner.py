"""The planner: where a demand goes, or who must leave for it.

Pure: everything it weighs comes in as arguments, and every answer carries its reason for people. Who leaves is
chosen by a policy that is handed in; the one of this package is `least_regret`.
"""

from dataclasses import dataclass

from ai_proxy.devices import Placement
from ai_proxy.scheduler.asks import Ask, Choice, Chooser, Fleet, Resident, Rung, Victim
from ai_proxy.scheduler.ledger import Ledger
from ai_proxy.scheduler.reasons import Reasons
from ai_proxy.scheduler.victims import NODES, least_regret, vacated

__all__ = [
    "NODES",
    "Ask",
    "Choice",
    "Chooser",
    "Evict",
    "Fleet",
    "Plan",
    "Refuse",
    "Resident",
    "Rung",
    "Start",
    "Victim",
    "Wait",
    "least_regret",
    "plan",
    "vacated",
]


@dataclass(frozen=True, slots=True)
class Start:
    """It fits: start it there."""

    placement: Placement
    reason: str


@dataclass(frozen=True, slots=True)
class Evict:
    """It fits once these have given room; all of them are idle.

    Attributes:
        victims: Who, and how.
        placement: Where it will go.
        regret: What that is expected to cost, in weighed seconds.
        exact: Nobody else would be missed less; False where the search for them was cut off.
        reason: For people.
    """

    victims: tuple[Victim, ...]
    placement: Placement
    regret: float
    exact: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """It can't be started now, but time may change that.

    Attributes:
        reason: For people.
        placement: Where it will go as soon as what leaves is gone and what loads has loaded; None if more must
            happen.
    """

    reason: str
    placement: Placement | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """It can't be started as long as the config and the devices are what they are."""

    reason: str


type Plan = Start | Evict | Wait | Refuse


def plan(ask: Ask, ledger: Ledger, fleet: Fleet, *, choose: Chooser = least_regret) -> Plan:
    """Decide what an ask needs.

    1. It fits now: Start.
    2. It fits once those on their way out have left, and what loads has loaded: Wait.
    3. It fits if some idle ones of no higher priority give room: Evict.
    4. It would not fit if all had left but the pinned and those it requires, and nobody else used the devices: Refuse.
    5. Otherwise somebody stays for now who may leave later: Wait.

    Args:
        ask: What is asked for.
        ledger: What is held; by residents, and by others that leave when they like.
        fleet: Who holds it.
        choose: The policy that says who of the candidates gives room.

    Example:
        >>> from ai_proxy.devices import Device
        >>> from ai_proxy.scheduler.ledger import Demand
        >>> from ai_proxy.scheduler.residents import Residents
        >>> from ai_proxy.scheduler.state import SchedulerState
        >>> state = SchedulerState(Ledger([Device("0", "GPU-a", 24000)], 0))
        >>> plan(Ask("chat", Demand(gpus=1, vram_mb=9000)), state.ledger, Residents(state, now=0.0)).reason
        '1 GPU with 9,000 MB fits on GPU 0'
    """
    demand = ask.demand
    reasons = Reasons(ask, ledger, fleet)
    rivals = reasons.rivals
    # 1
    if not rivals and (placement := ledger.fit(demand, ask.closed)) is not None:
        return Start(placement, reasons.start(placement))
    # 2
    leaving = fleet.leaving
    rest = ledger.without(leaving) if leaving else ledger
    if (leaving or ask.loading) and not any(holder in rest for holder in rivals):
        placement = rest.fit(demand, ask.closed) or rest.fit(demand, ask.lost)
        if placement is not None:
            return Wait(reasons.soon(placement, leaving), placement)
    # 3
    idle, priority = fleet.idle, ask.priority
    candidates = list(idle)
    if max(idle.values(), default=0) > priority:
        candidates = [holder for holder in candidates if idle[holder] <= priority]
    if candidates and (choice := choose(ask, rest, fleet, candidates)) is not None:
        room = vacated(rest, choice.victims)
        placement = room.fit(demand, ask.closed) or room.fit(demand, ask.lost)
        if placement is not None:
            return Evict(choice.victims, placement, choice.regret, choice.exact, reasons.evict(choice, placement))
    # 4
    pinned = dict.fromkeys(fleet.pinned)
    if requires := ask.requires:
        pinned |= {h: None for h, resident in fleet.items() if resident.service in requires and h in rest}
    if any(holder in rivals for holder in pinned) or ledger.with_only(pinned).fit(demand) is None:
        return Refuse(reasons.never([*pinned]))
    # 5
    return Wait(reasons.blocked(rest, candidates))
