"""Sees clients leave while their sockets are not read.

A paused socket tells its event loop nothing, not even a reset. One timer polls all of them for the end of the
client's side; it runs only while there are any.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final

_INTERVAL_S: Final = 0.05
_ANY: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class Hangups:
    """The paused sockets of one event loop.

    Args:
        loop: Where the timer runs.
    """

    __slots__ = ("_gone", "_loop", "_poll", "_signs", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._poll = select.poll()
        self._signs: dict[int, int] = {}
        self._gone: dict[int, Callable[[], None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Hangups: {len(self._gone)} paused>"

    def watch(self, fd: int, gone: Callable[[], None], *, half_close: bool = False) -> None:
        """Call `gone` once the other side of `fd` has closed or reset, until `forget`.

        Args:
            fd: A socket.
            gone: What to call.
            half_close: Its closing is to be read like data, after all that came before; only a reset counts.
        """
        self._poll.register(fd, 0 if half_close else select.POLLRDHUP)
        self._gone[fd] = gone
        self._signs[fd] = select.POLLERR if half_close else _ANY
        if self._timer is None:
            self._timer = self._loop.call_later(_INTERVAL_S, self._look)

    def forget(self, fd: int) -> None:
        """Watch `fd` no more; fine if it was not watched."""
        if self._gone.pop(fd, None) is not None:
            self._poll.unregister(fd)
            del self._signs[fd]
            if not self._gone and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _look(self) -> None:
        self._timer = None
        for fd, seen in self._poll.poll(0):
            gone = self._gone.get(fd)
            if gone is not None and seen & self._signs[fd]:
                self.forget(fd)
                gone()
        if self._gone and self._timer is None:
            self._timer = self._loop.call_later(_INTERVAL_S, self._look)
