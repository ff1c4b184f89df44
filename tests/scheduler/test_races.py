"""Grants asked for between any two steps of the loop, while the replica they would be on is made to leave.

Nothing may be granted on a replica that was told to stop, nothing that was granted may be cut, and whoever asks is
answered. The loop runs one callback at a time, and hypothesis chooses before which of them a client does something.
"""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ai_proxy.errors import CannotServe
from ai_proxy.scheduler.grants import OpenGrant
from ai_proxy.services.machine import State
from tests.fakes.clock import run, this_loop
from tests.scheduler.house import House
from tests.scheduler.world import spec

CAUSES: dict[str, Callable[[House], object]] = {
    "eviction": lambda house: house.later("b"),
    "stop": lambda house: house.scheduler.stop("a", "an operator"),
    "restart": lambda house: house.scheduler.stop("a", "an operator", restart=True),
    "replacement": lambda house: house.scheduler.configure(spec("a"), replace=True),
    "removal": lambda house: house.scheduler.remove("a"),
    "idleness": lambda house: house.scheduler.configure(spec("a", idle_timeout_s=0.001), replace=False),
}
"""Why `a` has to leave."""

DEEDS = ("ask", "admit", "close", "renew", "cancel")
plans = st.lists(st.tuples(st.integers(0, 60), st.sampled_from(DEEDS)), max_size=8)


class Clients:
    """Does things to service `a` when its hour has come."""

    held: list[OpenGrant]
    waiting: list[asyncio.Task[OpenGrant]]

    def __init__(self, house: House, plan: list[tuple[int, str]]) -> None:
        self.house = house
        self.began = this_loop().steps
        self.plan = sorted(plan, reverse=True)
        self.held = []
        self.waiting = []
        self.attached: OpenGrant | None = None

    def act(self, step: int) -> None:
        while self.plan and self.began + self.plan[-1][0] <= step:
            self._do(self.plan.pop()[1])

    def _do(self, deed: str) -> None:
        match deed:
            case "ask" if (grant := self.house.ask("a")) is not None:
                self.held.append(grant)
            case "admit":
                self.waiting.append(self.house.later("a"))
            case "close" if self.held:
                self.attached = self.held.pop(0)
                self.attached.close()
            case "renew" if self.attached is not None and self.attached.renew():
                assert self.attached.origin not in self.house.gone
                self.held.append(self.attached)
                self.attached = None
            case "cancel" if self.waiting:
                self.waiting[-1].cancel()

    async def finish(self) -> None:
        """End every request as it comes to its grant; each must come to one, or to an error with a cause."""
        for grant in self.held:
            grant.close()
        for task in self.waiting:
            try:
                (await task).close()
            except asyncio.CancelledError:
                assert task.cancelled()
            except CannotServe:
                pass


async def race(cause: str, plan: list[tuple[int, str]]) -> None:
    async with House(spec("a"), spec("b"), claim_after_s=5.0) as house:
        (await house.admit("a")).close()
        clients = Clients(house, plan)
        this_loop().on_step = clients.act
        made = CAUSES[cause](house)
        while clients.plan:
            await asyncio.sleep(0.01)
        this_loop().on_step = None
        async with asyncio.timeout(60):
            await clients.finish()
            if isinstance(made, asyncio.Task):
                (await made).close()
        assert list(house.scheduler.requests()) == []


@pytest.mark.slow
@pytest.mark.parametrize("cause", CAUSES)
@given(plan=plans)
@example(plan=[(0, "ask")])
@example(plan=[(0, "admit"), (1, "cancel")])
@settings(max_examples=60)
def test_no_grant_is_on_a_replica_that_was_told_to_stop(cause: str, plan: list[tuple[int, str]]) -> None:
    run(race(cause, plan))


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("step", range(0, 60, 3))
def test_a_request_at_any_moment_of_a_departure_is_served_by_some_life(cause: str, step: int) -> None:
    run(race(cause, [(step, "admit"), (step + 1, "ask"), (step + 7, "close")]))


def test_a_replica_with_an_open_grant_outlasts_the_wait_for_its_room() -> None:
    async def story() -> None:
        async with House(spec("a"), spec("b")) as house:
            grant = await house.admit("a")
            waiting = house.later("b")
            await asyncio.sleep(25)
            assert house.state("a") is State.READY
            grant.close()
            (await waiting).close()

    run(story())
