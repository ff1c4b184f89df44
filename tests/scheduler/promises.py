"""What the core promises of devices and of evictions, checked from its actions alone.

Books of what was measured are kept here too: what a start finds free is computed anew, not asked of the ledger.
"""

from collections import Counter
from collections.abc import Mapping

from ai_proxy.devices import Device, Placement
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.lines import Waiter
from ai_proxy.scheduler.measured import Measured
from ai_proxy.scheduler.messages import Eviction
from ai_proxy.scheduler.state import Replica, SchedulerState
from ai_proxy.services.machine import Event, State

_LOADING = {State.STARTING, State.LOADING}
_CALM = {Event.GONE, Event.LOST, Event.SLEPT}


class Promises:
    """Watches a core from outside.

    Args:
        state: The core's, read for who is where.
        rooms: What each replica was given, by key, as the actions said.
        waiting: Everybody who waits.

    Attributes:
        foreign_mb: What others use of each device.
        seen_mb: What each replica was measured to hold in its present room.
        lost: Devices that do not answer.
    """

    def __init__(self, state: SchedulerState, rooms: Mapping[str, Placement], waiting: Mapping[int, Waiter]) -> None:
        self.state = state
        self.rooms = rooms
        self.waiting = waiting
        self.foreign_mb: Counter[str] = Counter()
        self.seen_mb: dict[str, Mapping[str, int]] = {}
        self.lost: frozenset[str] = frozenset()
        self.adopted: set[str] = set()
        self._owed: dict[str, set[str]] = {}
        self._chosen: set[str] = set()

    def __repr__(self) -> str:
        return f"<Promises: others use {dict(self.foreign_mb)}, owed {self._owed}>"

    def measured(self, event: Measured, foreign_mb: Mapping[str, int]) -> None:
        """The devices were looked at; `foreign_mb` is what others use in truth."""
        self.foreign_mb = Counter(foreign_mb)
        self.seen_mb = dict(event.held_mb)
        self.lost = event.lost

    def starts(self, key: str, room: Placement) -> None:
        """A replica starts or wakes: its room must be there, and nothing else may load on its devices."""
        self.seen_mb.pop(key, None)
        others = {other: held for other, held in self.rooms.items() if other != key}
        for device in room.devices:
            assert device.uuid not in self.lost, f"{key} starts on a lost device"
            beside = [other for other, held in others.items() if self._charge(other, held, device) is not None]
            loading = [each for each in beside if self.state.replicas[each].state in _LOADING]
            assert not loading or set(loading) & self.adopted, f"{key} starts beside {loading}, which still load"
            if self.state.replicas[key].service.spec.demand.vram_mb is None and room.vram_mb >= device.vram_mb:
                assert not beside, f"{key} takes a whole GPU that {beside} are on"
                continue
            charged = sum(self._charge(other, held, device) or 0 for other, held in others.items())
            used_mb = charged + self.foreign_mb[device.uuid] + self.state.ledger.headroom_mb
            assert used_mb + room.vram_mb <= device.vram_mb, f"{key} starts where there is no room: {self!r}"
        memory_mb = sum(held.memory_mb for held in others.values()) + room.memory_mb
        assert not room.memory_mb or self.adopted or memory_mb <= self.state.ledger.memory_mb

    def admits(self, waiter: Waiter, now: float) -> None:
        """Nobody overtakes who has waited for long; else the higher class is first, and of one class the older."""
        others = [each for each in self.waiting.values() if each.service == waiter.service]
        if any(each.id < waiter.id and now >= each.since + self.state.settings.claim_after_s for each in others):
            raise AssertionError(f"{waiter} overtakes somebody who has waited for long")
        own = self.state.services[waiter.service].spec.priority
        is_long = now >= waiter.since + self.state.settings.claim_after_s
        rank = own if waiter.priority is None else waiter.priority
        for each in others:
            theirs = own if each.priority is None else each.priority
            assert is_long or theirs < rank or (theirs == rank and each.id > waiter.id), f"{waiter} is before {each}"

    def moved(self, move: do.Moved) -> None:
        """A replica changed its state."""
        if move.state is State.SLEEPING or move.previous is State.STOPPING:
            self.seen_mb.pop(move.replica, None)
        if move.eviction in {Eviction.ROOM, Eviction.CLAIM} and move.beneficiary is not None:
            if move.eviction is Eviction.ROOM:
                priority = self.state.services[move.service].spec.priority
                assert priority <= self._rank_of(move.beneficiary), f"{move.beneficiary} is not worth that: {move}"
            self._owed.setdefault(move.beneficiary, set()).add(move.replica)
            self._chosen.add(move.replica)

    def settled(self, event: do.Event) -> None:
        """A step is over: whom others have made room for has to start, unless something else has happened."""
        is_calm = isinstance(event, do.Tick) or (
            isinstance(event, do.Reported) and event.event in _CALM and not event.leftovers
        )
        for name, victims in list(self._owed.items()):
            service = self.state.services.get(name)
            if service is None or not any(each.waits_for_room for each in service.replicas):
                del self._owed[name]  # it has started, or nobody waits any more
            elif not is_calm and not victims & self._chosen:
                del self._owed[name]
            else:
                assert self._has_cause(name), f"{sorted(victims)} left in vain for {service!r}: {service.verdict}"
        self._chosen.clear()

    def _rank_of(self, name: str) -> int:
        """By which a service may make others leave: its own, or the class of somebody who waits for it to be ready."""
        ranks, ahead = [self.state.services[name].spec.priority], [name]
        while ahead:
            asked = ahead.pop()
            waiters = [each for each in self.waiting.values() if each.service == asked and each.may_swap]
            ranks += [each.priority for each in waiters if each.priority is not None]
            ahead += [each.id for each in self.state.services.values() if asked in each.spec.requires]
        return max(ranks)

    def _has_cause(self, name: str) -> bool:
        """Somebody is still to leave, or to load, or somebody else gets what is free."""
        replicas = self.state.replicas.values()
        leaving = any(_is_leaving(each) for each in replicas)
        promised = any(
            each.outlook is not None and each.outlook.room is not None
            for each in replicas
            if each.service.id != name and each.waits_for_room
        )
        return leaving or promised or bool(self.state.loading or self.adopted) or len(self._owed) > 1

    def _charge(self, holder: str, held: Placement, device: Device) -> int | None:
        """What a holder is charged on a device; None if it is not on it."""
        seen = self.seen_mb.get(holder, {}).get(device.uuid, 0)
        if any(each.uuid == device.uuid for each in held.devices):
            return max(min(held.vram_mb, device.vram_mb), seen)
        return seen or None


def _is_leaving(replica: Replica) -> bool:
    asleep = replica.state is State.SLEEPING and replica.live is not None and not replica.live.slept
    return asleep or replica.state in {State.STOPPING, State.DRAINING}
