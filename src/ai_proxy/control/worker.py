"""A thread of its own for calls that block: one after the other, each awaited under a deadline.

The thread is a daemon: a call into a file system or a driver that hangs never returns, and must not keep the process
from ending, as the threads of an executor would.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue


class Worker:
    """Runs blocking calls in one thread, in the order in which they were asked for.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Worker {self._thread.name}, {self._calls.qsize()} calls wait>"

    async def call[T](self, work: Callable[[], T], deadline_s: float) -> T:
        """Have a call made and wait for what it returns or raises.

        Raises:
            TimeoutError: It has not returned in time; it still may, later.
        """
        done: Future[T] = Future()
        self._calls.put(lambda: _settle(done, work))
        async with asyncio.timeout(deadline_s):
            return await asyncio.wrap_future(done)

    def close(self) -> None:
        """Have the thread end after the calls that were asked for; does not wait for it."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _settle[T](done: "Future[T]", work: Callable[[], T]) -> None:
    """Make a call unless nobody waits for it any more."""
    if not done.set_running_or_notify_cancel():
        return
    try:
        done.set_result(work())
    except BaseException as error:  # noqa: BLE001  # raised where it is awaited
        done.set_exception(error)
