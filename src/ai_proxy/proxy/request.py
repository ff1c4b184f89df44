"""One request on its way through the data plane: who asks for what, how far it has come, and how it ends early.

It is what a lost client, an operator's cancel and the books (`books.py`) hold on to. It routes, waits for and sends
nothing by itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ai_proxy.metrics import Ending
from ai_proxy.proxy.body import Receive, RequestBody
from ai_proxy.proxy.budget import Budget
from ai_proxy.proxy.inbox import Inbox
from ai_proxy.transport.exchange import Exchange

if TYPE_CHECKING:
    from ai_proxy.proxy.auth import Holder
    from ai_proxy.proxy.hops import Way

type Fields = list[tuple[bytes, bytes]]
type Send = Callable[[dict[str, Any]], Awaitable[None]]


class Beating(Protocol):
    """What keeps a client's connection alive while its request waits."""

    def granted(self) -> None:
        """The wait for a grant is over."""
        ...

    def stop(self) -> None:
        """End it now. Idempotent."""
        ...


class Request:
    """One request, from its head to its end.

    Args:
        scope: The ASGI scope.
        receive: The ASGI server's.
        send: The ASGI server's.
        since: When it arrived, on the app's clock.
        budget: Where the bytes of its body are counted that must be held.

    Attributes:
        scope: The ASGI scope.
        send: The ASGI server's.
        fields: Its fields by name in lower case; of duplicates the last.
        path: What is asked of the service, raw; a prefix is stripped once it is routed.
        id: The id that client and engine are told.
        exchange: With the engine, once there is one.
        since: When it arrived, on the app's clock.
        body: Its body.
        key: Name of the key that it came with, whether that lets it in or not; empty if it needs none.
        holder: Whose key it has, where one is needed; counted in, until the request ends.
        way: By which proxies it came, where their word counts.
        upgrade: Protocols that it asks its engine to speak from then on.
        withheld: Names of the fields in which it has a key of ours.
        service: Id of its service, once routed.
        model: Name that the client gave, once read.
        status: Status sent to the client; 0 before.
        sent: Body bytes sent to the client.
        last: The piece of the body that was sent last.
        queue_s: How long it waited for a grant.
        start_s: How much of that was its replica's start.
        ttfb_s: From its head to its answer's head.
        ending: Why it ended.
        heartbeat: Keeps its client's connection alive while it waits.
        beats: How often that happened.
        is_early: The response's head was sent before there was an answer, and nothing of one yet.
        drains: If its client leaves now, its answer is still read to the end.
    """

    __slots__ = (
        "_extensions", "_inbox", "_push", "_task", "_took", "beats", "body", "drains", "ending", "exchange", "fields",
        "heartbeat", "holder", "id", "is_early", "key", "last", "model", "path", "queue_s", "scope", "send", "sent",
        "service", "since", "start_s", "status", "ttfb_s", "upgrade", "way", "withheld",
    )  # fmt: skip

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send, *, since: float, budget: Budget) -> None:
        extensions: Mapping[str, Any] = scope.get("extensions") or {}
        self.scope = scope
        self.fields: dict[bytes, bytes] = extensions.get("ai_proxy.fields") or dict(scope["headers"])
        self.send = send
        self.since = since
        self.path: bytes = scope["raw_path"]
        self.id = ""
        self.way: Way | None = None
        self.key = ""
        self.holder: Holder | None = None
        self.upgrade = b""
        self.withheld: frozenset[bytes] = frozenset()
        # For as long as it may end early
        self._extensions = extensions
        self._task = asyncio.current_task()
        self.exchange: Exchange | None = None
        self._inbox: Inbox | None = None
        self.drains = False
        self._took: tuple[int, int] | None = None
        # Where it waits for long
        self.heartbeat: Beating | None = None
        self.beats = 0
        self.is_early = False
        # What the books want to know
        self.service: str | None = None
        self.model = ""
        self.status = 0
        self.sent = 0
        self.queue_s = 0.0
        self.start_s = 0.0
        self.ttfb_s: float | None = None
        self.ending: Ending | None = None
        # See from now on whether the client leaves
        on_disconnect = extensions.get("ai_proxy.disconnect")
        if on_disconnect is not None:
            on_disconnect(self._client_gone)
        else:
            self._inbox = Inbox(receive, self._client_gone)
            receive = self._inbox.receive
        # Write pieces of the response without a message each, where the server can
        self._push: Callable[[bytes], bool] | None = extensions.get("ai_proxy.push")
        self.last = b""
        self.body = RequestBody(receive, self.fields, budget)

    def __repr__(self) -> str:
        return f"<Request {self.id} {self.scope['method']} {self.scope['path']} to {self.service}: {self.status}>"

    @property
    def raw_fields(self) -> Fields:
        """Its fields as they came; names in lower case where the server does not tell."""
        raw: Fields = self._extensions.get("ai_proxy.headers") or self.scope["headers"]
        return raw

    def extension(self, name: str) -> Any:
        """What the server offers beyond ASGI under this name; None if it does not."""
        return self._extensions.get(name)

    @property
    def told(self) -> int:
        """The status that its client was told; 0 if it left before."""
        return self.status if self._took is None else self._took[0]

    @property
    def takes_trailers(self) -> bool:
        """Whether the client's server passes trailer fields on."""
        return "http.response.trailers" in self._extensions and self.scope["http_version"] != "1.0"

    @property
    def sink(self) -> Callable[[bytes], bool] | None:
        """Passes pieces of the response on in the step in which they arrive; None where the server can't."""
        return None if self._push is None else self._pass_on

    async def send_piece(self, data: bytes) -> None:
        """Send a piece of the response's body, of which more follows."""
        self.sent += len(data)
        self.last = data
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    def may_use(self, name: str) -> bool:
        """Whether its key opens what a client calls so."""
        return self.holder is None or self.holder.allows(name)

    def require(self, name: str) -> None:
        """Go on only if its key opens what a client calls so.

        Raises:
            Forbidden: It does not.
        """
        if self.holder is not None:
            self.holder.require(name)

    def attach(self, exchange: Exchange) -> None:
        """Close this exchange in the step in which the request ends early."""
        self.exchange = exchange

    def outlive_half_close(self) -> None:
        """Take a client that sends no more for one that still listens, where the server can tell."""
        on_disconnect = self._extensions.get("ai_proxy.disconnect")
        if on_disconnect is not None:
            on_disconnect(self._client_gone, half_close=False)

    def quieten(self) -> None:
        """Stop its heartbeats, if it has any."""
        if self.heartbeat is not None:
            self.heartbeat.stop()

    def cancel(self) -> None:
        """End it now: the client's connection and the engine's are closed."""
        self._end(Ending.CANCELLED)
        self.abort()

    def abort(self) -> None:
        """End the client's connection so that it does not take the response for complete.

        A server without that extension does so by itself when the app returns early.
        """
        abort = self._extensions.get("ai_proxy.abort")
        if abort is not None:
            abort()

    def ended_early(self) -> bool:
        """Say whether a cancellation of this task was ours, and take it back if so."""
        if self.ending is not Ending.CLIENT_GONE and self.ending is not Ending.CANCELLED:
            return False
        if self._task is not None:
            self._task.uncancel()
        return True

    async def aclose(self) -> None:
        """Let go of everything; on our own protocol there is nothing to wait for."""
        self.body.close()
        self.quieten()
        self._task = None
        if self._took is not None:
            self.ending = Ending.CLIENT_GONE
            self.status, self.sent = self._took
        if self._inbox is not None:
            await self._inbox.aclose()

    def _pass_on(self, data: bytes) -> bool:
        assert self._push is not None  # noqa: S101 (else there is no sink)
        self.sent += len(data)
        self.last = data
        return self._push(data)

    def _client_gone(self) -> None:
        if self.drains and self.body.is_complete and self.ending is None:
            # What is sent from now on reaches nobody; the books are closed on what had.
            self._took = self.status, self.sent
        else:
            self._end(Ending.CLIENT_GONE)

    def _end(self, ending: Ending) -> None:
        if self.ending is not None or self._task is None:
            return
        self.ending = ending
        if self.exchange is not None:
            self.exchange.close()
        self._task.cancel()
