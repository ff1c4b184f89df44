"""The socket of one client: whether it is read, how we learn that its client is gone, and how it ends.

The lower half of `protocol.py`, which knows what is said on it. Here nothing is parsed, and no request is known.
"""

import asyncio
import fcntl
import secrets
import socket
import struct
import sys
import termios
from math import inf
from typing import Any, ClassVar, Self, cast, override

from loguru import logger
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ai_proxy.errors import ProxyError
from ai_proxy.proxy.hangups import Hangups
from ai_proxy.proxy.limits import ConnectionLimits
from ai_proxy.proxy.replies import refusal
from ai_proxy.transport.deadline import RESOLUTION_S, Deadline
from ai_proxy.transport.tls import hold_little


class ClientSocket(HttpToolsProtocol):
    """One client's socket, for a protocol to stand on.

    Attributes:
        limits: Sizes and deadlines; `with_limits` makes a class with others.
    """

    limits: ClassVar[ConnectionLimits] = ConnectionLimits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Shared by all connections of one server
        self._hangups: Hangups = app_state.setdefault("ai_proxy.hangups", Hangups(self.loop))
        # For the life of the socket: what the client must do in time, what it must take in time
        self._deadline = Deadline(self.loop, self._late)
        self._stall = Deadline(self.loop, self._give_up)
        self._fd = -1
        self._cut_at = inf
        # Once nothing that still comes is listened to; once it carries no more HTTP
        self._deaf = False
        self._is_raw = False

    @classmethod
    def with_limits(cls, limits: ConnectionLimits) -> type[Self]:
        """Make a protocol class with these limits."""
        return cast("type[Self]", type(cls.__name__, (cls,), {"limits": limits}))

    # The loop's side

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base
        super().connection_made(transport)
        hold_little(transport)
        sock = transport.get_extra_info("socket")
        self._fd = sock.fileno() if sock is not None else -1
        self._deadline.set(self.limits.head_s)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self._deadline.cancel()
        self._stall.cancel()
        self._lose_client()
        self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]  # breaks the cycle of references, as in the base

    @override
    def eof_received(self) -> None:
        # A client that closes and one that half-closes look the same; both are taken to be gone.
        self._lose_client()
        # Closed by the loop, but not before what is still to be written was taken.
        self._deadline.set(self.limits.stall_s)

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall.set(self.limits.stall_s)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        self._stall.cancel()

    # The protocol's side

    def pause_body(self) -> None:
        """Read no more; a client that leaves is noticed all the same."""
        if not self.flow.read_paused and not self.transport.is_closing():
            self.flow.pause_reading()
            self._hangups.watch(self._fd, self._hung_up, half_close=self._is_raw)

    def resume_body(self) -> None:
        """Read on."""
        if self.flow.read_paused and not self.transport.is_closing():
            self._hangups.forget(self._fd)
            self.flow.resume_reading()

    def break_off(self, *, reset: bool) -> None:
        """End the connection in the middle of a response; nothing is left to do where it ends already."""
        self._deaf = True
        if self.transport.is_closing():
            return
        if reset:
            sock = self.transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self._close()

    def _hang_up(self) -> None:
        """Send no more, and give the client time to read the answer: closing now could reset it away."""
        self._deaf = True
        self.resume_body()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            # TLS waits for the client to close as well, and throws away what still comes.
            self.transport.close()
        self._await_end()

    def _hang_up_with(self, error: ProxyError) -> None:
        """Say why, and send no more."""
        request_id = secrets.token_hex(8)
        client = ":".join(map(str, self.client)) if self.client else "a client"
        # No app sees it, so nobody else accounts for it.
        logger.bind(request_id=request_id).info("{} refused with {}: {}", client, error.status, error.message)
        self.transport.write(refusal(error, request_id))
        self._hang_up()

    def _close(self) -> None:
        """Close after what is still to be sent was taken; asked for it again, don't wait for longer."""
        if not self.transport.is_closing():
            self.transport.close()
            self._await_end()

    def _await_end(self) -> None:
        """An answer that is still on its way has the time that every answer has."""
        self._cut_at = self.loop.time() + self.limits.stall_s
        unsent = self.transport.get_write_buffer_size()
        self._deadline.set(self.limits.stall_s if unsent else self.limits.linger_s)

    def _late(self) -> None:
        # A TLS transport does not count what it has encrypted; the kernel knows whether all was taken.
        is_early = self.loop.time() + RESOLUTION_S < self._cut_at
        if is_early and self.transport.is_closing() and unsent_bytes(self._fd):
            self._deadline.set(self.limits.linger_s)
        else:
            self._expired()

    def _lose_client(self) -> None:
        """Hear that the client is gone, in the step in which it is seen; perhaps not for the first time."""
        self._deaf = True
        self._hangups.forget(self._fd)

    def _expired(self) -> None:
        """Hear that the deadline for what the client should do has passed."""
        raise NotImplementedError

    def _hung_up(self) -> None:
        """The client closed its side, or all of it, while it was not read."""
        self._give_up()

    def _give_up(self) -> None:
        """The client left while it was not read, or takes nothing any more."""
        self._lose_client()
        self.transport.abort()


def unsent_bytes(fd: int) -> int:
    """How much of what was written to a socket its other side has yet to take; 0 if it is gone."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0
