"""A fleet that exists only on paper: it drives the core, plays runtime and clients, and keeps books of its own.

The books are the test: after every step `World` compares what the core believes with what the actions said, and fails
at the first promise that is broken.
"""

import copyreg
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ai_proxy.devices import Device, Placement
from ai_proxy.errors import CannotServe, StartFailed
from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler import core
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.ledger import Demand, Ledger
from ai_proxy.scheduler.lines import Waiter
from ai_proxy.scheduler.measured import Measured
from ai_proxy.scheduler.needs import is_leaned_on
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.scheduler.state import Live, Replica, SchedulerState, ServiceState, Settings
from ai_proxy.services.machine import HOLDING, TRANSITIONS, Action, Event, State
from tests.scheduler.fleets import gpus
from tests.scheduler.promises import Promises

# The ledger's empty tables are read-only, which copying does not know by itself.
copyreg.pickle(MappingProxyType, lambda table: (MappingProxyType, (dict(table),)))

DONE = {
    Action.LAUNCH: Event.LAUNCHED,
    Action.PROBE: Event.HEALTHY,
    Action.SLEEP: Event.SLEPT,
    Action.WAKE: Event.HEALTHY,
    Action.STOP: Event.GONE,
}
"""What each piece of work reports when it went well; a watch only ever reports that something broke."""


def spec(service: str, vram_mb: int | None = 8_000, **more: Any) -> ServiceSpec:
    """A service that needs one GPU with so much memory."""
    return ServiceSpec(service, **{"demand": Demand(1, vram_mb=vram_mb), **more})


