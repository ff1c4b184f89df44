"""Random fleets under random events: whatever happens in whatever order, every promise of the core is kept."""

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ai_proxy.devices import Placement
from ai_proxy.errors import RuntimeUnavailable, StartFailed
from ai_proxy.scheduler import messages as do
from ai_proxy.scheduler.figures import Figures
from ai_proxy.scheduler.ledger import Demand
from ai_proxy.scheduler.needs import is_leaned_on
from ai_proxy.scheduler.spec import UNLIMITED, Nap, ServiceSpec
from ai_proxy.services.machine import Action, Event, State
from tests.scheduler.fleets import HOST_MB, demands, devices
from tests.scheduler.world import DONE, World, settle_down

NAMES = ("a", "b", "c", "d", "e")
LEASE = "lease:1"


@st.composite
def specs(draw: st.DrawFn, service: str) -> ServiceSpec:
    return ServiceSpec(
        service,
        demand=draw(demands()),
        max_in_flight=draw(st.sampled_from((1, 2, UNLIMITED))),
        max_queue=draw(st.sampled_from((0, 1, 5, 1000))),
        idle_timeout_s=draw(st.sampled_from((None, 5.0, 60.0))),
        pinned=draw(st.integers(0, 5)) == 0,
        tells_work=draw(st.booleans()),
        priority=draw(st.sampled_from((0, 1, 1, 2))),
        # Nobody is in conflict with what it requires.
        conflicts=draw(st.sampled_from((frozenset(), frozenset(), frozenset({"b"}), frozenset({"d", "e"})))) - {service}
        if service > "a"
        else frozenset(),
        requires=draw(st.sampled_from(((), (), ("a",)))) if service > "b" else (),
        min_replicas=draw(st.sampled_from((0, 0, 1))) if service in "ab" else 0,
        max_replicas=draw(st.sampled_from((1, 1, 2, 3))),
        target_inflight=draw(st.sampled_from((1, 4))),
        naps=draw(
            st.sampled_from(((), (), (Nap(1, 500, moves=True),), (Nap(2),), (Nap(1, 100, moves=True), Nap(2, 100))))
        ),
    )


