"""The vocabulary of the planner: what is asked for, who is there, how they could give room, who is chosen to.

Pure data. Who a resident is and what it would be missed for is the core's knowledge; the planner only weighs it.
"""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ai_proxy.devices import Placement
from ai_proxy.scheduler.ledger import Demand, Ledger


@dataclass(frozen=True, slots=True)
class Rung:
    """One way in which a replica gives room.

    Attributes:
        level: 0: it stops; above: it sleeps at that level.
        keeps: What it still holds then; nothing if it stops.
        regret: What it is expected to cost, in weighed seconds; finite, not negative.
    """

    level: int
    keeps: Placement
    regret: float


class Resident(Protocol):
    """A replica that holds a reservation, as the planner sees it."""

    @property
    def service(self) -> str:
        """The service that it is a replica of."""

    @property
    def rungs(self) -> Sequence[Rung]:
        """The ways in which it gives room, cheapest first; to stop (level 0) is always one of them."""

    @property
    def along(self) -> tuple[str, ...]:
        """Holders that can't run without it and leave with it."""


class Fleet(Mapping[str, Resident]):
    """All residents by holder, and what is asked of each of them for every plan.

    A thousand answers to one question take less time from the fleet than one by one.
    """

    @property
    @abstractmethod
    def leaving(self) -> Collection[str]:
        """Who is on its way out already."""

    @property
    @abstractmethod
    def pinned(self) -> Collection[str]:
        """Who may not be made to leave; none of those who are on their way out."""

    @property
    @abstractmethod
    def idle(self) -> Mapping[str, int]:
        """Who could leave: no request is open on it, its engine does nothing, and it is neither pinned nor leaving.

        Each with its service's priority: it leaves for none of a lower one.
        """

    @abstractmethod
    def floors(self, holders: Iterable[str]) -> dict[str, float]:
        """For each of some holders a regret that none of its rungs has less of; cheap to find."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be placed.

    Attributes:
        service: For which service; its own replicas never make room for another one of it.
        demand: What it needs.
        priority: Its service's.
        conflicts: Services none of whose replicas may be there at the same time; it works both ways, so they conflict
            with this one as well.
        requires: Services that it can't run without: their replicas make no room for it.
        loading: UUIDs of devices on which something loads: nothing starts there until it is done.
        lost: UUIDs of devices that are out of question: nobody leaves to make room there.
    """

    service: str
    demand: Demand
    priority: int = 0
    conflicts: frozenset[str] = frozenset()
    requires: frozenset[str] = frozenset()
    loading: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()

    @property
    def closed(self) -> frozenset[str]:
        """UUIDs of devices on which nothing may start now."""
        return self.loading | self.lost


@dataclass(frozen=True, slots=True)
class Victim:
    """Who gives room, and how.

    Attributes:
        holder: Its name in the ledger.
        level: 0: it stops; above: it sleeps at that level.
        keeps: What it still holds then.
    """

    holder: str
    level: int = 0
    keeps: Placement = field(default_factory=Placement, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Choice:
    """Who gives room.

    Attributes:
        victims: None of them in vain.
        regret: Of all of them.
        exact: No other choice has less; False: the search was cut off before that was certain.
    """

    victims: tuple[Victim, ...]
    regret: float
    exact: bool


class Chooser(Protocol):
    """A policy: it chooses who gives room."""

    def __call__(self, ask: Ask, ledger: Ledger, fleet: Fleet, candidates: Collection[str], /) -> Choice | None:
        """Choose among the candidates, of whom `ledger` still holds all; None if not even all of them would do."""
