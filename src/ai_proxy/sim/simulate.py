"""Runs the real scheduler over a trace on a virtual clock.

The core decides; this file plays its driver, its clients and its engines, event by event in order of time. Nothing
here reads a clock, draws a number or waits: the same fleet and trace give the same outcome.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.state import Live
from ai_proxy.services.machine import Action, Event, State
from ai_proxy.sim.adapter import Core, service_of
from ai_proxy.sim.model import EngineModel, Fleet
from ai_proxy.sim.policies import POLICIES, Footprint
from ai_proxy.sim.recorder import Recorder
from ai_proxy.sim.report import Outcome, report_of
from ai_proxy.sim.spans import PHASES, Phase, SpanBook
from ai_proxy.sim.traces import Request

OURS = "ours"
"""The policy that is the scheduler's own."""

ASK_S = 0.01
"""Until an engine has told whether it works."""

_DONE: Mapping[Action, Event] = {
    Action.LAUNCH: Event.LAUNCHED,
    Action.PROBE: Event.HEALTHY,
    Action.SLEEP: Event.SLEPT,
    Action.WAKE: Event.HEALTHY,
    Action.STOP: Event.GONE,
}


@dataclass(slots=True, eq=False)
class _Engine:
    """One life of a replica: what its engine works on, and what waits inside it."""

    replica: str
    model: EngineModel
    devices: tuple[str, ...]
    open: int = 0
    running: int = 0
    backlog: deque[tuple[float, float]] = field(default_factory=deque)


@dataclass(slots=True)
class _Errand:
    """What is being carried out for a replica; a later one takes its place."""

    action: Action
    since: float


