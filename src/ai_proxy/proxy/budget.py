"""How many bytes of request bodies may be held at once, over all requests.

Taking is synchronous while there is room. When there is none, requests wait their turn under a deadline, and their
clients are not read meanwhile.
"""

import asyncio
from collections import deque
from contextlib import suppress

from ai_proxy.errors import QueueFull


class Budget:
    """A number of bytes, handed out in the order of asking.

    Args:
        total: How many there are.
        max_wait_s: How long a request may wait for its share.
    """

    def __init__(self, total: int, *, max_wait_s: float = 60.0) -> None:
        self.total = total
        self.taken = 0
        self._max_wait_s = max_wait_s
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def __repr__(self) -> str:
        return f"<Budget: {self.taken} of {self.total} bytes taken, {len(self._waiting)} waiting>"

    def try_take(self, size: int) -> bool:
        """Take bytes if there are as many and nobody waits."""
        # One body larger than everything may pass alone; its own limit is another's business.
        if not self._waiting and (self.taken + size <= self.total or not self.taken):
            self.taken += size
            return True
        return False

    async def take(self, size: int) -> None:
        """Take bytes, waiting for others to give some back.

        Raises:
            QueueFull: None came free in time.
        """
        if self.try_take(size):
            return
        turn = asyncio.get_running_loop().create_future()
        entry = (size, turn)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(self._max_wait_s):
                await turn
        except BaseException as error:
            with suppress(ValueError):
                self._waiting.remove(entry)
            self.give_back(size if turn.done() and not turn.cancelled() else 0)
            if isinstance(error, TimeoutError):
                raise QueueFull("the proxy holds as many request bodies as it may", retry_after_s=5) from None
            raise

    def give_back(self, size: int) -> None:
        """Return bytes, and let the next ones have them."""
        self.taken -= size
        while self._waiting and (self.taken + self._waiting[0][0] <= self.total or not self.taken):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self.taken += wanted
                turn.set_result(None)
