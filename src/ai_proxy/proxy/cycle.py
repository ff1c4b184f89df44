"""One request on a client connection and the response to it, as the ASGI app sees them.

It frames the response, holds the little of the body that the app has not asked for, and tells the app when its
client is gone. It knows its connection only as a `Line`; nothing is parsed here, and nothing is known of services.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl

from ai_proxy.errors import ProxyError
from ai_proxy.proxy.framing import Fields, Framing, response_head, switching_head, trailer_section
from ai_proxy.proxy.replies import reply
from ai_proxy.transport.upgrade import RawSocket

_logger = logging.getLogger(__name__)

# Up to here one copy is cheaper than three buffers. (writelines would do without, but asyncio's ignores flow control.)
_COPY_BELOW_BYTES = 64 * 1024


class Line(Protocol):
    """What a cycle asks of its connection."""

    transport: asyncio.Transport
    flow: FlowControl

    def pause_body(self) -> None:
        """Read no more until `resume_body`."""

    def resume_body(self) -> None:
        """Read on."""

    def expect_body(self) -> None:
        """Fail the cycle if no body comes in time."""

    def answered(self) -> None:
        """Hear that the response is complete."""

    def leave_http(self) -> RawSocket:
        """Give the socket away."""
        ...

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Call this, perhaps often, while the server ends."""

    def break_off(self, *, reset: bool) -> None:
        """End the connection in the middle of a response; by a reset if an ordinary end would look complete."""


