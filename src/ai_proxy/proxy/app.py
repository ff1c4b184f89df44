"""The data plane as a raw ASGI app: what becomes of a request, on one screen.

A request is routed, waits for a grant on a replica, is relayed, and is accounted for. It knows the fleet only as a
`Gate`; everything that it has to decide is a plain function, and only what must wait is awaited.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import count
from typing import Any, Final

from loguru import logger

from ai_proxy.config.models import Config
from ai_proxy.config.sharing import Affinity
from ai_proxy.errors import Draining, MalformedRequest, ProxyError
from ai_proxy.gate import Gate, Grant, RequestInfo
from ai_proxy.logging import Access
from ai_proxy.metrics import Ending, KeyUse, Metrics
from ai_proxy.proxy.auth import Auth
from ai_proxy.proxy.body import ClientGone, Receive
from ai_proxy.proxy.books import Books
from ai_proxy.proxy.budget import Budget
from ai_proxy.proxy.forward import break_off, relay, send
from ai_proxy.proxy.headers import is_request_id, outbound, peer_lines
from ai_proxy.proxy.heartbeat import Heartbeat, Words
from ai_proxy.proxy.hops import way_of
from ai_proxy.proxy.models import States, model_list, one_model
from ai_proxy.proxy.own_ports import SERVICE
from ai_proxy.proxy.replies import reply, sse_event
from ai_proxy.proxy.request import Request, Send
from ai_proxy.proxy.settings import ProxySettings, ServiceSettings
from ai_proxy.proxy.upgrade import Upgrades, asked_upgrade
from ai_proxy.proxy.wishes import PREFIX_BYTES, max_wait_s, may_swap, prefix_of, session_of
from ai_proxy.routing.base_path import join_path
from ai_proxy.routing.endpoints import ByModel, dialect_of, streams_events
from ai_proxy.routing.extract import model_in_query, rename_in_query
from ai_proxy.routing.names import Target
from ai_proxy.routing.table import ListModels, Redirect, Route, RouteTable, ShowModel
from ai_proxy.transport.pool import Origin, Pool

_JSON: Final = (b"content-type", b"application/json")
_ALLOW: Final = (b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
_PEERS_KEPT: Final = 1024


class ProxyApp:
    """Answers everything that is not the management plane's.

    Args:
        config: A config whose references were checked.
        table: Its routes.
        gate: The door to the fleet.
        pool: Connections to replicas.
        metrics: Where requests are counted.
        access: Takes one entry a request; must not wait.
        states: Says a service's state in llama.cpp's words, for the list of models.
        waiting_for: Says what a request for a service waits for, to its client.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        config: Config,
        table: RouteTable,
        *,
        gate: Gate,
        pool: Pool,
        metrics: Metrics,
        access: Callable[[Access], None],
        states: States,
        waiting_for: Words = "waiting for {}".format,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # For the life of the app
        self._gate = gate
        self._pool = pool
        self._states = states
        self._waiting_for = waiting_for
        self._clock = clock
        self._books = Books(metrics, access, clock=clock)
        self._upgrades = Upgrades()
        self._peer_lines = lru_cache(_PEERS_KEPT)(peer_lines)
        self._id_prefix = secrets.token_hex(6)
        self._ids = count(1)
        # For the life of a config
        self._settings = ProxySettings(config, table)
        self._auth = Auth(config.keys)
        self._budget = Budget(self._settings.max_buffered_bytes)

    def __repr__(self) -> str:
        return f"<ProxyApp: {self._settings!r}, {self._budget!r}>"

    def configure(self, config: Config, table: RouteTable) -> None:
        """Serve new requests by another config; those in flight keep theirs."""
        self._settings = ProxySettings(config, table)
        self._auth.configure(config.keys)
        self._budget.total = self._settings.max_buffered_bytes

    def key_uses(self) -> dict[str, KeyUse]:
        """What came with each key of the config that was used, by its name."""
        return self._auth.uses()

    def drop(self, origin: Origin) -> None:
        """Let go of a replica that leaves: nothing new is sent there, and what is upgraded ends."""
        self._pool.drop(origin)
        self._upgrades.leave(origin)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        request = Request(scope, receive, send, since=self._clock(), budget=self._budget)
        request.id = self._request_id(request.fields.get(b"x-request-id"))
        try:
            await self._answer(request)
        except asyncio.CancelledError:
            if not request.ended_early():
                await self._cut_off(request)
                raise
        except ClientGone:
            request.ending = Ending.CLIENT_GONE
        except ProxyError as error:
            await self._apologise(request, error)
        except Exception:  # noqa: BLE001 (whatever it is, client and books are told, under this request's id)
            logger.bind(request_id=request.id, service=request.service).exception("a request met a bug in the proxy")
            await self._apologise(request, ProxyError("something went wrong in the proxy; its log says what"))
        finally:
            if request.holder is not None:
                request.holder.leave(request.told)
            await request.aclose()
            self._books.close(request)

    async def _answer(self, request: Request) -> None:
        """Find who asks and who is asked; the rest is that service's, or ours.

        1. Who has no key learns nothing of what there is.
        2. Route by path or header; a port of a service's own leaves nothing to route.
        3. Else by the model that the request names, replaced if the service maps it.
        """
        settings, scope, fields = self._settings, request.scope, request.fields
        if settings.trusted is not None and scope["client"]:
            request.way = way_of(settings.trusted, scope["client"][0], scope["scheme"], request.raw_fields)
        if b"upgrade" in fields:
            request.upgrade = asked_upgrade(request)
        if request.path == b"*":
            if scope["method"] != "OPTIONS":
                raise MalformedRequest("only OPTIONS may ask for `*`")
            await self._reply(request, 204, [_ALLOW])
            return
        query: bytes = scope["query_string"]
        if self._auth.is_on:
            self._let_in(request)
        table, owner = settings.table, scope.get(SERVICE)
        match (
            table.match(request.path, scope["method"], fields.get(b"x-ai-proxy-service"))
            if owner is None
            else table.on_port_of(owner, request.path)
        ):
            case Route(service, path):
                request.path = path
                request.require(service)
                await self._forward(request, settings, service, query)
            case ByModel():
                in_body = await request.body.find_model(settings.max_model_body_bytes)
                target = self._target(request, settings.table, _named(request, in_body, query))
                rename = target.rename
                if rename is not None and in_body is None:
                    query, rename = rename_in_query(query, rename), None
                await self._forward(request, settings, target.service, query, rename)
            case Redirect(location):
                await self._reply(request, 307, [(b"location", location + (b"?" + query if query else b""))])
            case ListModels():
                models = [model for model in settings.table.listed if request.may_use(model.name)]
                await self._reply(request, 200, [_JSON], model_list(models, self._states))
            case ShowModel(name):
                service = self._target(request, settings.table, name).service
                await self._reply(request, 200, [_JSON], one_model(name, service, self._states))

    def _let_in(self, request: Request) -> None:
        """Find whose key it has, and count it in; the books tell the key's name in either case."""
        holder, request.withheld = self._auth.find(request.fields, request.scope["headers"])
        if holder is not None:
            request.key = holder.name
            holder.enter(request.since)
            request.holder = holder

    def _target(self, request: Request, table: RouteTable, name: str | None) -> Target:
        """Find who offers a model; a key that does not open it does not learn whether there is one."""
        if name is None:
            target = table.resolve(None)
            request.require(target.service)
            return target
        request.model = name
        request.require(name)
        return table.resolve(name)

    async def _forward(
        self,
        request: Request,
        settings: ProxySettings,
        service: str,
        query: bytes,
        rename: str | None = None,
    ) -> None:
        """Relay the exchange with a service.

        4. Wait for a grant.
        5. Send the request up, the head made for the service.
        6. Relay the response.
        7. Give connection and grant back, whatever happened.
        """
        self._books.open(request, service)
        of_service = settings.services[service]
        scope = request.scope
        if of_service.keeps_half_closed:
            request.outlive_half_close()
        grant = await self._admit(request, service, of_service.affinity, settings.heartbeat_s)
        try:
            outgoing = await request.body.outgoing(rename)
            request.drains = of_service.drains
            target = join_path(grant.base_path, request.path)
            client, way = scope["client"], request.way
            peer = self._peer_lines(client[0] if client else "unknown", scope["scheme"]) if way is None else way.lines
            head = outbound(
                scope["method"].encode("ascii"),
                target + b"?" + query if query else target,
                request.raw_fields,
                peer=peer,
                request_id=request.id.encode("ascii"),
                asked_host=None if way is None else way.host,
                host=of_service.host,
                content_length=outgoing.length,
                setting=of_service.setting,
                withheld=_withheld(request, of_service),
                upgrade=request.upgrade,
            )
            exchange = await send(self._pool, grant.origin, head, request, of_service, body=outgoing.content)
            # Sent: a long answer must not keep its question in memory, nor others waiting for that room.
            del outgoing
            request.body.close()
            try:
                request.attach(exchange)
                request.ttfb_s = self._clock() - request.since
                if request.upgrade and exchange.status == 101:
                    await self._upgrades.serve(exchange, request, grant, of_service)
                else:
                    await relay(exchange, request, of_service)
            finally:
                exchange.close()
        finally:
            grant.close()

    async def _admit(self, request: Request, service: str, affinity: Affinity | None, heartbeat_s: float) -> Grant:
        fields = request.fields
        info = RequestInfo(request.id, service, request.since, request.cancel, max_wait_s(fields), may_swap(fields))
        holder = request.holder
        if holder is not None:
            info.key, info.priority = holder.name, holder.priority
            info.may_swap = info.may_swap and holder.may_swap
        if affinity is not None:
            by_session = affinity is Affinity.SESSION
            info.affinity = session_of(fields) if by_session else prefix_of(request.body.beginning(PREFIX_BYTES))
        grant = self._gate.try_admit(info)
        if grant is None:
            asked = self._clock()
            if heartbeat_s and streams_events(request.path):
                request.heartbeat = Heartbeat(request, heartbeat_s, self._waiting_for)
            try:
                grant = await self._gate.admit(info)
            finally:
                request.queue_s = self._clock() - asked
            if request.heartbeat is not None:
                request.heartbeat.granted()
            request.start_s = grant.start_s
        return grant

    async def _cut_off(self, request: Request) -> None:
        """The server ends what is still open at its drain deadline; who has no answer yet, or a stream, is told why."""
        error = Draining("the proxy is shutting down")
        if not request.status or request.is_early:
            await self._apologise(request, error)
        elif request.exchange is not None and request.ending is None:
            await break_off(request.exchange, request, error)
        request.ending = Ending.CANCELLED

    async def _apologise(self, request: Request, error: ProxyError) -> None:
        request.ending = Ending.REFUSED
        request.quieten()
        if request.holder is not None:
            error = request.holder.discreet(error)
        if error.service is None:
            error.service = request.service
        if request.status:
            # Too late for any other words: a response has begun.
            if request.is_early:
                await request.send_piece(sse_event(error, request.id, dialect_of(request.path)))
            request.abort()
            return
        request.status, headers, content = reply(error, request.id, dialect_of(request.path))
        await self._send_all(request, headers, content)

    async def _reply(
        self, request: Request, status: int, headers: list[tuple[bytes, bytes]], content: bytes = b""
    ) -> None:
        request.status = status
        request.ending = Ending.DONE
        headers += (b"content-length", b"%d" % len(content)), (b"x-request-id", request.id.encode("ascii"))
        await self._send_all(request, headers, content)

    async def _send_all(self, request: Request, headers: list[tuple[bytes, bytes]], content: bytes) -> None:
        if request.scope["method"] == "HEAD":
            content = b""
        request.sent = len(content)
        await request.send({"type": "http.response.start", "status": request.status, "headers": headers})
        await request.send({"type": "http.response.body", "body": content})

    def _request_id(self, given: bytes | None) -> str:
        if given is not None and is_request_id(given):
            return given.decode("ascii")
        return f"{self._id_prefix}-{next(self._ids):x}"


def _named(request: Request, in_body: str | None, query: bytes) -> str | None:
    """The model that a request names, in its body before its query.

    With a key that does not open all, none may be named beside it: engines differ in where they look first.
    """
    if request.holder is None or request.holder.opens_all:
        return in_body or model_in_query(query)
    in_query = model_in_query(query)
    if request.body.names_rivals() or (in_body and in_query and in_body != in_query):
        raise MalformedRequest("the request names more than one model; send one", param="model")
    return in_body or in_query


def _withheld(request: Request, of_service: ServiceSettings) -> frozenset[bytes]:
    """The client's fields that its engine is not to see."""
    names: frozenset[bytes] = frozenset() if of_service.forward_key else request.withheld
    # What follows a head of ours can't be compressed.
    return names if request.heartbeat is None else names | {b"accept-encoding"}
