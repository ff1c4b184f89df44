"""Several ways to come to an end, of which the first counts."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def first[T](*ways: Coroutine[Any, Any, T]) -> T:
    """Return what the first of these yields; the others are cancelled and awaited.

    Example:
        >>> async def value(): return 1
        >>> asyncio.run(first(value(), asyncio.sleep(9)))
        1
    """
    tasks = [asyncio.create_task(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
