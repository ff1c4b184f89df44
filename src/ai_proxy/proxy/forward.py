"""Relay one exchange: the request goes up, the response comes down as it arrives, both at the slower side's pace.

Owns the first-byte rule: before the response's head is sent an upstream's failure is an error reply, afterwards the
client's connection is broken off, so that no client takes half an answer for a whole one. It knows nothing of
services beyond what it is told.
"""

from typing import Any, Final

from ai_proxy.errors import PoolBusy, ProxyError, UpstreamBroken, UpstreamTooSlow, UpstreamUnreachable
from ai_proxy.metrics import Ending
from ai_proxy.proxy.body import Body
from ai_proxy.proxy.headers import RequestHead, inbound
from ai_proxy.proxy.heartbeat import take_over
from ai_proxy.proxy.replies import sse_event
from ai_proxy.proxy.request import Request
from ai_proxy.proxy.settings import ServiceSettings
from ai_proxy.routing.endpoints import MESSAGES, dialect_of
from ai_proxy.transport.errors import (
    CertificateRejected,
    ConnectFailed,
    ConnectTimeout,
    DeadlineExceeded,
    FirstByteTimeout,
    IdleTimeout,
    OriginEnded,
    PoolClosed,
    PoolTimeout,
    TransportError,
    WriteTimeout,
)
from ai_proxy.transport.exchange import Exchange
from ai_proxy.transport.pool import Origin, Pool
from ai_proxy.transport.reader import Phase

_EVENT_END: Final = b"\n\n"


async def send(
    pool: Pool, origin: Origin, head: RequestHead, request: Request, settings: ServiceSettings, *, body: Body
) -> Exchange:
    """Send the request up and wait for the response's head.

    A connect that fails is tried once more: nothing was sent. All else is the pool's to judge.

    Raises:
        UpstreamError: There is no response.
        PoolBusy: No connection came free.
    """
    method = request.scope["method"].encode("ascii")
    for attempt in (1, 2):
        try:
            return await pool.send(
                origin,
                head.data,
                body,
                method=method,
                timeouts=settings.timeouts,
                chunked=head.chunked,
                upgrade=request.upgrade,
            )
        except ConnectFailed as error:
            if attempt == 2:
                raise as_ours(error, request) from error
        except TransportError as error:
            raise as_ours(error, request) from error
    raise AssertionError


async def relay(exchange: Exchange, request: Request, settings: ServiceSettings) -> None:
    """Pass the response down: its head at once, then whole reads as they come."""
    try:
        is_early = request.heartbeat is not None and await take_over(exchange, request)
        data = exchange.read_nowait()
    except TransportError as error:
        raise as_ours(error, request) from error
    # Asked right after each read: by the time a slow client has taken the data, more may have come, and the end.
    ends = exchange.complete
    with_trailers = False
    if not is_early:
        start = _start(exchange, request, settings, body_follows=data is not None)
        with_trailers = start["trailers"]
        await request.send(start)
        request.status = exchange.status
    sink = request.sink
    try:
        if data is None:
            data = await exchange.read(sink)
            ends = exchange.complete
        while not ends:
            await request.send_piece(data)
            data = await exchange.read(sink)
            ends = exchange.complete
    except (TransportError, ProxyError) as error:
        await break_off(exchange, request, error)
        return
    request.sent += len(data)
    await request.send({"type": "http.response.body", "body": data, "more_body": False})
    if with_trailers:
        await request.send({"type": "http.response.trailers", "headers": exchange.trailers, "more_trailers": False})
    request.ending = Ending.DONE


def _start(exchange: Exchange, request: Request, settings: ServiceSettings, *, body_follows: bool) -> dict[str, Any]:
    may_have_trailers = exchange.reader.phase is Phase.CHUNKED or bool(exchange.trailers)
    request_id = request.id.encode("ascii")
    headers = inbound(exchange.headers, request_id=request_id, service=settings.label)
    if request.path in MESSAGES and not any(name.lower() == b"request-id" for name, _ in headers):
        headers.append((b"request-id", request_id))
    headers.append((b"server-timing", _timing(request)))
    return {
        "type": "http.response.start",
        "status": exchange.status,
        "headers": headers,
        "trailers": may_have_trailers and request.takes_trailers,
        "ai_proxy.body_follows": body_follows,
    }


async def break_off(exchange: Exchange, request: Request, error: TransportError | ProxyError) -> None:
    """End a response that can't be completed; a stream of events is told why first."""
    match error:
        case ProxyError():
            request.ending = Ending.REFUSED
        case DeadlineExceeded():
            request.ending = Ending.UPSTREAM_SLOW
        case _:
            request.ending = Ending.UPSTREAM_BROKE
    if _is_event_stream(exchange):
        event = sse_event(as_ours(error, request), request.id, dialect_of(request.path))
        # An event that was cut off would swallow ours.
        gap = b"" if request.last.endswith(_EVENT_END) or not request.last else _EVENT_END
        await request.send({"type": "http.response.body", "body": gap + event, "more_body": True})
    request.abort()


def _is_event_stream(exchange: Exchange) -> bool:
    """Whether the response is events and has room for one more."""
    fields = {name.lower(): value for name, value in exchange.headers}
    is_events = fields.get(b"content-type", b"").lower().startswith(b"text/event-stream")
    return is_events and b"content-length" not in fields and b"content-encoding" not in fields


def _timing(request: Request) -> bytes:
    ttfb_ms = (request.ttfb_s or 0.0) * 1e3
    if not request.queue_s:
        return b"ttfb;dur=%.1f" % ttfb_ms
    start = b", start;dur=%.1f" % (request.start_s * 1e3) if request.start_s else b""
    return b"queue;dur=%.1f%b, ttfb;dur=%.1f" % (request.queue_s * 1e3, start, ttfb_ms)


def as_ours(error: TransportError | ProxyError, request: Request) -> ProxyError:
    """Say in our words, and without an address, what the transport met."""
    service = request.service
    match error:
        case ProxyError():
            return error
        case CertificateRejected():
            why = f"the certificate that service {service!r} shows is not accepted ({error.fault})"
            return UpstreamUnreachable(why, service=service)
        case ConnectFailed() | PoolClosed():
            why = "has just ended" if isinstance(error, OriginEnded) else "does not take connections"
            return UpstreamUnreachable(f"service {service!r} {why}", service=service)
        case PoolTimeout():
            return PoolBusy(f"no connection to service {service!r} came free in time", service=service)
        case DeadlineExceeded():
            return UpstreamTooSlow(f"service {service!r} let a deadline pass: {_deadline(error)}", service=service)
        case _:
            return UpstreamBroken(f"service {service!r} broke off or did not answer as HTTP", service=service)


def _deadline(error: DeadlineExceeded) -> str:
    names = {
        ConnectTimeout: "connect_s",
        FirstByteTimeout: "first_byte_s",
        IdleTimeout: "idle_s",
        WriteTimeout: "idle_s, while it was sent the request",
    }
    return f"timeouts.{names.get(type(error), 'connect_s')}"
