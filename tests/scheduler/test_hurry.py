"""How long a request may last: as long as it likes, unless a claim waits for its replica."""

import asyncio
from typing import Any

from ai_proxy.services.machine import State
from tests.fakes.clock import this_loop, virtual_time
from tests.scheduler.house import House
from tests.scheduler.world import spec


def house(**settings: Any) -> House:
    """Two services of which the GPU holds one at a time; a claim comes after 30 s, a request may last for 100."""
    return House(spec("a"), spec("b"), **({"claim_after_s": 30.0, "max_request_s": 100.0} | settings))


@virtual_time
async def test_a_request_that_holds_up_a_claim_ends_when_it_has_lasted_for_as_long_as_one_may() -> None:
    async with house() as home:
        grant = await home.admit("a")
        began = this_loop().now
        (await home.admit("b")).close()
        assert home.cut == [grant.request.id]
        assert 100 <= this_loop().now - began <= 105


@virtual_time
async def test_a_request_that_has_lasted_for_too_long_already_ends_when_the_claim_is_made_and_not_before() -> None:
    async with house() as home:
        grant = await home.admit("a")
        await asyncio.sleep(500)
        began = this_loop().now
        (await home.admit("b")).close()
        assert home.cut == [grant.request.id]
        assert 30 <= this_loop().now - began <= 35


@virtual_time
async def test_a_request_that_nobody_waits_for_lasts_as_long_as_it_likes() -> None:
    async with house() as home:
        grant = await home.admit("a")
        await asyncio.sleep(5_000)
        assert home.cut == []
        grant.close()


@virtual_time
async def test_a_request_is_let_go_on_if_the_claim_is_given_up_in_time() -> None:
    async with house() as home:
        grant = await home.admit("a")
        waiting = home.later("b")
        await asyncio.sleep(50)
        assert home.state("a") is State.DRAINING
        waiting.cancel()
        await asyncio.sleep(500)
        assert (home.state("a"), home.cut) == (State.READY, [])
        grant.close()


@virtual_time
async def test_a_claim_that_is_made_again_ends_what_the_first_has_let_go_on() -> None:
    async with house() as home:
        grant = await home.admit("a")
        waiting = home.later("b")
        await asyncio.sleep(50)
        waiting.cancel()
        await asyncio.sleep(500)
        (await home.admit("b")).close()
        assert home.cut == [grant.request.id]


@virtual_time
async def test_requests_that_end_in_time_are_not_cut() -> None:
    async with house() as home:
        grants = [await home.admit("a") for _ in range(3)]
        waiting = home.later("b")
        await asyncio.sleep(60)
        for grant in grants:
            grant.close()
        (await waiting).close()
        assert home.cut == []


@virtual_time
async def test_without_a_limit_a_claim_waits_for_as_long_as_it_takes() -> None:
    async with house(max_request_s=0.0) as home:
        grant = await home.admit("a")
        waiting = home.later("b", 2_000.0)
        await asyncio.sleep(500)
        assert (home.state("a"), home.cut) == (State.DRAINING, [])
        grant.close()
        (await waiting).close()
