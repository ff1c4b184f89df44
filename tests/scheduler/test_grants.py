"""What a grant tells of the wait for it, and that it can be given back and taken again."""

import asyncio
from collections.abc import Callable

import pytest

from ai_proxy.devices import Placement
from ai_proxy.gate import RequestInfo
from ai_proxy.scheduler.grants import Grants, OpenGrant
from ai_proxy.scheduler.ledger import Ledger
from ai_proxy.scheduler.state import Live, SchedulerState, ServiceState, Settings
from ai_proxy.services.machine import State
from ai_proxy.transport.origin import Origin
from tests.fakes.clock import run
from tests.scheduler.house import House
from tests.scheduler.world import spec


def grants(on_close: Callable[[Live], None] = lambda _: None) -> Grants:
    return Grants(on_close, SchedulerState(Ledger((), 0), Settings()), lambda: 0.0)


@pytest.mark.parametrize(
    ("since", "placed_at", "ready_at", "start_s"),
    [
        pytest.param(10.0, 15.0, 22.0, 7.0, id="it waited for room, then for the start"),
        pytest.param(10.0, 4.0, 22.0, 12.0, id="it came while another's start was under way"),
        pytest.param(10.0, 2.0, 9.0, 0.0, id="it waited for a place on a replica that was ready"),
    ],
)
def test_a_start_counts_from_its_room_or_from_the_request(
    since: float, placed_at: float, ready_at: float, start_s: float
) -> None:
    live = Live(ServiceState(spec("a")).replicas[0], Placement(()), 1, placed_at, ready_at=ready_at)
    request = RequestInfo("r", "a", since, lambda: None)

    assert OpenGrant(grants(), request, live, Origin("http", "h", 1), b"").start_s == start_s


def test_a_grant_that_is_given_back_twice_is_given_back_once() -> None:
    returned: list[Live] = []
    all_grants = grants(on_close=returned.append)
    live = Live(ServiceState(spec("a")).replicas[0], Placement(()), 1)
    grant = OpenGrant(all_grants, RequestInfo("r", "a", 0.0, lambda: None), live, Origin("http", "h", 1), b"")
    assert list(all_grants.open) == [grant]

    grant.close()
    grant.close()
    assert (list(all_grants.open), returned) == ([], [live])


def test_a_grant_that_is_taken_again_keeps_its_replica_from_making_room() -> None:
    async def story() -> None:
        async with House(spec("a", max_in_flight=1), spec("b")) as house:
            grant = await house.admit("a")
            grant.close()
            other = await house.admit("a")
            await asyncio.sleep(5)
            assert grant.renew()
            assert grant.renew()
            assert [info.since for info in house.open_on("a")] == [other.request.since, other.request.since + 5]
            other.close()
            waiting = house.later("b")
            await asyncio.sleep(20)
            assert house.state("a") is State.READY
            grant.close()
            (await waiting).close()

    run(story())


def test_a_grant_is_not_taken_again_on_a_replica_that_drains_or_in_its_next_life() -> None:
    async def story() -> None:
        async with House(spec("a"), spec("b")) as house:
            holding, attached = await house.admit("a"), await house.admit("a")
            attached.close()
            house.scheduler.stop("a", "an operator", restart=True)
            assert house.state("a") is State.DRAINING
            assert not attached.renew()
            holding.close()
            (await house.admit("a")).close()
            assert not attached.renew()
            assert house.open_on("a") == []

    run(story())
