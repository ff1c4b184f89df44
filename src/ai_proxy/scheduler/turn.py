"""One turn of the scheduler: the moves that decisions are made of, and the actions they gather.

A move keeps the state whole: a transition changes the ready table, the ledger and the draining set in the same
breath, and every waiter that leaves a queue is counted out. What to do is decided in `core` and `settle`.
"""

import math

from ai_proxy.devices import Placement
from ai_proxy.errors import CannotServe
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.messages import Action, Eviction
from ai_proxy.scheduler.state import Live, Replica, SchedulerState, Waiter
from ai_proxy.services import machine
from ai_proxy.services.machine import State


class Turn:
    """The state, the moment, and what is to be carried out."""

    def __init__(self, state: SchedulerState, now: float) -> None:
        self.state = state
        self.now = now
        self.actions: list[Action] = []

    def __repr__(self) -> str:
        return f"<Turn at {self.now:.3f}, {len(self.actions)} actions>"

    def move(self, replica: Replica, event: machine.Event, reason: str, eviction: Eviction | None = None) -> None:
        """Take one transition; the ready table and the ledger follow in the same turn."""
        previous = replica.state
        replica.state, action = machine.step(previous, event)
        service, state, live = replica.spec.id, self.state, replica.live
        if replica.state is State.READY and live is not None:
            if live.ready_at is None:
                live.ready_at = live.last_used = self.now
                live.rested_at = self.now if replica.spec.tells_work else math.inf
                replica.failure = None
            replica.verdict = ""
            if not state.closing:
                state.ready[service] = live
        else:
            state.ready.pop(service, None)
        if replica.state is State.DRAINING:
            state.draining.add(service)
        else:
            state.draining.discard(service)
        if previous is State.STOPPING:
            state.ledger.release(service)
            replica.live, replica.broken = None, False
        placement = live.placement if live is not None else Placement()
        self.actions.append(do.Moved(service, previous, replica.state, reason, eviction))
        if action is not None:
            self.actions.append(do.Run(service, action, placement))
        if replica.state is State.READY:
            self.rearm_idle(replica)
        if replica.removed:
            self.forget(replica)

    def launch(self, replica: Replica, placement: Placement, reason: str) -> None:
        """Reserve the room and have the replica started there."""
        self.state.ledger.reserve(replica.spec.id, placement)
        replica.live = Live(placement, replica.spec.max_in_flight)
        self.move(replica, machine.Event.PLACED, reason)

    def retire(self, replica: Replica, reason: str, claimant: str | None = None) -> None:
        """End a replica without cutting what is open on it; a drain for a claimant lasts as long as its claim."""
        if replica.live is not None:
            replica.live.drained_for = claimant
        if replica.state is State.READY and not replica.is_idle:
            self.move(replica, machine.Event.DRAIN, reason)
        elif replica.state is not State.DRAINING:
            self.end(replica, reason, Eviction.CLAIM if claimant else None)

    def end(self, replica: Replica, reason: str, eviction: Eviction | None = None) -> None:
        """Have a replica end now, whatever is open on it; a no-op where nothing can be ended."""
        if machine.Event.UNWANTED in machine.TRANSITIONS[replica.state]:
            self.move(replica, machine.Event.UNWANTED, reason, eviction)

    def doubt(self, service: str, live: Live) -> None:
        """Have an engine asked whether it works, if that is all that keeps it from making room."""
        if live.is_doubtful and not live.asked:
            live.asked = True
            self.actions.append(do.Ask(service))

    def forget(self, replica: Replica) -> None:
        """Drop a removed service that has stopped."""
        if replica.state in {State.STOPPED, State.FAILED} and replica.spec.id in self.state.replicas:
            del self.state.replicas[replica.spec.id]
            self.state.interested.pop(replica.spec.id, None)
            self.actions.append(do.Forgotten(replica.spec.id))

    def rearm_idle(self, replica: Replica) -> None:
        """Have an idle replica looked at when it has idled for its time."""
        live, timeout_s = replica.live, replica.spec.idle_timeout_s
        if live is None or replica.state is not State.READY:
            return
        live.idle_armed = timeout_s is None or replica.spec.pinned or not live.open
        if timeout_s is not None and not live.open and not replica.spec.pinned:
            self.state.arm(live.last_used + timeout_s, replica.spec.id)

    def dequeue(self, waiter: Waiter) -> None:
        """Take a waiter out of its queue; idempotent."""
        replica = self.state.replicas.get(waiter.service)
        if replica is not None and replica.queue.pop(waiter.id, None) is not None:
            self.state.waiting -= 1

    def lose_interest(self, replica: Replica) -> None:
        """Stop planning for a service that nobody waits for."""
        if replica.interest_since == math.inf and replica.state is not State.QUEUED:
            self.state.interested.pop(replica.spec.id, None)

    def reject(self, waiter: Waiter, error: CannotServe) -> None:
        """Answer one waiter with an error."""
        self.actions.append(do.Reject(waiter, error))

    def reject_all(self, replica: Replica, error: CannotServe, retry_after_s: float | None) -> None:
        """Answer everyone who waits for a service, each with an error of its own."""
        for waiter in list(replica.queue.values()):
            self.dequeue(waiter)
            self.reject(waiter, error.renewed(service=replica.spec.id, retry_after_s=retry_after_s))

    def watch_wait(self, replica: Replica) -> None:
        """Have a service looked at when its wait becomes a claim, or a waiter's time is over."""
        nearest = min((waiter.deadline for waiter in replica.queue.values()), default=math.inf)
        self.state.arm(min(nearest, self.claim_at(replica)), replica.spec.id)

    def claim_at(self, replica: Replica) -> float:
        """When the service's oldest waiter may drain others; infinity once that time has come."""
        at = replica.interest_since + self.state.settings.claim_after_s
        return at if at > self.now else math.inf

    def explain(self, replica: Replica, verdict: str, reason: str) -> None:
        """Tell what the planner said of a service, if it is news."""
        if replica.verdict != reason:
            replica.verdict = reason
            self.actions.append(do.Explained(replica.spec.id, verdict, reason))
