"""One turn of the scheduler: the moves that decisions are made of, and the actions they gather.

A move keeps the state whole: a transition changes the ready table, the ledger and the sets of the draining and the
loading in the same breath, and every waiter that leaves a queue is counted out. What to do is decided in `core`,
`settle`, `place` and `scale`.
"""

import math
from dataclasses import replace
from itertools import count

from ai_proxy.devices import Placement
from ai_proxy.errors import CannotServe
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.lines import Waiter
from ai_proxy.scheduler.messages import Action, Eviction
from ai_proxy.scheduler.needs import is_worked_on, relate
from ai_proxy.scheduler.spec import UNLIMITED
from ai_proxy.scheduler.state import Live, Replica, SchedulerState, ServiceState
from ai_proxy.services import machine
from ai_proxy.services.machine import State

_AT_REST = frozenset({State.STOPPED, State.FAILED})
_SERVING = frozenset({State.STARTING, State.LOADING, State.READY, State.DRAINING})

KEEP_EVERY_S = 30.0
"""How long a service that is to be kept running rests before it is tried again where there was no room, seconds."""


class Turn:
    """The state, the moment, and what is to be carried out.

    Attributes:
        is_settled: Nothing was given up since it was last looked at who waits for what.
        resting_until: When a replica may leave that came too recently to do so for whoever was planned for last.
    """

    def __init__(self, state: SchedulerState, now: float) -> None:
        self.state = state
        self.now = now
        self.actions: list[Action] = []
        self.is_settled = True
        self.resting_until = math.inf

    def __repr__(self) -> str:
        return f"<Turn at {self.now:.3f}, {len(self.actions)} actions>"

    # Replicas

    def add(self, service: ServiceState) -> Replica:
        """Give a service another replica, with the lowest number that is free."""
        taken = {replica.number for replica in service.replicas}
        replica = Replica(service, next(number for number in count() if number not in taken))
        service.replicas.append(replica)
        self.state.replicas[replica.key] = replica
        return replica

    def move(
        self,
        replica: Replica,
        event: machine.Event,
        reason: str,
        eviction: Eviction | None = None,
        beneficiary: str | None = None,
    ) -> None:
        """Take one transition; the ready table and the ledger follow in the same turn."""
        previous, live = replica.state, replica.live
        replica.state, action = machine.step(previous, event)
        self.state.version += 1
        if replica.state is State.READY and live is not None:
            self._came_up(replica, live)
        self._follow(replica, previous)
        if previous is State.STOPPING:
            self.state.ledger.release(replica.key)
            replica.live, replica.broken = None, False
        service = replica.service.id
        placement, level = (live.placement, live.level) if live is not None else (Placement(), 0)
        asleep = level if replica.state is State.SLEEPING else 0
        self.actions.append(
            do.Moved(replica.key, service, previous, replica.state, reason, eviction, beneficiary, asleep)
        )
        if action is not None:
            self.actions.append(do.Run(replica.key, action, placement, level))
        if previous is State.READY and replica.service.guests:
            self.is_settled = False  # they have to know that what they wait for leaves
        if replica.state is State.READY:
            self.rearm_idle(replica.service)
        elif replica.state in _AT_REST:
            self.watch_kept(replica.service, 0.0 if previous is State.STOPPING else KEEP_EVERY_S)
        self.forget(replica)

    def _came_up(self, replica: Replica, live: Live) -> None:
        if live.ready_at is None:
            live.ready_at = live.last_used = self.now
            live.rested_at = self.now if replica.service.spec.tells_work else math.inf
            live.level, live.slept = 0, False
            replica.service.failure, replica.service.parked = None, False
        replica.service.verdict = ""

    def _follow(self, replica: Replica, previous: State) -> None:
        """Bring the tables in line with a replica's state."""
        key, state = replica.key, self.state
        if replica.service.spec.requires and previous in _SERVING and replica.state not in _SERVING:
            for name in replica.service.spec.requires:
                if (required := state.services.get(name)) is not None:
                    self.rearm_idle(required)
        replica.waking = replica.waking and replica.state is State.SLEEPING
        replica.prepared = replica.prepared and replica.state is State.QUEUED
        replica.claims = replica.claims and replica.state is State.QUEUED
        replica.spare = replica.spare and replica.state in {State.QUEUED, State.STARTING, State.LOADING}
        if State.READY in {previous, replica.state}:
            self.list_ready(replica.service)
        if replica.state is State.DRAINING:
            state.draining.add(key)
        else:
            state.draining.discard(key)
        if replica.state in {State.STARTING, State.LOADING}:
            state.loading.add(key)
        else:
            state.loading.discard(key)

    def list_ready(self, service: ServiceState) -> None:
        """Bring a service's entry in the ready table in line with its replicas."""
        lives = [r.live for r in service.replicas if r.state is State.READY and r.live is not None]
        if not lives or self.state.closing:
            self.state.ready.pop(service.id, None)
            return
        peers = tuple(lives) if len(lives) > 1 else ()
        spec = service.spec
        may_grow = len(service.in_state(*machine.HOLDING)) < spec.max_replicas
        for live in lives:
            live.peers, live.crowded_above = peers, spec.target_inflight if may_grow else UNLIMITED
        self.state.ready[service.id] = lives[0]
        if spec.max_replicas > 1:
            self.state.timers.arm(self.now, service.id)

    def launch(self, replica: Replica, placement: Placement, reason: str) -> None:
        """Reserve the room and have the replica started, or woken up, there."""
        self.state.ledger.reserve(replica.key, placement)
        live = replica.live
        if live is None:
            live = replica.live = Live(replica, placement, replica.service.spec.max_in_flight)
        else:
            live.ready_at = None
        live.placement, live.placed_at = placement, self.now
        self.move(replica, machine.Event.PLACED, reason)

    def retire(self, replica: Replica, reason: str, claimant: str | None = None, level: int = 0) -> None:
        """End a replica without cutting what is open on it; a drain for a claimant lasts as long as its claim."""
        live = replica.live
        if live is not None and replica.state is not State.SLEEPING:
            live.drained_for, live.level = claimant, level if replica.state is State.READY else 0
        needed = claimant is not None and is_worked_on(self.state, replica.service)
        if replica.state is State.READY and (needed or not replica.is_idle):
            self.move(replica, machine.Event.DRAIN, reason, beneficiary=claimant)
            if claimant is not None and self.state.settings.max_request_s:
                self.actions.append(do.Hurry(replica.key))
        elif claimant is not None and replica.state is State.READY:
            self.evict(replica, level, claimant, reason, Eviction.CLAIM)
        elif replica.state is not State.DRAINING:
            self.end(replica, reason, Eviction.CLAIM if claimant else None, claimant)

    def evict(
        self, replica: Replica, level: int, beneficiary: str, reason: str, eviction: Eviction = Eviction.ROOM
    ) -> None:
        """Have an idle replica make room: by sleeping at a level, if it still can, or by stopping."""
        live, ledger = replica.live, self.state.ledger
        nap = next((nap for nap in replica.service.spec.naps if nap.level == level), None)
        if nap is None or live is None or replica.state is not State.READY:
            self.end(replica, reason, eviction, beneficiary)
            return
        keeps = nap.keeps_of(live.placement)
        if keeps.memory_mb - live.placement.memory_mb > max(ledger.free_memory_mb, 0):
            self.end(replica, reason, eviction, beneficiary)
            return
        live.level, live.keeps = level, keeps
        # What moves to the host's memory takes its room there from the moment on in which it begins to move.
        ledger.reserve(replica.key, replace(live.placement, memory_mb=keeps.memory_mb))
        self.move(replica, machine.Event.SLEEP, reason, eviction, beneficiary)

    def end(
        self, replica: Replica, reason: str, eviction: Eviction | None = None, beneficiary: str | None = None
    ) -> None:
        """Have a replica end now, whatever is open on it; a no-op where nothing can be ended."""
        if machine.Event.UNWANTED in machine.TRANSITIONS[replica.state]:
            self.move(replica, machine.Event.UNWANTED, reason, eviction, beneficiary)

    def doubt(self, live: Live) -> None:
        """Have an engine asked whether it works, if that is all that keeps it from making room."""
        if live.is_doubtful and not live.asked:
            live.asked = True
            self.actions.append(do.Ask(live.replica.key))

    def forget(self, replica: Replica) -> None:
        """Drop a replica beyond the first that has stopped, and a removed service of which nothing is left."""
        service, state = replica.service, self.state
        if replica.number and replica.state in _AT_REST and replica in service.replicas:
            service.replicas.remove(replica)
            self._drop(replica)
        first = service.replicas[0]
        if service.removed and len(service.replicas) == 1 and first.state in _AT_REST and service.id in state.services:
            del state.services[service.id]
            state.interested.pop(service.id, None)
            state.estimates.forget(service.id)
            state.timers.forget(service.id)
            relate(state, service.spec, None)
            self._drop(first)

    def _drop(self, replica: Replica) -> None:
        del self.state.replicas[replica.key]
        self.actions.append(do.Forgotten(replica.key))

    # Waiters

    def dequeue(self, waiter: Waiter) -> None:
        """Take a waiter out of its queue; idempotent."""
        service = self.state.services.get(waiter.service)
        if service is None:
            return
        is_old = self.now >= waiter.since + self.state.settings.claim_after_s
        if next(iter(service.queue), None) == waiter.id and (is_old or service.id not in self.state.ready):
            self.state.version += 1  # a claim may now take what served the oldest who waited
        urgency = service.urgency
        if service.part(waiter):
            self.state.waiting -= 1
        if service.urgency != urgency:
            self.state.version += 1

    def reject(self, waiter: Waiter, error: CannotServe) -> None:
        """Answer one waiter with an error."""
        self.actions.append(do.Reject(waiter, error))

    def reject_all(self, service: ServiceState, error: CannotServe, retry_after_s: float | None) -> None:
        """Answer everyone who waits for a service, each with an error of its own."""
        for waiter in list(service.waiters):
            self.dequeue(waiter)
            self.reject(waiter, error.renewed(service=service.id, retry_after_s=retry_after_s))

    def give_up(self, service: ServiceState, error: CannotServe, retry_after_s: float | None) -> None:
        """A service can't be started for now: tell those who wait for it, or for one that requires it."""
        service.wanted_since = service.required_since = math.inf
        self.is_settled = False
        self.reject_all(service, error, retry_after_s)
        for name in self.state.dependents.get(service.id, ()):
            dependent = self.state.services.get(name)
            if dependent is not None and dependent.interest_since < math.inf and name not in self.state.ready:
                self.give_up(dependent, error, retry_after_s)

    def lose_interest(self, service: ServiceState) -> None:
        """Stop planning for a service that nobody waits for."""
        waits = service.guests or any(replica.waits_for_room for replica in service.replicas)
        if service.interest_since == math.inf and not waits:
            self.state.interested.pop(service.id, None)

    def explain(self, service: ServiceState, verdict: str, reason: str) -> None:
        """Tell what the planner said of a service, if it is news."""
        if service.verdict != reason:
            service.verdict = reason
            self.actions.append(do.Explained(service.id, verdict, reason))

    def want(self, service: ServiceState) -> None:
        """Have a service run though no request waits for it; a no-op if it does."""
        if service.id not in self.state.ready and service.wanted_since == math.inf and not self.state.closing:
            service.wanted_since = self.now
            self.state.interested[service.id] = None
            self.state.timers.arm(self.claim_at(service), service.id)

    # Timers

    def rearm_idle(self, service: ServiceState) -> None:
        """Have a service looked at when an idle replica of it has idled for its time."""
        for replica in service.in_state(State.READY, State.SLEEPING):
            if replica.live is not None:
                self.arm_idle(replica.live)

    def arm_idle(self, live: Live) -> None:
        """Have a replica's service looked at when the replica has idled for its time."""
        service = live.replica.service
        timeout_s = None if service.spec.pinned else service.spec.idle_timeout_s
        live.idle_armed = timeout_s is None or not live.open
        if timeout_s is not None and not live.open:
            self.state.timers.arm(live.last_used + timeout_s, service.id)

    def watch_kept(self, service: ServiceState, rest_s: float = 0.0) -> None:
        """Have a service that is to be kept running looked at when it may be started."""
        if service.spec.min_replicas and not service.parked:
            self.state.timers.arm(max(service.retry_at, self.now + rest_s), service.id)

    def watch_wait(self, service: ServiceState) -> None:
        """Have a service looked at when its wait becomes a claim, or a waiter's time is over."""
        nearest = min((waiter.deadline for waiter in service.waiters), default=math.inf)
        self.state.timers.arm(min(nearest, self.claim_at(service)), service.id)

    def claim_at(self, service: ServiceState) -> float:
        """When the service's oldest waiter may drain others; infinity once that time has come."""
        at = service.interest_since + self.state.settings.claim_after_s
        return at if at > self.now else math.inf
