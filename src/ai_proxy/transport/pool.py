"""Connections to many origins, and the raw door: head bytes in, exchange out.

The pool maps origins to lanes and makes connections. A request's way through `send` is: take the idle
connection used last; none → take a turn under the origin's cap, or wait for one; connect; send; and once
only, if a reused connection turns out to have been closed meanwhile and the request may be repeated, send
on a new one. It knows no headers: what is in a head is its caller's business.
"""

import asyncio
import ssl
from math import inf

from ai_proxy.transport.connection import Body, Connection
from ai_proxy.transport.errors import (
    CertificateRejected,
    ConnectFailed,
    ConnectTimeout,
    OriginEnded,
    PoolClosed,
    PoolTimeout,
    UpstreamClosed,
)
from ai_proxy.transport.exchange import Exchange
from ai_proxy.transport.lane import Lane
from ai_proxy.transport.limits import Limits, Timeouts
from ai_proxy.transport.origin import Origin
from ai_proxy.transport.reader import InformationalHook
from ai_proxy.transport.tls import fault_of

__all__ = ["Exchange", "Limits", "Origin", "Pool", "Timeouts"]

_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})


class Pool:
    """A pool of connections; it belongs to one event loop.

    Attributes:
        timeouts: Deadlines where a request names none.

    Args:
        limits: Bounds of connections and responses.
        timeouts: Deadlines where a request names none.
        ssl_context: For `https` origins that bring none; the system's default if None.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self._ssl_context = ssl_context
        self._lanes: dict[Origin, Lane] = {}
        # Dropped ones whose last exchanges are still running
        self._leaving: set[Lane] = set()
        self._closed = False
        self._emptied: asyncio.Event | None = None

    def __repr__(self) -> str:
        waiting = sum(lane.waiting for lane in self._lanes.values())
        state = "closed" if self._closed else f"{len(self._lanes)} origins"
        return f"<Pool: {state}, {self.active} active, {self.idle} idle, {waiting} waiting>"

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return sum(len(lane.idle) for lane in self._lanes.values())

    @property
    def active(self) -> int:
        """How many connections serve an exchange or are being made."""
        return sum(lane.turns - len(lane.idle) for lane in (*self._lanes.values(), *self._leaving))

    async def send(
        self,
        origin: Origin,
        head: bytes,
        body: Body = None,
        *,
        method: bytes,
        timeouts: Timeouts | None = None,
        chunked: bool = False,
        upgrade: bytes = b"",
        on_informational: InformationalHook | None = None,
    ) -> Exchange:
        """Send a request and wait for the head of its response.

        Args:
            origin: Where to.
            head: The request's complete head, empty line included; sent as it is.
            body: All of the body, or its pieces as they come, or None.
            method: As in the head.
            timeouts: Deadlines; the pool's own if None.
            chunked: The head declares a chunked body: pieces are framed as chunks.
            upgrade: The head's Upgrade field: the request gets a connection that serves no other, and a 101 to what
                it asks for makes that the caller's (`Exchange.take_over`).
            on_informational: Called with status and fields of each 1xx response.

        Returns:
            The exchange, its head in. The caller closes it.

        Raises:
            TransportError: No response; see `ai_proxy.transport.errors`.
        """
        if timeouts is None:
            timeouts = self.timeouts
        connection = None if upgrade else self.take_idle(origin)
        if connection is None:
            connection = await self._open(origin, timeouts, fresh=bool(upgrade))
        repeat = False
        while True:
            exchange = connection.start(
                head,
                body,
                method=method,
                timeouts=timeouts,
                chunked=chunked,
                upgrade=upgrade,
                on_informational=on_informational,
            )
            try:
                await exchange.wait_head()
            except UpstreamClosed as error:
                replayable = method in _IDEMPOTENT and (body is None or isinstance(body, bytes))
                if repeat or not (error.stale and replayable):
                    raise
            else:
                return exchange
            repeat = True
            connection = await self._open(origin, timeouts, fresh=True)

    def take_idle(self, origin: Origin) -> Connection | None:
        """Take an idle connection without waiting: the warm path."""
        lane = self._lanes.get(origin)
        return lane.take_idle() if lane is not None else None

    async def acquire(self, origin: Origin, timeouts: Timeouts) -> Connection:
        """Take an idle connection or make one, waiting for a turn under the origin's cap.

        Raises:
            ConnectFailed: It can't be made.
            ConnectTimeout: It was not made in time.
            PoolTimeout: No turn came in time.
            PoolClosed: The pool was closed or the origin dropped meanwhile.
        """
        connection = self.take_idle(origin)
        return connection if connection is not None else await self._open(origin, timeouts)

    def quiet_s(self, origin: Origin) -> float:
        """How long no byte has come from an origin, in seconds; see `Lane.quiet_s`."""
        lane = self._lanes.get(origin)
        return inf if lane is None else lane.quiet_s()

    def drop(self, origin: Origin, *, abort: bool = False) -> None:
        """Close the connections of an origin that is gone, those being made too; active ones finish, unless `abort`."""
        lane = self._lanes.pop(origin, None)
        if lane is not None:
            if lane.turns:
                self._leaving.add(lane)
            lane.close(abort=abort)

    async def aclose(self) -> None:
        """Close every connection at once and wait until their sockets are gone."""
        self._closed = True
        for origin in list(self._lanes):
            self.drop(origin, abort=True)
        for lane in list(self._leaving):
            lane.close(abort=True)
        if self._leaving:
            self._emptied = self._emptied or asyncio.Event()
            await self._emptied.wait()

    async def _open(self, origin: Origin, timeouts: Timeouts, *, fresh: bool = False) -> Connection:
        """Make a connection; at the cap, one that was just released will do unless it must be `fresh`."""
        lane = self._lane(origin)
        if not lane.take_turn():
            connection = await self._wait_for_turn(lane, timeouts.pool_s, fresh=fresh)
            if connection is not None:
                return connection
        return await self._connect(lane, timeouts.connect_s)

    async def _wait_for_turn(self, lane: Lane, within_s: float, *, fresh: bool) -> Connection | None:
        """Return a connection, or None for a turn to make one."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    turn = lane.stand_in_line(fresh=fresh)
                    try:
                        connection = await turn
                    except BaseException:
                        lane.leave_line(turn)
                        raise
                    # It may have been closed between being passed on and our waking up.
                    if connection is None or connection.usable:
                        return connection
        except TimeoutError:
            raise PoolTimeout(f"no free connection to {lane.origin} within {within_s} s") from None

    async def _connect(self, lane: Lane, within_s: float) -> Connection:
        """Make a connection on a turn already taken; give the turn back if that fails."""
        loop = asyncio.get_running_loop()
        origin = lane.origin
        connection = Connection(loop, origin, lane, self._limits)
        try:
            async with asyncio.timeout(within_s) as deadline:
                lane.connecting.add(deadline)
                try:
                    await self._open_socket(loop, connection)
                finally:
                    lane.connecting.discard(deadline)
        except BaseException as error:
            lane.give_up(connection)
            if isinstance(error, TimeoutError):
                if lane.closed:
                    raise PoolClosed(f"{origin} was dropped") from None
                raise ConnectTimeout(f"no connection to {origin} within {within_s} s") from None
            if isinstance(error, ssl.SSLCertVerificationError):
                raise CertificateRejected(f"cannot connect to {origin}: {error}", fault_of(error)) from error
            if isinstance(error, (OSError, UnicodeError)):
                raise ConnectFailed(f"cannot connect to {origin}: {error}") from error
            raise
        if lane.closed:
            connection.abort()
            raise PoolClosed(f"{origin} was dropped")
        # Another program can listen there only once the origin's own listener is closed: by its end, or by itself, for
        # which its owner answers. So if it lives now, it did when this connection was taken, and took it. An answer
        # from before the connection would prove nothing, and one that stands can't change hands.
        if origin.is_alive is not None and not origin.is_alive():
            connection.abort()
            raise OriginEnded(f"{origin} has ended")
        return connection

    async def _open_socket(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> None:
        origin = connection.origin
        context, name = self._tls(origin) if origin.scheme == "https" else (None, None)
        if origin.uds is not None:
            await loop.create_unix_connection(lambda: connection, origin.uds, ssl=context, server_hostname=name)
        else:
            await loop.create_connection(
                lambda: connection, origin.host, origin.port, ssl=context, server_hostname=name
            )

    def _tls(self, origin: Origin) -> tuple[ssl.SSLContext, str]:
        """The context for an origin, and the name that its certificate has to bear."""
        if origin.tls is not None:
            return origin.tls.context, origin.tls.server_name or origin.host
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
        return self._ssl_context, origin.host

    def _lane(self, origin: Origin) -> Lane:
        if self._closed:
            raise PoolClosed("the pool is closed")
        lane = self._lanes.get(origin)
        if lane is None:
            lane = Lane(asyncio.get_running_loop(), origin, self._limits, self._forget)
            self._lanes[origin] = lane
        return lane

    def _forget(self, lane: Lane) -> None:
        self._leaving.discard(lane)
        if self._lanes.get(lane.origin) is lane:
            del self._lanes[lane.origin]
        if self._emptied is not None and not self._leaving:
            self._emptied.set()