class Cycle:
    """One exchange with the client.

    Attributes:
        scope: The ASGI scope.
        keep_alive: Whether the connection may carry another request afterwards.
        body_complete: All of the request has arrived.
        response_started: The response's head was written.
        response_complete: The whole response was written.
        disconnected: The client is gone.
        ends_at_half_close: A client that sends no more is taken to be gone.
        waiting_for_body: The app waits for the client to send on.
    """

    __slots__ = (
        "_body_given", "_buffer_bytes", "_chunks", "_expects_continue", "_fault", "_framing", "_head", "_held", "_left",
        "_line", "_on_disconnect", "_trailers", "_waiter", "body_complete", "disconnected", "ends_at_half_close",
        "keep_alive", "response_complete", "response_started", "scope", "waiting_for_body",
    )  # fmt: skip

    def __init__(
        self,
        line: Line,
        scope: dict[str, Any],
        *,
        keep_alive: bool,
        expects_continue: bool,
        buffer_bytes: int,
    ) -> None:
        self.scope = scope
        self._line = line
        self._buffer_bytes = buffer_bytes
        # Until it is replaced by what the exchange brings
        self.keep_alive = keep_alive
        self.disconnected = False
        self.ends_at_half_close = True
        self._on_disconnect: Callable[[], None] | None = None
        # The request's body
        self.body_complete = False
        self.waiting_for_body = False
        self._expects_continue = expects_continue
        self._chunks: list[bytes] = []
        self._held = 0
        self._body_given = False
        self._fault: ProxyError | None = None
        self._waiter: asyncio.Future[None] | None = None
        # The response
        self.response_started = False
        self.response_complete = False
        self._head = b""
        self._framing = Framing.NONE
        self._left = 0
        self._trailers = False

    def __repr__(self) -> str:
        request = f"{self.scope['method']} {self.scope['path']}"
        body = "whole" if self.body_complete else "open"
        response = "complete" if self.response_complete else "started" if self.response_started else "none"
        return f"<Cycle {request}: body {body}, response {response}>"

    async def run(self, app: ASGI3Application) -> None:
        """Let the app answer, and answer in its place if it fails."""
        error: ProxyError | None = None
        try:
            await app(self.scope, self.receive, self.send)  # type: ignore[arg-type]  # uvicorn wants typed dicts
        except asyncio.CancelledError:
            self.abort()
            raise
        except ProxyError as caught:
            error = caught
        except Exception:
            _logger.exception("the app failed")
        finally:
            # They hold us: without this every request would wait for the garbage collector.
            self.scope["extensions"].clear()
        if not self.response_complete and not self.disconnected:
            await self._apologise(error or ProxyError("something went wrong in the proxy; its log says what"))

    async def _apologise(self, error: ProxyError) -> None:
        if self.response_started:
            self.abort()
            return
        status, headers, body = reply(error, secrets.token_hex(8))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    # What the app may do beyond ASGI

    def extend(self, raw_headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes]) -> None:
        """Put into the scope what plain ASGI has no words for.

        Args:
            raw_headers: Request fields with names as they came: `ai_proxy.headers`.
            fields: The same by name in lower case: `ai_proxy.fields`.
        """
        self.scope["extensions"] = {
            "ai_proxy.headers": raw_headers,
            "ai_proxy.fields": fields,
            "ai_proxy.disconnect": self.on_disconnect,
            "ai_proxy.abort": self.abort,
            "ai_proxy.push": self.push,
            "http.response.trailers": {},
        }

    def offer_upgrade(self) -> None:
        """Let the app answer with 101: `ai_proxy.upgrade`, and hear of the server's end: `ai_proxy.shutdown`."""
        self.scope["extensions"]["ai_proxy.upgrade"] = self._upgrade
        self.scope["extensions"]["ai_proxy.shutdown"] = self._line.on_shutdown

    def _upgrade(self, fields: Fields) -> RawSocket:
        """Answer with 101, and give up the socket; what becomes of it is no longer told here."""
        if not self.disconnected:
            self._line.transport.write(switching_head(fields))
        self.response_started = self.response_complete = True
        self._on_disconnect = None
        return self._line.leave_http()

    def on_disconnect(self, callback: Callable[[], None] | None, *, half_close: bool = True) -> None:
        """Call `callback` in the same step in which the client is seen to be gone; None: no longer.

        Args:
            callback: What to call.
            half_close: A client that sends no more, after its whole request, is gone too; else it is answered.
        """
        self._on_disconnect = callback
        self.ends_at_half_close = half_close
        if self.disconnected and callback is not None:
            callback()

    def abort(self) -> None:
        """End the connection in the middle of the response, so that the client knows it."""
        if not self.response_complete and not self.disconnected:
            self._line.break_off(reset=self._framing is Framing.CLOSE)

    def push(self, data: bytes) -> bool:
        """Write a piece of the body now, without a message; False: the client takes no more for now.

        Only between `http.response.start` and the last `http.response.body`.
        """
        if not self.disconnected:
            self._write_body(data, more=True)
        return not self._line.flow.write_paused

    # ASGI interface

    async def receive(self) -> dict[str, Any]:
        """Give what has come of the body, or wait for more, or for the end of the exchange.

        Raises:
            ProxyError: The rest of the body will never come.
        """
        if self._expects_continue and not self._chunks and not self.body_complete and not self.response_started:
            self._line.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._expects_continue = False
        while not self.disconnected and not self.response_complete:
            if self._chunks or (self.body_complete and not self._body_given):
                return self._take_body()
            if self._fault is not None:
                raise self._fault
            await self._wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        """Write a part of the response, after the client has taken what was written before.

        A start with `ai_proxy.body_follows` waits for the body, which comes in the same step.
        """
        if self._line.flow.write_paused and not self.disconnected:
            await self._line.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.body" and self.response_started and not self.response_complete:
            self._write_body(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "http.response.start" and not self.response_started:
            self._write_head(message)
        elif kind == "http.response.trailers" and self._trailers and not self.response_complete:
            self._write_trailers(message["headers"])
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    # The connection's side

    def feed(self, data: bytes) -> None:
        """Take bytes of the request's body."""
        self._chunks.append(data)
        self._held += len(data)
        if self._held > self._buffer_bytes:
            self._line.pause_body()
        self._wake()

    def end_body(self) -> None:
        """Take the end of the request's body."""
        self.body_complete = True
        self._wake()

    def fail_body(self, error: ProxyError) -> None:
        """Let the app know that the body will never be complete; what came of it is still read."""
        self._fault = error
        self.keep_alive = False
        self._wake()

    def disconnect(self) -> None:
        """The client is gone: wake the app and run its callback now."""
        if self.disconnected or self.response_complete:
            return
        self.disconnected = True
        self._wake()
        if self._on_disconnect is not None:
            self._on_disconnect()

    # The request's body

    def _take_body(self) -> dict[str, Any]:
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._held = 0
        self._body_given = complete = self.body_complete
        if not complete:
            self._line.resume_body()
        return {"type": "http.request", "body": body, "more_body": not complete}

    async def _wait(self) -> None:
        if not self.body_complete:
            self.waiting_for_body = True
            self._line.expect_body()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self.waiting_for_body = False

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # The response

    def _write_head(self, message: dict[str, Any]) -> None:
        scope = self.scope
        # Whether a client that asked now sends its body is its choice, so nothing after it could be told from it.
        unasked_body = self._expects_continue and not self.body_complete
        head = response_head(
            message["status"],
            message.get("headers", ()),
            to_head=scope["method"] == "HEAD",
            chunks=scope["http_version"] == "1.1",
            close=unasked_body or not self.keep_alive,
        )
        self.keep_alive = not head.close
        self._framing = head.framing
        self._left = head.length
        self._trailers = head.framing is Framing.CHUNKED and message.get("trailers", False)
        self.response_started = True
        if message.get("ai_proxy.body_follows", False):
            self._head = head.data
        else:
            self._line.transport.write(head.data)

    def _write_body(self, body: bytes, *, more: bool) -> None:
        framing = self._framing
        ends = not more and not self._trailers
        if framing is Framing.CHUNKED:
            self._write_chunk(body, ends=ends)
        elif framing is Framing.NONE:
            self._write(b"")
        else:
            self._left -= len(body)
            if framing is Framing.LENGTH and (self._left < 0 or (self._left and not more)):
                raise ValueError("the body is not as long as its Content-Length says")
            self._write(body)
        if ends:
            self._complete()

    def _write_chunk(self, body: bytes, *, ends: bool) -> None:
        last = b"0\r\n\r\n" if ends else b""
        if not body:
            self._write(last)
        elif len(body) <= _COPY_BELOW_BYTES:
            self._write(b"%x\r\n%b\r\n%b" % (len(body), body, last))
        else:
            self._write(b"%x\r\n" % len(body))
            self._line.transport.write(body)
            self._line.transport.write(b"\r\n" + last)

    def _write(self, data: bytes) -> None:
        """Write, with a head that waited for it: each write of its own is a system call."""
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            self._line.transport.write(data)

    def _write_trailers(self, fields: Fields) -> None:
        self._write(trailer_section(fields))
        self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        self._on_disconnect = None
        self._wake()
        self._line.answered()
