"""Two sockets joined, byte for byte, at the slower side's pace: callbacks only, no task and no buffer of its own.

Each `End` is the protocol of one socket. What one reads the other writes; a side that takes no more stops the reading
of the other; a FIN is passed on. What may pass and what an end means is its `Listener`'s to say.
"""

import asyncio
import socket
import struct
from typing import Final, Protocol

from ai_proxy.transport.deadline import Deadline
from ai_proxy.transport.upgrade import RawSocket

_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Listener(Protocol):
    """Who decides about a pair of ends."""

    def passes(self, end: "End", data: bytes) -> bytes:
        """Say what of these bytes, just read from `end`, goes to its peer."""
        ...

    def finished(self, end: "End") -> None:
        """Hear that nothing more will come from `end`; its peer was told, if it could be."""

    def stalled(self, end: "End") -> None:
        """Hear that `end` has taken nothing for too long."""

    def lost(self, end: "End", error: Exception | None) -> None:
        """Hear that the socket of `end` is gone; said once."""


class End(asyncio.Protocol):
    """One of two joined sockets.

    Attributes:
        read_bytes: How much came from it.
        is_finished: Nothing more will come from it.
        is_lost: Its socket is gone.

    Args:
        raw: The socket.
        listener: Decides.
        stall_s: How long it may take nothing of what waits for it.
    """

    __slots__ = (
        "_former", "_has_said_all", "_listener", "_raw", "_stall", "_stall_s", "is_finished", "is_lost", "peer",
        "read_bytes",
    )  # fmt: skip

    def __init__(self, raw: RawSocket, listener: Listener, *, stall_s: float) -> None:
        # For the life of the socket
        self.peer: End
        self._raw = raw
        self._listener = listener
        self._stall_s = stall_s
        self._stall = Deadline(asyncio.get_running_loop(), self._stalled)
        self._former = raw.transport.get_protocol()
        # How far it has come
        self.read_bytes = 0
        self.is_finished = False
        self.is_lost = False
        self._has_said_all = False

    def __repr__(self) -> str:
        state = "lost" if self.is_lost else "finished" if self.is_finished else "open"
        return f"<End {state}, {self.read_bytes} bytes read>"

    # The owner's side

    def write(self, data: bytes) -> None:
        """Send bytes, unless it can't be any more."""
        if not self._has_said_all and not self._raw.transport.is_closing():
            self._raw.transport.write(data)

    def finish(self) -> None:
        """Send a FIN after what is still to be sent; over TLS, which has none, close."""
        transport = self._raw.transport
        if transport.is_closing():
            return
        self._has_said_all = True
        if not transport.can_write_eof():
            self.close()
            return
        try:
            transport.write_eof()
        except OSError:
            # It was reset, which asyncio has not noticed yet.
            transport.abort()

    def close(self) -> None:
        """Close after what is still to be sent was taken."""
        self._raw.transport.close()
        if not self.is_lost:
            self._stall.set(self._stall_s)

    def abort(self, *, reset: bool = False) -> None:
        """Close at once; by a reset if the other side must not take it for an ordinary end."""
        sock = self._raw.transport.get_extra_info("socket")
        if reset and sock is not None and not self._raw.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._raw.transport.abort()

    # The socket's side

    def data_received(self, data: bytes) -> None:
        """Pass on what was read."""
        self.read_bytes += len(data)
        if self._raw.on_read is not None:
            self._raw.on_read()
        passed = self._listener.passes(self, data)
        if passed:
            self.peer.write(passed)

    def eof_received(self) -> bool:
        """Pass a FIN on; the other direction goes on, except over TLS."""
        self.is_finished = True
        self._listener.finished(self)
        return self._raw.transport.can_write_eof()

    def pause_writing(self) -> None:
        """Read no more from the peer: this side is slower."""
        self._stall.set(self._stall_s)
        self.peer.pause()

    def resume_writing(self) -> None:
        """Read on from the peer."""
        self._stall.cancel()
        self.peer.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those that held the socket before, and the listener."""
        self.is_lost = True
        self._stall.cancel()
        self._former.connection_lost(exc)
        self._listener.lost(self, exc)

    # Between the two

    def join(self, peer: "End") -> None:
        """Pass on from now on to `peer` what comes, beginning with what has come."""
        raw, self.peer = self._raw, peer
        sock = raw.transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            # Between messages nothing else would show that the other side's machine is gone.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        raw.transport.set_protocol(self)
        if raw.early:
            self.data_received(raw.early)

    def begin(self) -> None:
        """Read, once both are joined; not if the peer is full already."""
        if self.peer.is_full:
            self.peer.pause_writing()
        else:
            self.resume()

    @property
    def is_full(self) -> bool:
        """Whether more waits to be sent than should."""
        transport = self._raw.transport
        return transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]

    def pause(self) -> None:
        """Read no more for now."""
        if not self._raw.transport.is_closing():
            self._raw.pause()

    def resume(self) -> None:
        """Read on."""
        if not self._raw.transport.is_closing():
            self._raw.resume()

    def _stalled(self) -> None:
        self._listener.stalled(self)