class Simulation:
    """One run of one trace.

    Args:
        fleet: Devices, services, engines.
        core: Decides.
        recorder: Is told what happens.
    """

    def __init__(self, fleet: Fleet, core: Core, recorder: Recorder) -> None:
        self.now = 0.0
        self._fleet = fleet
        self._core = core
        self._notes = recorder

        self._agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

        self._errands: dict[str, _Errand] = {}
        self._launched: dict[str, float] = {}
        self._levels: dict[str, int] = {}

        self._waiting: dict[int, Request] = {}
        self._engines: dict[Live, _Engine] = {}
        self._open = 0

    def __repr__(self) -> str:
        return f"<Simulation at {self.now:.3f}: {len(self._waiting)} wait, {self._open} open>"

    def run(self, trace: Iterable[Request]) -> float:
        """Serve a trace to its end.

        Args:
            trace: In order of time, from 0.

        Returns:
            When the last request was answered, in seconds.
        """
        self._act(self._core.configure(self._fleet, self.now))
        for service in self._fleet.preload:
            self._act(self._core.start(service, self.now))
        for request in trace:
            self._advance(request.at)
            self.now = request.at
            self._request(request)
        while self._open or self._waiting:
            at = min(self._agenda[0][0] if self._agenda else math.inf, self._core.next_timer)
            if at == math.inf:
                break
            self._advance(at)
        self._notes.end(self.now)
        return self.now

    # Time

    def _advance(self, until: float) -> None:
        """Let happen what happens until then; where two things happen at once, engines come before timers."""
        agenda, core = self._agenda, self._core
        while True:
            timer = core.next_timer
            if agenda and agenda[0][0] <= timer:
                if agenda[0][0] > until:
                    return
                self.now, _, take_place, about = heapq.heappop(agenda)
                take_place(*about)
            else:
                if timer > until:
                    return
                self.now = max(self.now, timer)
                self._act(core.tick(self.now))

    def _after(self, seconds: float, take_place: Callable[..., None], *about: Any) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (self.now + seconds, self._count, take_place, about))

    # Clients

    def _request(self, request: Request) -> None:
        notes, service = self._notes, request.service
        notes.requests += 1
        live = self._core.admit(service, self.now)
        if live is not None:
            notes.warm += 1
            self._begin(service, live, request.service_time_s)
            self._act(self._core.crowd(service, live, self.now))
            return
        notes.waits(service, self.now, ready=self._core.is_ready(service))
        self._waiting[notes.requests] = request
        self._act(self._core.arrive(notes.requests, service, self.now))

    def _begin(self, service: str, live: Live, work_s: float) -> None:
        """A grant was given: the request reaches the engine."""
        self._open += 1
        engine = self._engines[live]
        engine.open += 1
        if engine.open == 1:
            self._notes.works(engine.replica, engine.devices, self.now, busy=True)
        if engine.running < engine.model.slots:
            engine.running += 1
            self._after(work_s, self._finish, service, live, engine, self.now)
        else:
            engine.backlog.append((self.now, work_s))

    def _finish(self, service: str, live: Live, engine: _Engine, since: float) -> None:
        """The engine has done one request, and takes its next."""
        self._open -= 1
        self._notes.closed(self.now - since)
        if engine.backlog:
            came_at, work_s = engine.backlog.popleft()
            self._after(work_s, self._finish, service, live, engine, came_at)
        else:
            engine.running -= 1
        engine.open -= 1
        if not engine.open:
            self._notes.works(engine.replica, engine.devices, self.now, busy=False)
        self._act(self._core.close(service, live, self.now))

    # Engines

    def _act(self, actions: Iterable[do.Action]) -> None:
        """Carry out what the core decided."""
        for action in actions:
            match action:
                case do.Run(replica, work, _, level):
                    self._run(replica, work, level)
                case do.Ask(replica):
                    self._after(ASK_S, self._tell_work, replica)
                case do.Admit(waiter, live):
                    request = self._waiting.pop(waiter.id)
                    self._notes.granted(request.service, request.at, self.now)
                    self._begin(request.service, live, request.service_time_s)
                case do.Reject(waiter, error):
                    request = self._waiting.pop(waiter.id)
                    self._notes.rejected(request.service, error, self.now)
                case do.Moved():
                    self._move(action)

    def _run(self, replica: str, action: Action, level: int) -> None:
        if action is Action.LAUNCH:
            self._launched[replica] = self.now
        elif action is Action.SLEEP:
            self._levels[replica] = level
            self._notes.sleeps += 1
        elif action is Action.STOP and (since := self._launched.pop(replica, None)) is not None:
            self._notes.loads.append(self.now - since)
        errand = self._errands[replica] = _Errand(action, self.now)
        takes_s = self._fleet.engines[service_of(replica)].takes_s(action, self._levels.get(replica, 0))
        if takes_s < math.inf:
            self._after(takes_s, self._done, replica, errand)

    def _done(self, replica: str, errand: _Errand) -> None:
        """What was carried out for a replica is done, unless something else took its place."""
        if self._errands.get(replica) is not errand:
            return
        del self._errands[replica]
        notes, took_s = self._notes, self.now - errand.since
        if errand.action is Action.PROBE:
            notes.loads.append(self.now - self._launched.pop(replica))
        elif errand.action is Action.WAKE:
            notes.wakes.append(took_s)
        elif errand.action is Action.STOP:
            notes.longest_stop_s = max(notes.longest_stop_s, took_s)
        self._act(self._core.report(replica, _DONE[errand.action], self.now))
        if errand.action is Action.SLEEP:
            notes.holds(replica, Phase.SLEEPING, self._core.rooms(replica), self.now)

    def _move(self, move: do.Moved) -> None:
        replica, phase = move.replica, PHASES.get(move.state)
        live, rooms = self._core.life(replica), self._core.rooms(replica)
        if move.eviction is not None:
            self._notes.evictions[move.eviction] += 1
            self._core.evicted(replica, self.now)
        if live is not None and move.state is State.READY:
            if live not in self._engines:
                model = self._fleet.engines[service_of(replica)]
                self._engines[live] = _Engine(replica, model, tuple(rooms))
            phase = Phase.BUSY if live.open else Phase.IDLE
        elif live is not None and move.state is not State.DRAINING:
            self._engines.pop(live, None)
        self._notes.holds(replica, phase, rooms, self.now)

    def _tell_work(self, replica: str) -> None:
        live = self._core.life(replica)
        if live is not None:
            self._act(self._core.tell_work(replica, self.now, busy=bool(live.open)))


def simulate(fleet: Fleet, trace: Sequence[Request], *, policy: str = OURS, record: bool = False) -> Outcome:
    """Run a trace.

    Args:
        fleet: Devices, services, engines.
        trace: In order of time, from 0; it asks for no other services.
        policy: Who says which idle replicas leave: `OURS`, or a name of `POLICIES`.
        record: Gather what it takes to draw the run.
    """
    rule = None
    if policy != OURS:
        footprints = [
            Footprint(
                spec.id, max(fleet.engines[spec.id].size_mb, 1), max(fleet.engines[spec.id].ready_s, 1e-3), spec.weight
            )
            for spec in fleet.specs
        ]
        rule = POLICIES[policy](footprints, trace, fleet.vram_mb)
    notes = Recorder(SpanBook() if record else None)
    length_s = Simulation(fleet, Core(fleet, rule), notes).run(trace)
    spans = notes.book.finish(length_s) if notes.book is not None else ()
    return Outcome(report_of(policy, fleet, notes, length_s), spans, tuple(notes.colds))
