"""The bytes of bodies that may be held."""

import asyncio

import pytest

from ai_proxy.errors import QueueFull
from ai_proxy.proxy.budget import Budget


def test_taking_is_immediate_while_there_is_room() -> None:
    budget = Budget(10)

    assert [budget.try_take(6), budget.try_take(6), budget.try_take(4)] == [True, False, True]


def test_one_body_larger_than_everything_may_pass_alone() -> None:
    budget = Budget(10)

    assert budget.try_take(20)
    assert not budget.try_take(1)


async def test_those_who_wait_are_served_in_order_and_nobody_overtakes() -> None:
    budget = Budget(10)
    budget.try_take(10)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        await budget.take(size)
        order.append(name)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(take("large", 8))
        tasks.create_task(take("small", 1))
        await asyncio.sleep(0)
        budget.give_back(5)
        assert not budget.try_take(1)
        budget.give_back(5)

    assert order == ["large", "small"]
    assert budget.taken == 9


async def test_a_wait_has_a_deadline() -> None:
    budget = Budget(1, max_wait_s=0.01)
    budget.try_take(1)

    with pytest.raises(QueueFull):
        await budget.take(1)
    budget.give_back(1)
    assert budget.taken == 0


@pytest.mark.parametrize("granted", [True, False])
async def test_a_wait_that_is_cancelled_takes_nothing(granted: bool) -> None:
    budget = Budget(1)
    budget.try_take(1)
    waiting = asyncio.create_task(budget.take(1))
    await asyncio.sleep(0)
    if granted:
        budget.give_back(1)
    waiting.cancel()
    await asyncio.wait({waiting})
    if not granted:
        budget.give_back(1)

    assert budget.taken == 0
    assert budget.try_take(1)


async def test_who_stops_waiting_lets_the_next_one_pass() -> None:
    budget = Budget(10)
    budget.try_take(5)
    large = asyncio.create_task(budget.take(8))
    small = asyncio.create_task(budget.take(2))
    await asyncio.sleep(0)
    large.cancel()
    await asyncio.wait_for(small, 5)

    assert budget.taken == 7