class World:
    """A core, its clock, its runtime, its clients, and the books."""

    def __init__(
        self,
        devices: Iterable[Device],
        specs: Iterable[ServiceSpec] = (),
        *,
        memory_mb: int = 0,
        headroom_mb: int = 0,
        capacities: Mapping[str, int] | None = None,
        **settings: Any,
    ) -> None:
        self.devices = tuple(devices)
        self.memory_mb = memory_mb
        ledger = Ledger(self.devices, memory_mb, headroom_mb=headroom_mb, capacities=capacities or {})
        self.state = SchedulerState(ledger, Settings(**settings))
        self.now = 1000.0

        self.states: dict[str, State] = {}
        self.work: dict[str, Action] = {}
        self.rooms: dict[str, Placement] = {}
        self.asked: set[str] = set()

        self.waiting: dict[int, Waiter] = {}
        self.promises = Promises(self.state, self.rooms, self.waiting)
        self.answers: dict[int, do.Admit | do.Reject] = {}
        self.open: list[tuple[str, Live]] = []
        self.moves: list[do.Moved] = []
        self.prepared: list[tuple[str, Placement | None]] = []
        self._count = 0
        for each in specs:
            self.take(do.Configured(each))

    def __repr__(self) -> str:
        return f"<World at {self.now}: {self.states}, {len(self.waiting)} wait, {len(self.open)} open>"

    # Clients

    def arrive(self, service: str, max_wait_s: float = 600.0, **wishes: Any) -> int:
        """A request that could not be granted at once; its number."""
        self._count += 1
        waiter = self.waiting[self._count] = Waiter(self._count, service, self.now, self.now + max_wait_s, **wishes)
        self.take(do.Arrived(waiter))
        return waiter.id

    def ask(self, service: str) -> bool:
        """The warm path: a grant at once, or none."""
        live = self.state.ready.get(service)
        if live is not None and live.peers:
            live = min(live.peers, key=lambda each: each.open)
        if live is None or live.open >= live.limit:
            return False
        live.open += 1
        self.open.append((service, live))
        if live.open > live.crowded_above:
            self.take(do.Crowded(service))
        return True

    def at(self, service: str) -> State:
        """Where a service's replica is in its life."""
        return self.states.get(service, State.STOPPED)

    def leave(self, number: int) -> None:
        """A client that waits goes away."""
        self.take(do.Left(self.waiting.pop(number)))

    def close(self, index: int = 0) -> None:
        """A request ends; where the core does not care, telling it must change nothing."""
        service, live = self.open.pop(index)
        live.open -= 1
        live.last_used = self.now
        if core.cares(self.state, live):
            self.take(do.Closed(service))
        else:
            missed = core.step(deepcopy(self.state), self.now, do.Closed(service))
            assert self._is_unsettled() or all(isinstance(each, do.Explained) for each in missed), (
                "it should have cared"
            )
            self.check()

    def _is_unsettled(self) -> bool:
        """One that waits is to be planned for again in any case: others have moved after its turn."""
        waiting = (each for each in self.state.replicas.values() if each.waits_for_room)
        return any(each.outlook is None or each.outlook.version != self.state.version for each in waiting)

    # The runtime

    def finish(self, service: str) -> None:
        """What is being done for a service goes well."""
        self.report(service, DONE[self.work[service]])

    def break_(self, service: str, message: str = "it broke") -> None:
        """What is being done for a service goes wrong, or a ready replica dies."""
        self.report(service, Event.BROKE, StartFailed(message, log_tail=("last words",)))

    def report(
        self,
        service: str,
        event: Event,
        failure: CannotServe | None = None,
        leftovers: Mapping[str, int] | None = None,
    ) -> None:
        """A replica's task says what it found, and is over."""
        self.work.pop(service, None)
        instance = Instance("i", service, "127.0.0.1", 1) if event is Event.LAUNCHED else None
        self.promises.foreign_mb.update(leftovers or {})
        self.take(do.Reported(service, event, instance, failure, leftovers or {}), cuts=event is Event.BROKE)

    def tell(self, service: str, *, busy: bool) -> None:
        """An engine tells whether it works."""
        self.asked.discard(service)
        self.take(do.WorkTold(service, busy, self.now))

    def measure(
        self,
        foreign_mb: Mapping[str, int] | None = None,
        held_mb: Mapping[str, Mapping[str, int]] | None = None,
        *,
        unknown: Iterable[str] = (),
        lost: Iterable[str] = (),
    ) -> None:
        """The devices are looked at: others use so much of each, replicas hold so much; the rest is free."""
        foreign_mb, held_mb, lost = dict(foreign_mb or {}), held_mb or {}, frozenset(lost)
        used_mb = Counter(foreign_mb)
        for held in held_mb.values():
            used_mb.update(held)
        for key in unknown:
            room = self.rooms[key]
            used_mb.update({device.uuid: min(room.vram_mb, device.vram_mb) for device in room.devices})
        known = {device.uuid: used_mb[device.uuid] for device in self.devices if device.uuid not in lost}
        event = Measured(known, held_mb, frozenset(unknown), lost)
        self.promises.measured(event, foreign_mb)
        self.take(event)

    def adopt(self, service: str, placement: Placement) -> None:
        """A replica of a former life is found, whether it fits or not."""
        self.rooms[service] = placement
        self.promises.adopted.add(service)
        instance = Instance("old", service, "127.0.0.1", 1, placement)
        self.take(do.Reported(service, Event.ADOPTED, instance))

    def run_all(self) -> None:
        """Let everything under way go well, and what follows from it."""
        while busy := [service for service, work in self.work.items() if work in DONE]:
            self.finish(busy[0])

    # Time

    def advance(self, seconds: float) -> None:
        """Let time pass; the timer rings whenever it was set to."""
        target = self.now + seconds
        rings = 0
        while self.state.timers.nearest <= target:
            rings = 0 if self.state.timers.nearest > self.now else rings + 1
            self.now = max(self.now, self.state.timers.nearest)
            self.take(do.Tick())
            assert rings <= len(self.states) + 1, "the timer rings in vain"
        self.now = target
        assert all(waiter.deadline > target for waiter in self.waiting.values()), "a deadline passed without an answer"

    # Books

    def take(self, event: do.Event, *, cuts: bool = False) -> None:
        """Bring an event to the core, carry out what it decides, check the books."""
        cuts = cuts or isinstance(event, do.ShutDown)
        for action in core.step(self.state, self.now, event):
            self._carry_out(action, cuts=cuts)
        self.check()
        self.promises.settled(event)

    def _carry_out(self, action: do.Action, *, cuts: bool) -> None:
        match action:
            case do.Run(key, work, placement):
                cut_short = {Action.STOP: set(Action) - {Action.STOP}, Action.SLEEP: {Action.WATCH}}
                assert key not in self.work or self.work[key] in cut_short[work]
                self.work[key] = work
                if work in {Action.LAUNCH, Action.WAKE}:
                    self.promises.starts(key, placement)
                    self.rooms[key] = placement
            case do.Prepare(key, room):
                assert self.states[key] is State.QUEUED
                self.prepared.append((key, room))
            case do.Hurry(key):
                assert self.states[key] is State.DRAINING
            case do.Ask(key):
                assert self.work[key] is Action.WATCH
                assert self.state.replicas[key].service.spec.tells_work
                self.asked.add(key)
            case do.Admit(waiter, live):
                assert self.states[live.replica.key] is State.READY
                self._answer(waiter, action)
                self.promises.admits(waiter, self.now)
                self.open.append((waiter.service, live))
            case do.Reject(waiter):
                self._answer(waiter, action)
            case do.Moved():
                self._move(action, cuts=cuts)
            case do.Forgotten(key):
                assert self.states.pop(key, State.STOPPED) in {State.STOPPED, State.FAILED}
                assert key not in self.work

    def _answer(self, waiter: Waiter, answer: do.Admit | do.Reject) -> None:
        assert self.waiting.pop(waiter.id) == waiter, "answered twice, or never asked"
        assert self.now <= waiter.deadline or isinstance(answer, do.Reject)
        self.answers[waiter.id] = answer

    def _move(self, move: do.Moved, *, cuts: bool) -> None:
        self.moves.append(move)
        self.promises.moved(move)
        key = move.replica
        assert self.states.get(key, State.STOPPED) is move.previous
        assert move.state in {target for target, _ in TRANSITIONS[move.previous].values()}
        self.states[key] = move.state
        if move.state in {State.STOPPING, State.SLEEPING} and move.previous is not State.SLEEPING:
            replica = self.state.replicas[key]
            live = replica.live
            assert live is not None
            assert cuts or not self._open_on(live), f"{key} is stopped while it serves: {move.reason}"
            assert cuts or not live.busy, f"{key} is stopped while it works: {move.reason}"
            assert cuts or not live.is_doubtful, f"{key} is stopped unasked: {move.reason}"
            assert move.eviction is None or not replica.service.spec.pinned, f"{key} is pinned: {move.reason}"
        if move.state in {State.STOPPING, State.SLEEPING}:
            self.asked.discard(key)
        if move.state is State.SLEEPING:
            self._fall_asleep(key, slept=move.previous is State.SLEEPING)
        if move.previous is State.STOPPING:
            del self.rooms[key]

    def _fall_asleep(self, key: str, *, slept: bool) -> None:
        """While it falls asleep it has its room still, and takes what it will need of the host's memory."""
        before, live = self.rooms[key], self.state.replicas[key].live
        assert live is not None
        assert live.keeps.devices == before.devices
        assert live.keeps.vram_mb <= before.vram_mb
        self.rooms[key] = live.keeps if slept else replace(before, memory_mb=live.keeps.memory_mb)

    def _open_on(self, live: Live) -> int:
        return sum(on is live for _, on in self.open)

    def check(self) -> None:
        """Compare the core's beliefs with the books."""
        state = self.state
        self._check_rooms()
        for service in state.services.values():
            self._check_service(service)
            for replica in service.replicas:
                assert state.replicas[replica.key] is replica
                self._check_replica(replica)
        assert state.draining == {key for key, r in state.replicas.items() if r.state is State.DRAINING}
        loading = {State.STARTING, State.LOADING}
        assert state.loading == {key for key, r in state.replicas.items() if r.state in loading}
        assert state.waiting == len(self.waiting)
        assert {w.id for service in state.services.values() for w in service.waiters} == set(self.waiting)
        assert set(state.interested) <= set(state.services)
        assert len(state.timers) <= 2 * len(state.services) + 65
        nearest = min((waiter.deadline for waiter in self.waiting.values()), default=math.inf)
        assert state.timers.nearest <= nearest

    def _check_rooms(self) -> None:
        assert self.state.ledger.held == self.rooms
        assert set(self.rooms) == {s for s, state in self.states.items() if state in HOLDING}
        if self.promises.adopted:
            return
        used: Counter[str] = Counter()
        for room in self.rooms.values():
            used.update({device.uuid: min(room.vram_mb, device.vram_mb) for device in room.devices})
        assert all(used[device.uuid] <= device.vram_mb for device in self.devices)
        assert sum(room.memory_mb for room in self.rooms.values()) <= self.memory_mb

    def _check_service(self, service: ServiceState) -> None:
        lives = [replica.live for replica in service.in_state(State.READY)]
        ready = self.state.ready.get(service.id)
        if self.state.closing or not lives:
            assert ready is None
        else:
            assert ready is not None
            assert ready is lives[0]
            assert list(ready.peers) == (lives if len(lives) > 1 else [])
        if service.interest_since < math.inf:
            assert service.id in self.state.interested
            assert not self.state.closing
            assert self._knows_what_it_waits_for(service), f"{service!r} waits for nothing"

    def _check_replica(self, replica: Replica) -> None:
        service, key, live = replica.service, replica.key, replica.live
        assert replica.state is self.states.get(key, State.STOPPED)
        assert (live is not None) == (replica.state in HOLDING)
        if replica.state is State.QUEUED:
            assert replica.spare or service.interest_since < math.inf, "a start is kept that nobody waits for"
            assert not service.held
        if live is not None:
            assert live.open == self._open_on(live)
            spec, kept = service.spec, is_leaned_on(self.state, service) or service.spec.min_replicas
            if replica.is_idle and spec.idle_timeout_s is not None and not spec.pinned and not kept:
                assert self.state.timers.of(service.id) <= live.last_used + spec.idle_timeout_s

    def _knows_what_it_waits_for(self, service: ServiceState) -> bool:
        """Work under way, a grant to be closed, room to be made, or a runtime to answer."""
        return any(self._is_ahead(replica) for replica in service.replicas) or service.held

    def _is_ahead(self, replica: Replica) -> bool:
        live = replica.live
        match replica.state:
            case State.READY | State.DRAINING:
                return live is not None and not (replica.state is State.READY and live.open < live.limit)
            case State.STOPPED | State.FAILED:
                return False
            case State.QUEUED:
                others = self.promises.lost or +self.promises.foreign_mb
                return bool(self.rooms or others or replica.service.spec.requires)
            case State.SLEEPING:
                return replica.waking or replica.key in self.work
            case _:
                return replica.key in self.work


def expect_rejected(world: World, number: int) -> CannotServe:
    """The error that a waiter got."""
    answer = world.answers[number]
    assert isinstance(answer, do.Reject)
    return answer.error


def settle_down(world: World, *, done: Callable[[], bool] | None = None) -> None:
    """Let everything answer, every request end and every engine rest, until nothing is under way."""
    for _ in range(200):
        world.run_all()
        while world.open:
            world.close()
        for key, replica in list(world.state.replicas.items()):
            awake = replica.state in {State.READY, State.DRAINING}
            if awake and replica.live is not None and (replica.live.busy or replica.live.is_doubtful):
                world.tell(key, busy=False)
        if not world.waiting and not (set(world.work.values()) & set(DONE)) and (done is None or done()):
            return
        world.advance(1.0)
    raise AssertionError(f"it never comes to rest: {world!r}")


def ready(world: World, *services: str) -> World:
    """Have these services run, with nothing open on them; the first is the least recently used."""
    for service in services:
        world.take(do.StartAsked(service))
        world.run_all()
        world.now += 1
    return world


def one_gpu(*services: str, **more: Any) -> World:
    """Services of which the one GPU holds one at a time."""
    return World(gpus(10_000), [spec(service, **more) for service in services])
