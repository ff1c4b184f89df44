"""A client connection: uvicorn's httptools protocol with a parser of our own, deadlines, limits and raw names.

Where it differs from its base: nothing lenient in the parser; a request is refused before an app sees it if its
target, Host or framing leaves room for two readings; every wait for the client has a deadline; the app is told of a
lost client in the same step. It knows HTTP/1.1 and ASGI, and nothing of services.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, override
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from ai_proxy.errors import (
    ClientTooSlow,
    HeadersTooLarge,
    MalformedRequest,
    MethodNotAllowed,
    ProxyError,
    TargetTooLong,
)
from ai_proxy.proxy.client_socket import ClientSocket
from ai_proxy.proxy.cycle import Cycle
from ai_proxy.proxy.head import check_head, head_without_upgrade, may_upgrade, split_target, with_host
from ai_proxy.transport.upgrade import RawSocket

type Loop = asyncio.AbstractEventLoop


class ProxyProtocol(ClientSocket):
    """One client connection; give the class to uvicorn as `http=`."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Loop | None = None
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # The base relaxes its parser
        self.parser = httptools.HttpRequestParser(self)

        # Per-connection state
        self._waiting: deque[Cycle] = deque()
        self._refused: ProxyError | None = None
        self._rest_s = self.limits.keep_alive_s
        self._is_last_call = False
        self._half_closed = False

        # Where a request asks for another protocol: what it would be without that, if it is passed over; what came
        # after it; and once the other is spoken, what ends that
        self._plain_head = b""
        self._early: bytes | None = None
        self._shut_down: Callable[[], None] | None = None

        # Per-request state: the cycle being answered, the one being read, and the head before it becomes one
        self._cycle: Cycle | None = None
        self._reading: Cycle | None = None
        self._in_head = False
        self._head_bytes = self._head_fed = self._data_size = 0
        self._head_in_parts = self._advanced = False
        self._raw_headers: list[tuple[bytes, bytes]]
        self._drained = 0

    def __repr__(self) -> str:
        state = "deaf" if self._deaf else "in head" if self._in_head else "between"
        return f"<ProxyProtocol {self.client}: {state}, answering {self._cycle!r}, {len(self._waiting)} waiting>"

    # Protocol interface

    @override
    def data_received(self, data: bytes) -> None:
        while data and not self._deaf:
            data = self._feed(data)
        if data and self._early is not None:
            self._keep_early(data)

    def _feed(self, data: bytes) -> bytes:
        """Have the parser read; what it has left because of an upgrade that is not made is to be read next."""
        self._data_size = len(data)
        began_in_head = self._in_head
        rest = b""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            early = data[error.args[0] :]
            if self._plain_head:
                self.parser = httptools.HttpRequestParser(self)
                rest, self._plain_head = self._plain_head + early, b""
            else:
                # Whether that is still HTTP depends on the answer.
                self._deaf = True
                self._early = b""
                self._keep_early(early)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, ProxyError):
                raise
            self._refuse(cause)
        except httptools.HttpParserError as error:
            self._on_parse_error(error)
        if self._in_head:
            self._head_goes_on(began=not began_in_head)
        elif self._reading is not None and not self._reading.body_complete:
            self._body_goes_on()
        return rest

    @override
    def shutdown(self) -> None:
        if self._shut_down is not None:
            self._shut_down()
            return
        is_news, self._is_last_call, self._rest_s = not self._is_last_call, True, self.limits.last_call_s
        last = self._waiting[-1] if self._waiting else self._cycle
        if last is not None and not last.response_complete:
            # Who was told before that the connection goes on may send another request, and is told with its answer.
            last.keep_alive = last.keep_alive and last.response_started
        elif self._deaf:
            self._close()
        elif is_news and not self._in_head:
            self._deadline.set(self._rest_s)

    # Parser callbacks

    @override
    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_in_parts = False
        self._head_bytes = self._head_fed = 0
        self.url = b""
        self._raw_headers = []

    @override
    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self.limits.target_bytes:
            raise TargetTooLong(f"the request target is longer than {self.limits.target_bytes} bytes")

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            self._count_trailer(name, value)
            return
        self._raw_headers.append((name, value.rstrip()))

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        self._advanced = True
        self._check_head_size()
        parser = self.parser
        method = parser.get_method().decode("ascii")
        version = parser.get_http_version()
        if method == "CONNECT":
            raise MethodNotAllowed("this is no forward proxy: CONNECT is not answered")
        path, query, authority = split_target(self.url)
        headers = [(name.lower(), value) for name, value in self._raw_headers]
        fields = dict(headers)
        check_head(version, headers, fields)
        if (upgrade := parser.should_upgrade()) and not may_upgrade(version, headers):
            self._plain_head = head_without_upgrade(method, self.url, version, self._raw_headers)
            return
        if authority is not None:
            fields[b"host"] = authority
            self._raw_headers = with_host(authority, self._raw_headers)
            headers = [(name.lower(), value) for name, value in self._raw_headers]
        raw_path = path.decode("ascii")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "method": method,
            "scheme": self.scheme,
            "path": unquote(raw_path) if "%" in raw_path else raw_path,
            "raw_path": path,
            "query_string": query,
            "root_path": self.root_path,
            "headers": headers,
            "client": self.client,
            "server": self.server,
            "state": self.app_state.copy(),
        }
        cycle = Cycle(
            self,
            scope,
            keep_alive=version == "1.1" and parser.should_keep_alive() and not upgrade and not self._is_last_call,
            expects_continue=version == "1.1" and fields.get(b"expect", b"").lower() == b"100-continue",
            buffer_bytes=self.limits.buffer_bytes,
        )
        cycle.extend(self._raw_headers, fields)
        if upgrade:
            cycle.offer_upgrade()
        self._reading = cycle
        if self._cycle is None or self._cycle.response_complete:
            self._begin(cycle)
        else:
            self._waiting.append(cycle)
            self.pause_body()

    @override
    def on_body(self, body: bytes) -> None:
        cycle = self._reading
        assert cycle is not None  # noqa: S101 (the parser gives heads before bodies)
        self._advanced = True
        if not cycle.response_complete:
            cycle.feed(body)
            return
        self._drained += len(body)
        if self._drained > self.limits.linger_bytes and not self._deaf:
            self._hang_up()

    @override
    def on_message_complete(self) -> None:
        if self._plain_head:
            return
        cycle = self._reading
        assert cycle is not None  # noqa: S101 (the parser gives heads before ends)
        cycle.end_body()
        if cycle.response_complete:
            self._deadline.set(self._rest_s)

    # The cycle's side

    def expect_body(self) -> None:
        """Read on, and fail the cycle if nothing comes in time."""
        self.resume_body()
        self._deadline.set(self.limits.body_idle_s)

    def answered(self) -> None:
        """Go on after a complete response: the next request that waits, a refusal, or the wait for another."""
        self.server_state.total_requests += 1
        cycle = self._cycle
        if cycle is None or self.transport.is_closing():
            return
        if not cycle.keep_alive:
            early, self._early = self._early, None  # what still comes is for nobody
            self._close() if cycle.body_complete and early is None else self._hang_up()
        elif self._waiting:
            self._begin(self._waiting.popleft())
        elif self._refused is not None:
            self._hang_up_with(self._refused)
        else:
            self.resume_body()
            if not cycle.body_complete:
                self._drained = 0
                self._deadline.set(self.limits.linger_s)
            else:
                self._deadline.set(self.limits.head_s if self._in_head else self._rest_s)

    def leave_http(self) -> RawSocket:
        """Give the socket away; from now on this only keeps it listed, and hears of its end."""
        self.server_state.total_requests += 1
        self._is_raw = True
        self._deadline.cancel()
        self._stall.cancel()
        self.pause_body()
        self._hangups.forget(self._fd)
        early, self._early = self._early or b"", None
        return RawSocket(self.transport, early, self.pause_body, self.resume_body)

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Call this while the server ends, in place of what ends a connection that carries HTTP."""
        self._shut_down = callback

    def _keep_early(self, data: bytes) -> None:
        """Keep what comes before an upgrade is made; over TLS only who is read can say that it leaves."""
        self._early = (self._early or b"") + data
        if self.transport.can_write_eof() or len(self._early) > self.limits.buffer_bytes:
            self.pause_body()

    # Requests that can be answered

    def _begin(self, cycle: Cycle) -> None:
        self._cycle = cycle
        task = self.loop.create_task(cycle.run(self.app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        if self._half_closed:
            self.loop.call_soon(self._judge_half_close)

    # Requests that can't

    def _head_goes_on(self, *, began: bool) -> None:
        self._head_in_parts = True
        if began:
            self._deadline.set(self.limits.head_s)
            return
        # A name or value without end is held by the parser and seen by no callback.
        self._head_fed += self._data_size
        if self._head_fed > self.limits.head_bytes:
            self._refuse(self._head_too_large())

    def _body_goes_on(self) -> None:
        """Bound what is no body: a trailer without end is held by the parser as well."""
        self._head_fed = 0 if self._advanced else self._head_fed + self._data_size
        self._advanced = False
        if self._head_fed > self.limits.head_bytes:
            self._refuse(self._head_too_large())

    def _check_head_size(self) -> None:
        limits = self.limits
        if len(self._raw_headers) > limits.headers:
            raise self._head_too_large()
        if self._head_in_parts or self._data_size > limits.head_bytes:
            self._head_bytes = sum(len(name) + len(value) + 4 for name, value in self._raw_headers)
            if self._head_bytes > limits.head_bytes:
                raise self._head_too_large()

    def _count_trailer(self, name: bytes, value: bytes) -> None:
        """A trailer is not passed on, and no field of the request."""
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self.limits.head_bytes:
            raise self._head_too_large()

    def _head_too_large(self) -> HeadersTooLarge:
        limits = self.limits
        return HeadersTooLarge(f"more than {limits.headers} header fields or {limits.head_bytes} bytes of them")

    def _on_parse_error(self, error: httptools.HttpParserError) -> None:
        reading = self._reading
        if not self._in_head and reading is not None and reading.body_complete and not reading.keep_alive:
            # Bytes after a request that said `Connection: close`.
            self._deaf = True
        else:
            self._refuse(MalformedRequest(f"the request is not valid HTTP/1.1: {error}"))

    def _refuse(self, error: ProxyError) -> None:
        """Read no further: what follows can't be told from what is wrong. What was asked before is answered first."""
        self._deaf = True
        self._in_head = False
        reading = self._reading
        if reading is not None and not reading.body_complete:
            if reading.response_complete:
                self._hang_up()
            else:
                reading.fail_body(error)
        elif self._cycle is None or self._cycle.response_complete:
            self._hang_up_with(error)
        else:
            self._refused = error

    # Ends

    @override
    def eof_received(self) -> bool | None:  # type: ignore[override]  # as in asyncio; the base never stays open
        cycle, reading = self._cycle, self._reading
        # TLS has no half of an end.
        answering = cycle is not None and not cycle.response_complete and self.transport.can_write_eof()
        if not answering or self._in_head or reading is None or not reading.body_complete or self._deaf:
            super().eof_received()
            return None
        # Whether that is the end depends on the service, which the app finds in its first step.
        reading.keep_alive = False
        self._half_closed = True
        self.loop.call_soon(self._judge_half_close)
        return True

    def _judge_half_close(self) -> None:
        cycle = self._cycle
        if cycle is None or cycle.response_complete or self.transport.is_closing():
            return
        if cycle.ends_at_half_close:
            self._lose_client()
            self._close()
        else:
            self._hangups.watch(self._fd, self._give_up, half_close=True)

    @override
    def _hung_up(self) -> None:
        cycle = self._cycle
        if cycle is None or cycle.response_complete or cycle.ends_at_half_close or not self.transport.can_write_eof():
            self._give_up()
        else:
            self._hangups.watch(self._fd, self._give_up, half_close=True)

    @override
    def _lose_client(self) -> None:
        super()._lose_client()
        self._waiting.clear()
        if self._cycle is not None:
            self._cycle.disconnect()

    @override
    def _expired(self) -> None:
        cycle = self._cycle
        closing = self.transport.is_closing()
        if closing or (self._deaf and (cycle is None or cycle.response_complete or cycle.disconnected)):
            self.transport.abort()
        elif self._in_head and self.flow.read_paused:
            # It waits for us, not we for it.
            self._deadline.set(self.limits.head_s)
        elif self._in_head:
            self._refuse(ClientTooSlow(f"the request's head did not arrive within {self.limits.head_s:g} s"))
        elif cycle is None or cycle.response_complete:
            self._close()
        elif cycle.waiting_for_body:
            self._deaf = True
            cycle.fail_body(ClientTooSlow(f"no byte of the body arrived for {self.limits.body_idle_s:g} s"))