class Fleets(RuleBasedStateMachine):
    """Each rule is something that the world may do; `World` checks the books after each."""

    world: World

    @initialize(data=st.data())
    def build(self, data: Any) -> None:
        chosen = [data.draw(specs(service)) for service in NAMES[: data.draw(st.integers(1, 5))]]
        self.world = World(
            data.draw(devices()),
            chosen,
            memory_mb=HOST_MB,
            claim_after_s=data.draw(st.sampled_from((0.0, 2.0, 30.0))),
            max_queue=data.draw(st.sampled_from((2, 4000))),
            min_residency_s=data.draw(st.sampled_from((0.0, 15.0))),
            headroom_mb=data.draw(st.sampled_from((0, 512))),
        )

    def some(self, data: Any, among: Any) -> Any:
        return data.draw(st.sampled_from(sorted(among)))

    # Clients

    @rule(
        service=st.sampled_from(NAMES),
        max_wait_s=st.sampled_from((0.0, 1.0, 45.0, 600.0)),
        may_swap=st.sampled_from((True, True, False)),
        priority=st.sampled_from((None, None, 0, 1, 2)),
    )
    def arrive(self, service: str, max_wait_s: float, may_swap: bool, priority: int | None) -> None:
        if not self.world.ask(service):
            self.world.arrive(service, max_wait_s, may_swap=may_swap, priority=priority)

    @precondition(lambda self: bool(self.world.waiting))
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        self.world.leave(self.some(data, self.world.waiting))

    @precondition(lambda self: bool(self.world.open))
    @rule(data=st.data())
    def close(self, data: Any) -> None:
        self.world.close(data.draw(st.integers(0, len(self.world.open) - 1)))

    # Runtimes and engines

    @precondition(lambda self: bool(set(self.world.work.values()) & set(DONE)))
    @rule(data=st.data())
    def finish(self, data: Any) -> None:
        self.world.finish(self.some(data, [s for s, work in self.world.work.items() if work in DONE]))

    @precondition(lambda self: bool(set(self.world.work.values()) - {Action.STOP}))
    @rule(data=st.data())
    def break_(self, data: Any) -> None:
        self.world.break_(self.some(data, [s for s, work in self.world.work.items() if work is not Action.STOP]))

    @precondition(lambda self: Action.WATCH in self.world.work.values())
    @rule(data=st.data())
    def sicken(self, data: Any) -> None:
        service = self.some(data, [s for s, work in self.world.work.items() if work is Action.WATCH])
        self.world.take(do.Unhealthy(service, StartFailed("no answer")))

    @precondition(lambda self: self.who_can_tell())
    @rule(data=st.data(), busy=st.booleans())
    def work_unasked(self, data: Any, busy: bool) -> None:
        self.world.tell(self.some(data, self.world.asked or self.who_can_tell()), busy=busy)

    def who_can_tell(self) -> list[str]:
        """The services whose engines are watched and can tell whether they work."""
        replicas, work = self.world.state.replicas, self.world.work
        return [s for s, w in work.items() if w is Action.WATCH and replicas[s].service.spec.tells_work]

    @precondition(lambda self: Action.SLEEP in self.world.work.values())
    @rule(data=st.data())
    def fail_to_sleep(self, data: Any) -> None:
        key = self.some(data, [s for s, work in self.world.work.items() if work is Action.SLEEP])
        self.world.report(key, Event.UNWANTED, StartFailed("it does not fall asleep"))

    @precondition(lambda self: Action.STOP in self.world.work.values() and self.world.devices)
    @rule(data=st.data(), left_mb=st.sampled_from((100, 9_000)))
    def leave_something_behind(self, data: Any, left_mb: int) -> None:
        key = self.some(data, [s for s, work in self.world.work.items() if work is Action.STOP])
        self.world.report(key, Event.GONE, leftovers={self.world.devices[0].uuid: left_mb})

    @rule(
        service=st.sampled_from(NAMES),
        peak_mb=st.sampled_from((None, 500, 5_000, 30_000)),
        load_s=st.sampled_from((0.5, 40.0)),
    )
    def recall(self, service: str, peak_mb: int | None, load_s: float) -> None:
        self.world.take(do.Recalled(service, Figures(peak_mb, (load_s,), (1.0,), {1: (load_s / 10,)})))

    @precondition(lambda self: bool(self.world.devices))
    @rule(data=st.data())
    def measure(self, data: Any) -> None:
        """Others come and go, replicas are seen to hold more or less than they were given, a device may be lost."""
        world = self.world
        foreign_mb = {device.uuid: data.draw(st.sampled_from((0, 0, 2_000, 20_000))) for device in world.devices}
        lost = {device.uuid for device in world.devices if not data.draw(st.integers(0, 9))}
        started = [key for key, state in world.states.items() if key in world.rooms and state is not State.STARTING]
        unknown = {key for key in started if data.draw(st.booleans())}
        held_mb = {
            key: {device.uuid: data.draw(st.sampled_from((300, 3_000, 15_000))) for device in world.rooms[key].devices}
            for key in sorted(set(started) - unknown)
        }
        world.measure(foreign_mb, held_mb, unknown=unknown, lost=lost)

    @rule(service=st.sampled_from(NAMES), failure=st.sampled_from((None, RuntimeUnavailable("no answer"))))
    def hold(self, service: str, failure: RuntimeUnavailable | None) -> None:
        self.world.take(do.Held(service, failure))

    @rule(service=st.sampled_from(NAMES))
    def release(self, service: str) -> None:
        self.world.take(do.Released(service))

    @rule(service=st.sampled_from(NAMES))
    def adopt(self, service: str) -> None:
        known = self.world.state.services.get(service)
        if (
            known is not None
            and known.held
            and known.replicas[0].state is State.STOPPED
            and not self.world.state.closing
        ):
            self.world.adopt(service, Placement(self.world.devices[:1], vram_mb=9_000))
            self.world.take(do.Released(service))

    # Operators, and those who lease

    @rule(vram_mb=st.sampled_from((None, 4_000, 12_000)))
    def lease(self, vram_mb: int | None) -> None:
        if LEASE not in self.world.state.services:
            self.world.take(do.Configured(ServiceSpec(LEASE, Demand(1, vram_mb=vram_mb), pinned=True, lease=True)))
            self.world.take(do.StartAsked(LEASE))

    @rule()
    def end_lease(self) -> None:
        if LEASE in self.world.state.services:
            self.world.take(do.Removed(LEASE))

    @rule(service=st.sampled_from(NAMES))
    def start(self, service: str) -> None:
        if service in self.world.state.services:
            self.world.take(do.StartAsked(service))

    @rule(service=st.sampled_from(NAMES), restart=st.booleans())
    def stop(self, service: str, restart: bool) -> None:
        if service in self.world.state.services:
            self.world.take(do.StopAsked(service, "an operator", restart))

    @rule(data=st.data(), service=st.sampled_from(NAMES), instead=st.booleans())
    def configure(self, data: Any, service: str, instead: bool) -> None:
        self.world.take(do.Configured(data.draw(specs(service)), instead))

    @rule(service=st.sampled_from(NAMES))
    def remove(self, service: str) -> None:
        if service in self.world.state.services:
            self.world.take(do.Removed(service))

    @rule(keep=st.frozensets(st.sampled_from(NAMES)), chance=st.integers(0, 9))
    def shut_down(self, keep: frozenset[str], chance: int) -> None:
        if not chance:
            self.world.take(do.ShutDown(keep))

    # Time

    @rule(seconds=st.sampled_from((0.0, 0.001, 1.0, 29.0, 61.0, 700.0)))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @invariant()
    def nobody_is_ready_and_full_of_room_while_others_wait(self) -> None:
        state = self.world.state
        for service, live in state.ready.items():
            lives = live.peers or (live,)
            assert not state.services[service].waiting or all(each.open >= each.limit for each in lives)

    def teardown(self) -> None:
        """When everything answers, everyone is answered and what may idle out does."""
        if not hasattr(self, "world"):
            return
        world = self.world
        self.end_lease()
        for service in list(world.state.services):
            world.take(do.Released(service))
        world.measure()
        # One may have waited for the room of another that idles out only now.
        for _ in range(3 * len(NAMES)):
            settle_down(world)
            world.advance(700.0)
        settle_down(world)
        for known in world.state.services.values():
            assert known.interest_since == math.inf, f"{known!r} is still waited for: {known.verdict}"
            spec = known.spec
            kept = spec.pinned or spec.min_replicas or is_leaned_on(world.state, known)
            stays = kept or spec.idle_timeout_s is None
            for replica in known.replicas:
                at_rest = replica.state in {State.READY, State.SLEEPING}
                assert replica.state in {State.STOPPED, State.FAILED} or (stays and at_rest)


# One example is many steps; the books are checked after each.
Fleets.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestFleets = pytest.mark.slow(Fleets.TestCase)
