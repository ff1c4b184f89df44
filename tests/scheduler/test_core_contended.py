"""Services that all want the same little room: those who wait, claim, drain, sleep and come back meet all the time.

`test_core_random` lets everything happen; here only what clients and engines do every day, but far more of it.
"""

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ai_proxy.scheduler.ledger import Demand
from ai_proxy.scheduler.spec import UNLIMITED, Nap, ServiceSpec
from ai_proxy.services.machine import Action, State
from tests.scheduler.fleets import gpus
from tests.scheduler.world import DONE, World, settle_down

NAMES = ("a", "b", "c", "d", "e")
AT_REST = (State.STOPPED, State.FAILED, State.SLEEPING, State.READY)
RARELY = st.sampled_from((*[False] * 5, True))


@st.composite
def specs(draw: st.DrawFn, service: str) -> ServiceSpec:
    return ServiceSpec(
        service,
        demand=Demand(draw(st.sampled_from((1, 1, 1, 2))), vram_mb=draw(st.sampled_from((4_000, 8_000, 8_000)))),
        max_in_flight=draw(st.sampled_from((1, 4, UNLIMITED))),
        idle_timeout_s=draw(st.sampled_from((None, 60.0))),
        tells_work=draw(RARELY),
        priority=draw(st.sampled_from((1, 1, 2))),
        conflicts=frozenset({"b"} if service > "b" and draw(RARELY) else ()),
        requires=("a",) if service > "a" and draw(RARELY) else (),
        min_replicas=int(draw(RARELY)),
        max_replicas=draw(st.sampled_from((1, 2, 3))),
        target_inflight=draw(st.sampled_from((1, 4))),
        naps=draw(st.sampled_from(((), (), (Nap(1, 500, moves=True),), (Nap(1, 500, moves=True), Nap(2))))),
    )


class Contended(RuleBasedStateMachine):
    """Each rule is something that happens every day; `World` checks the books after each."""

    world: World

    @initialize(data=st.data())
    def build(self, data: Any) -> None:
        self.world = World(
            gpus(*data.draw(st.sampled_from(((8_000,), (16_000,), (24_000,), (16_000, 16_000))))),
            [data.draw(specs(service)) for service in NAMES],
            memory_mb=data.draw(st.sampled_from((0, 10_000, 64_000))),
            claim_after_s=data.draw(st.sampled_from((0.0, 2.0))),
            min_residency_s=data.draw(st.sampled_from((0.0, 15.0))),
        )

    @rule(service=st.sampled_from(NAMES), may_swap=st.sampled_from((True, True, True, False)))
    def arrive(self, service: str, may_swap: bool) -> None:
        if not self.world.ask(service):
            self.world.arrive(service, may_swap=may_swap)

    @precondition(lambda self: bool(self.world.waiting))
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        self.world.leave(data.draw(st.sampled_from(sorted(self.world.waiting))))

    @precondition(lambda self: bool(self.world.open))
    @rule(data=st.data())
    def close(self, data: Any) -> None:
        self.world.close(data.draw(st.integers(0, len(self.world.open) - 1)))

    @precondition(lambda self: bool(self.world.open))
    @rule()
    def close_all(self) -> None:
        while self.world.open:
            self.world.close()

    @precondition(lambda self: bool(set(self.world.work.values()) & set(DONE)))
    @rule(data=st.data())
    def finish(self, data: Any) -> None:
        under_way = sorted(key for key, work in self.world.work.items() if work in DONE)
        self.world.finish(data.draw(st.sampled_from(under_way)))

    @rule()
    def finish_all(self) -> None:
        self.world.run_all()

    @precondition(lambda self: Action.WATCH in self.world.work.values())
    @rule(data=st.data())
    def break_(self, data: Any) -> None:
        watched = sorted(key for key, work in self.world.work.items() if work is Action.WATCH)
        self.world.break_(data.draw(st.sampled_from(watched)))

    @precondition(lambda self: bool(self.world.asked))
    @rule(data=st.data(), busy=st.booleans())
    def tell(self, data: Any, busy: bool) -> None:
        self.world.tell(data.draw(st.sampled_from(sorted(self.world.asked))), busy=busy)

    @rule(seconds=st.sampled_from((0.0, 1.0, 3.0, 61.0)))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    def teardown(self) -> None:
        """When everything answers, everyone is answered; who is to be kept running may find no room for ever."""
        if not hasattr(self, "world"):
            return
        settle_down(self.world)
        for service in self.world.state.services.values():
            assert not service.waiting
            if service.interest_since < math.inf:
                assert service.spec.min_replicas, f"{service!r} is still waited for: {service.verdict}"
            else:
                assert all(each.state in AT_REST for each in service.replicas)


Contended.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestContended = pytest.mark.slow(Contended.TestCase)
