"""All connections to one origin: how many there may be, which are idle, who waits for a turn.

Synchronous and free of I/O: every method is one turn and O(1). A turn under the cap is passed on, never
freed and fought for again: with someone waiting, a released connection goes straight to them.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from math import inf

from ai_proxy.transport.connection import Connection
from ai_proxy.transport.errors import PoolClosed
from ai_proxy.transport.limits import Limits
from ai_proxy.transport.origin import Origin


class Lane:
    """The connections to one origin.

    Attributes:
        origin: Where they lead.
        connecting: The deadlines of those being made; what is dropped has none to wait for.
        connections: All with a living socket.
        idle: Those free to serve, the longest idle first.
        turns: Places taken under the cap: living connections and those being made.
    """

    __slots__ = (
        "_closed", "_limits", "_loop", "_moved_at", "_on_empty", "_reads_seen", "_sweeper", "_waiters",
        "connecting", "connections", "idle", "origin", "turns",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        origin: Origin,
        limits: Limits,
        on_empty: Callable[["Lane"], None],
    ) -> None:
        self.origin = origin
        self.connecting: set[asyncio.Timeout] = set()
        self.connections: set[Connection] = set()
        self.idle: dict[Connection, None] = {}
        self.turns = 0
        self._loop = loop
        self._limits = limits
        self._on_empty = on_empty
        self._waiters: OrderedDict[asyncio.Future[Connection | None], bool] = OrderedDict()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        # For `quiet_s`
        self._reads_seen = 0
        self._moved_at = loop.time()

    def __repr__(self) -> str:
        return (
            f"<Lane {self.origin}: {self.turns - len(self.idle)} active, {len(self.idle)} idle, "
            f"{len(self._waiters)} waiting>"
        )

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return len(self._waiters)

    @property
    def closed(self) -> bool:
        """Whether the lane gives no more connections."""
        return self._closed

    def quiet_s(self) -> float:
        """How long no byte has come, in seconds, as far as those who ask can tell.

        Measured from the last call that found something new: stamping every read would cost more than counting it.
        """
        now, reads = self._loop.time(), sum(connection.reads for connection in self.connections)
        if reads != self._reads_seen:
            self._reads_seen, self._moved_at = reads, now
        return now - self._moved_at

    # Taking

    def take_idle(self) -> Connection | None:
        """Take the connection that was used last, if it is still fresh."""
        idle = self.idle
        while idle:
            connection, _ = idle.popitem()
            if connection.usable:
                if self._loop.time() - connection.idle_since < self._limits.idle_expiry_s:
                    return connection
                connection.abort()
        return None

    def take_turn(self) -> bool:
        """Take a place for a new connection; it must be given back by `lost` or `give_turn`."""
        if self.turns >= self._limits.max_connections:
            return False
        self.turns += 1
        return True

    def stand_in_line(self, *, fresh: bool) -> "asyncio.Future[Connection | None]":
        """Wait for a turn, first come first served.

        Args:
            fresh: Only a new connection will do.

        Returns:
            A future of a connection to use, or of None: a place to make one.
        """
        turn: asyncio.Future[Connection | None] = self._loop.create_future()
        if self._closed:
            turn.set_exception(PoolClosed(f"{self.origin} was dropped"))
        else:
            self._waiters[turn] = fresh
        return turn

    def leave_line(self, turn: "asyncio.Future[Connection | None]") -> None:
        """Stop waiting, and pass on a turn that came too late."""
        self._waiters.pop(turn, None)
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            connection = turn.result()
            if connection is None:
                self.give_turn()
            elif connection.usable:
                self.released(connection)

    # Giving back

    def give_turn(self) -> None:
        """Pass a place under the cap to the next in line, or free it."""
        turn = self._first_in_line()
        if turn is not None:
            del self._waiters[turn]
            turn.set_result(None)
            return
        self.turns -= 1
        if not self.turns:
            self._stop_sweeping()
            self._on_empty(self)

    def made(self, connection: Connection) -> None:
        """Count a new socket; its place was taken before."""
        self.connections.add(connection)

    def give_up(self, connection: Connection) -> None:
        """End a connection that could not be made, and give its place back now."""
        if connection in self.connections:
            connection.abort()
        connection.report_lost()

    def released(self, connection: Connection) -> None:
        """Pass a clean connection to the next in line, or let it idle."""
        if self._closed:
            connection.abort()
            return
        turn = self._first_in_line() if self._waiters else None
        if turn is not None:
            if self._waiters[turn]:
                # They stay first, and get the place as soon as this socket is gone.
                connection.abort()
            else:
                del self._waiters[turn]
                turn.set_result(connection)
            return
        connection.idle_since = self._loop.time()
        self.idle[connection] = None
        if self._sweeper is None:
            self._sweep_at(connection.idle_since + self._limits.idle_expiry_s)

    def lost(self, connection: Connection) -> None:
        """Forget a connection whose socket is gone."""
        self.idle.pop(connection, None)
        self.connections.discard(connection)
        self.give_turn()

    def close(self, *, abort: bool) -> None:
        """Give no more connections; idle ones and those being made end now, active ones too if `abort`."""
        self._closed = True
        self._stop_sweeping()
        for deadline in self.connecting:
            if not deadline.expired():
                deadline.reschedule(self._loop.time())
        for connection in list(self.connections if abort else self.idle):
            connection.abort()
        self.idle.clear()
        while (turn := self._first_in_line()) is not None:
            del self._waiters[turn]
            turn.set_exception(PoolClosed(f"{self.origin} was dropped"))

    def _first_in_line(self) -> "asyncio.Future[Connection | None] | None":
        while self._waiters:
            turn = next(iter(self._waiters))
            if not turn.done():
                return turn
            # Cancelled, and about to leave the line by itself.
            del self._waiters[turn]
        return None

    # Idle expiry: one timer, always at the expiry of the connection that idles longest

    def _sweep_at(self, when: float) -> None:
        self._sweeper = self._loop.call_at(when, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        expiry = self._limits.idle_expiry_s
        now = self._loop.time()
        expired = []
        next_at = inf
        for connection in self.idle:
            if connection.idle_since + expiry > now + 0.001:
                next_at = connection.idle_since + expiry
                break
            expired.append(connection)
        for connection in expired:
            del self.idle[connection]
            connection.abort()
        if next_at != inf:
            self._sweep_at(next_at)

    def _stop_sweeping(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
