"""Fixed rules of eviction, to compare with: what others do, and what one could do who knew the future.

A policy keeps its own books from what it is told and puts a value on each service; the least valuable leaves first. It
knows nothing of devices: who is asked, and how many must leave, is the planner's business.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, override

from ai_proxy.sim.traces import Request


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a service costs to hold and to bring back.

    Attributes:
        service: Its id.
        size_mb: The room it takes when it is ready.
        reload_s: How long a start takes until it is ready.
        weight: How much its waiting counts.
    """

    service: str
    size_mb: float
    reload_s: float
    weight: float = 1.0


class Policy(Protocol):
    """A rule that says who leaves first.

    Attributes:
        conflicts: For each service those that may not be resident beside it; empty but for exclusive groups.
    """

    conflicts: Mapping[str, frozenset[str]]

    def used(self, service: str, now: float) -> None:
        """A request for the service has come."""

    def left(self, service: str, now: float) -> None:
        """The service was made to leave for another."""

    def value(self, service: str, now: float) -> float:
        """What keeping the service is worth; the least leaves first. Only the order of values counts."""
        ...


class Lru(Policy):
    """Least recently used leaves first (llama.cpp's router, LocalAI).

    Args:
        fleet: The services that may be asked for.
    """

    def __init__(self, fleet: Sequence[Footprint]) -> None:
        self.conflicts = {}
        self._last_used = dict.fromkeys((footprint.service for footprint in fleet), float("-inf"))

    @override
    def used(self, service: str, now: float) -> None:
        self._last_used[service] = now

    @override
    def left(self, service: str, now: float) -> None: ...

    @override
    def value(self, service: str, now: float) -> float:
        return self._last_used[service]


class Lfu(Policy):
    """Least often used since the beginning leaves first.

    Args:
        fleet: The services that may be asked for.
    """

    def __init__(self, fleet: Sequence[Footprint]) -> None:
        self.conflicts = {}
        self._uses = dict.fromkeys((footprint.service for footprint in fleet), 0)

    @override
    def used(self, service: str, now: float) -> None:
        self._uses[service] += 1

    @override
    def left(self, service: str, now: float) -> None: ...

    @override
    def value(self, service: str, now: float) -> float:
        return self._uses[service]


class Lemonade(Lru):
    """Who has the greatest idle time / (load time × weight) leaves first (Lemonade Server).

    Args:
        fleet: The services that may be asked for.
    """

    def __init__(self, fleet: Sequence[Footprint]) -> None:
        super().__init__(fleet)
        self._cost = {footprint.service: footprint.reload_s * footprint.weight for footprint in fleet}

    @override
    def value(self, service: str, now: float) -> float:
        return -(now - self._last_used[service]) / self._cost[service]


class Gdsf(Policy):
    """Greedy-Dual-Size-Frequency: uses × load time / size, plus the value of the last that left (Cherkasova 1998).

    Args:
        fleet: The services that may be asked for.
    """

    def __init__(self, fleet: Sequence[Footprint]) -> None:
        self.conflicts = {}
        self._density = {footprint.service: footprint.reload_s / footprint.size_mb for footprint in fleet}
        self._uses = dict.fromkeys(self._density, 0)
        self._value = dict.fromkeys(self._density, 0.0)
        self._age = 0.0

    @override
    def used(self, service: str, now: float) -> None:
        self._uses[service] += 1
        self._value[service] = self._age + self._uses[service] * self._density[service]

    @override
    def left(self, service: str, now: float) -> None:
        self._age = max(self._age, self._value[service])
        self._uses[service] = 0

    @override
    def value(self, service: str, now: float) -> float:
        return self._value[service]


class Groups(Lru):
    """Exclusive groups as people write them for llama-swap: what fits together is a group, one group is resident.

    Args:
        fleet: The services that may be asked for; the largest first fill groups as long as they fit.
        memory_mb: The room that a group may take.
    """

    def __init__(self, fleet: Sequence[Footprint], memory_mb: float) -> None:
        super().__init__(fleet)
        groups: list[list[Footprint]] = []
        for footprint in sorted(fleet, key=lambda footprint: (-footprint.size_mb, footprint.service)):
            for group in groups:
                if sum(member.size_mb for member in group) + footprint.size_mb <= memory_mb:
                    group.append(footprint)
                    break
            else:
                groups.append([footprint])
        everyone = frozenset(footprint.service for footprint in fleet)
        members = [frozenset(member.service for member in group) for group in groups]
        self.conflicts = {service: everyone - group for group in members for service in group}


class Clairvoyant(Policy):
    """Knows the trace: who has the least load time / (size × time to its next request) leaves first.

    A floor to compare with, no policy to run; where sizes differ, the best sequence of victims is not known either.

    Args:
        fleet: The services that may be asked for.
        trace: All that will be asked.
    """

    def __init__(self, fleet: Sequence[Footprint], trace: Sequence[Request]) -> None:
        self.conflicts = {}
        self._density = {footprint.service: footprint.reload_s / footprint.size_mb for footprint in fleet}
        self._times: dict[str, list[float]] = {footprint.service: [] for footprint in fleet}
        for request in sorted(trace):
            self._times[request.service].append(request.at)

    @override
    def used(self, service: str, now: float) -> None: ...

    @override
    def left(self, service: str, now: float) -> None: ...

    @override
    def value(self, service: str, now: float) -> float:
        times = self._times[service]
        following = bisect_left(times, now)
        if following == len(times):
            return 0.0
        return self._density[service] / max(times[following] - now, 1e-6)


type PolicyFactory = Callable[[Sequence[Footprint], Sequence[Request], float], Policy]

POLICIES: Mapping[str, PolicyFactory] = MappingProxyType(
    {
        "lru": lambda fleet, _trace, _memory_mb: Lru(fleet),
        "lfu": lambda fleet, _trace, _memory_mb: Lfu(fleet),
        "lemonade": lambda fleet, _trace, _memory_mb: Lemonade(fleet),
        "gdsf": lambda fleet, _trace, _memory_mb: Gdsf(fleet),
        "groups": lambda fleet, _trace, memory_mb: Groups(fleet, memory_mb),
        "clairvoyant": lambda fleet, trace, _memory_mb: Clairvoyant(fleet, trace),
    }
)
