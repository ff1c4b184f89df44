"""A clock that needs no waiting: an event loop on which time jumps to the next timer whenever nothing is left to do.

    @virtual_time
    async def test_…() -> None: ...        # sleeps of any length take none

`loop.on_step` is called before every callback of the loop, that is, between any two awaits of any two tasks.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import wraps
from typing import Any, cast


class _Jumping(selectors.DefaultSelector):
    """Where others would sleep, this one moves the clock."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if not found:
            if timeout is None:
                raise AssertionError("everything waits and nothing will ever happen")
            if timeout > 0:
                self.loop.jump()
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own; only for what never leaves it (no sockets, no threads)."""

    _scheduled: list[Any]  # the base class's heap of timers

    def __init__(self) -> None:
        self.now = 1000.0
        self.steps = 0
        self.on_step: Callable[[int], None] | None = None
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def jump(self) -> None:
        """Move the clock to the next timer: exactly there, since a rounded sum may fall short of it for ever."""
        if self._scheduled:
            self.now = max(self.now, self._scheduled[0]._when)

    def call_soon(  # type: ignore[override]  # typeshed's is generic in the arguments
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return super().call_soon(self._step, callback, args, context=context)

    def _step(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.steps += 1
        if self.on_step is not None:
            self.on_step(self.steps)
        callback(*args)


def run[T](story: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)


def virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on a loop of virtual time."""

    @wraps(test)
    def story(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs))

    return story


def this_loop() -> VirtualLoop:
    """The loop of virtual time that runs."""
    return cast("VirtualLoop", asyncio.get_running_loop())


async def pause() -> None:
    """Let everything run that can run now, without any time passing."""
    for _ in range(50):
        await asyncio.sleep(0)
