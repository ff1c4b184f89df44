"""An upgraded connection, from its 101 until both its sockets are gone: when it counts as work, and how it ends.

It holds a grant while messages move; an idle one is merely attached, so that it pins no GPU: its next message takes
the grant again, or ends it. Of WebSocket it knows frames, for the one that it may write itself: close, 1001.
"""

import asyncio
from typing import Final

from ai_proxy.gate import Grant
from ai_proxy.metrics import Ending
from ai_proxy.proxy.frames import FrameScanner, close_frame
from ai_proxy.proxy.splice import End
from ai_proxy.transport.deadline import Deadline
from ai_proxy.transport.upgrade import RawSocket

GOODBYE_S: Final = 5.0
"""For the rest of a frame, and for the client to take a close frame and to close."""

_GOING_AWAY: Final = 1001


class Tunnel:
    """One upgraded connection.

    Attributes:
        client: The client's side.
        upstream: The engine's side.
        ended: Why it ended, once both sockets are gone.

    Args:
        client: The client's socket; its 101 was sent.
        upstream: The engine's socket.
        grant: The grant that it came with, open.
        is_websocket: It speaks WebSocket.
        idle_s: It gives its grant back when no message has moved for so long.
        stall_s: How long a side may take nothing of what waits for it, or be silent once the other has ended.
    """

    def __init__(
        self,
        client: RawSocket,
        upstream: RawSocket,
        grant: Grant,
        *,
        is_websocket: bool,
        idle_s: float,
        stall_s: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        # For its life
        self.client = End(client, self, stall_s=stall_s)
        self.upstream = End(upstream, self, stall_s=stall_s)
        self.ended: asyncio.Future[Ending] = loop.create_future()
        self._frames = {self.client: FrameScanner(), self.upstream: FrameScanner()} if is_websocket else None
        # The grant
        self._grant = grant
        self._holds = True
        self._idle_s = idle_s
        self._idle = Deadline(loop, self._rest)
        # Its end
        self._stall_s = stall_s
        self._limit = Deadline(loop, self._cut)
        self._first: End | None = None
        self._ending: Ending | None = None
        self._farewell: str | None = None
        self._has_parted = False

    def __repr__(self) -> str:
        state = "leaving" if self._farewell is not None else "busy" if self._holds else "attached"
        return f"<Tunnel {state}: client {self.client!r}, upstream {self.upstream!r}>"

    def join(self) -> None:
        """Begin, with what has come already."""
        self._idle.set(self._idle_s)
        self.client.join(self.upstream)
        self.upstream.join(self.client)
        self.client.begin()
        self.upstream.begin()

    def shut_down(self) -> None:
        """End it if it is idle; idempotent."""
        if not self._holds:
            self.go_away("the proxy is shutting down")

    def go_away(self, reason: str) -> None:
        """End it: a WebSocket by a close frame to each side, at the end of the frame that is under way.

        Args:
            reason: What the frame says.
        """
        frames = self._frames
        self._leave(reason, tell_upstream=frames is not None and frames[self.client].at_boundary)

    # The ends' side

    def passes(self, end: End, data: bytes) -> bytes:
        """Say what of these bytes, just read from `end`, goes to its peer."""
        if self._farewell is not None:
            return self._rest_of_frame(end, data)
        if self._first is not None:
            self._limit.set(self._stall_s)
        if self._frames is None:
            is_message, at_boundary = True, False
        else:
            at_boundary = self._frames[end].at_boundary
            is_message = self._frames[end].feed(data)
        if not is_message or self._use():
            return data
        if end is self.upstream:
            end.peer.write(data)
            self.go_away("the service is stopping")
        else:
            self._leave("the service is stopping", tell_upstream=at_boundary)
        return b""

    def finished(self, end: End) -> None:
        """Pass a FIN on, or close where both sides have said all."""
        self._first = self._first or end
        if self._has_parted:
            if end is self.client:
                end.close()
        elif self._farewell is not None:
            self._cut()
        elif end.peer.is_finished:
            end.close()
            end.peer.close()
        else:
            end.peer.finish()
            self._limit.set(self._stall_s)

    def stalled(self, end: End) -> None:
        """End what one side holds up."""
        self._ending = self._ending or (Ending.CLIENT_GONE if end is self.client else Ending.UPSTREAM_SLOW)
        self._cut()

    def lost(self, end: End, error: Exception | None) -> None:
        """End the other side as this one ended."""
        peer = end.peer
        is_clean = end.is_finished and (error is None or peer.is_finished)
        if not is_clean:
            self._ending = self._ending or self._fault_of(end)
        self._first = self._first or end
        if peer.is_lost:
            self._end()
        elif self._has_parted:
            if end is self.client:  # which otherwise has a moment to answer its close frame
                peer.abort()
        elif self._farewell is not None or not is_clean:
            peer.abort(reset=peer is self.client)
        else:
            # Over TLS a side that has ended is lost at once; that we end the other then is nobody's fault.
            self._ending = self._ending or self._verdict()
            peer.close()

    # The grant

    def _use(self) -> bool:
        """Count as work from now on; say whether that may be."""
        self._idle.set(self._idle_s)
        self._holds = self._holds or self._grant.renew()
        return self._holds

    def _rest(self) -> None:
        self._holds = False
        self._grant.close()

    # Its end

    def _leave(self, reason: str, *, tell_upstream: bool) -> None:
        if self._farewell is not None or (self.client.is_lost and self.upstream.is_lost):
            return
        self._farewell = reason
        self._ending = self._ending or Ending.CANCELLED
        self._rest()
        self._limit.set(GOODBYE_S)
        frames = self._frames
        if frames is None:
            self._part()
            return
        if tell_upstream and not frames[self.client].closed:
            self.upstream.write(close_frame(_GOING_AWAY, reason, masked=True))
        if frames[self.upstream].at_boundary:
            self._part()

    def _rest_of_frame(self, end: End, data: bytes) -> bytes:
        """Let a frame that is under way to the client be its last but one; drop all else."""
        frames = self._frames
        if frames is None or self._has_parted or end is self.client:
            return b""
        rest = data[: frames[end].rest_of_frame(data)]
        if not frames[end].at_boundary:
            return rest
        self.client.write(rest)
        self._part()
        return b""

    def _part(self) -> None:
        """Send the last frame and a FIN; then only the client's own end is waited for."""
        self._has_parted = True
        if self._frames is not None and not self._frames[self.upstream].closed:
            self.client.write(close_frame(_GOING_AWAY, self._farewell or ""))
        self.upstream.close()
        if self.client.is_finished:
            self.client.close()
        else:
            self.client.finish()
            self.client.resume()

    def _cut(self) -> None:
        self._ending = self._ending or self._verdict()
        self.client.abort(reset=not self._has_parted)
        self.upstream.abort()

    def _end(self) -> None:
        self._rest()
        self._idle.cancel()
        self._limit.cancel()
        if not self.ended.done():
            self.ended.set_result(self._ending or self._verdict())

    def _verdict(self) -> Ending:
        """A WebSocket that ends without a close frame was broken off by who ended first."""
        frames = self._frames
        if self._first is None or frames is None or any(scanner.closed for scanner in frames.values()):
            return Ending.DONE
        return self._fault_of(self._first)

    def _fault_of(self, end: End) -> Ending:
        return Ending.CLIENT_GONE if end is self.client else Ending.UPSTREAM_BROKE
