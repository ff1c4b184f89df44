"""The pool behind httpx's interface, for whoever prefers objects to bytes: probes, tools, tests.

It turns an `httpx.Request` into a request head and an exchange into an `httpx.Response`, and our errors into
httpx's. Nothing else: pooling, deadlines and framing are the pool's. The hot path does not come through here.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager

import httpx

from ai_proxy.transport.errors import (
    ConnectFailed,
    ConnectTimeout,
    DeadlineExceeded,
    ExchangeClosed,
    PoolClosed,
    PoolTimeout,
    ProtocolError,
    TransportError,
    UpstreamClosed,
    WriteError,
    WriteTimeout,
)
from ai_proxy.transport.exchange import Exchange
from ai_proxy.transport.limits import Timeouts
from ai_proxy.transport.origin import Origin
from ai_proxy.transport.pool import Pool

# The first match counts, so special ones come before their bases.
_HTTPX_ERRORS: tuple[tuple[type[TransportError], type[httpx.TransportError]], ...] = (
    (ConnectTimeout, httpx.ConnectTimeout),
    (PoolTimeout, httpx.PoolTimeout),
    (WriteTimeout, httpx.WriteTimeout),
    (DeadlineExceeded, httpx.ReadTimeout),
    (ConnectFailed, httpx.ConnectError),
    (PoolClosed, httpx.CloseError),
    (ExchangeClosed, httpx.CloseError),
    (UpstreamClosed, httpx.RemoteProtocolError),
    (ProtocolError, httpx.RemoteProtocolError),
    (WriteError, httpx.LocalProtocolError),
    (TransportError, httpx.TransportError),
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
_TARGET = re.compile(rb"[^\x00-\x20\x7f]+")


@contextmanager
def httpx_errors(request: httpx.Request | None = None) -> Iterator[None]:
    """Raise our errors as httpx's."""
    try:
        yield
    except TransportError as error:
        mapped = next(theirs for ours, theirs in _HTTPX_ERRORS if isinstance(error, ours))
        raise mapped(str(error), request=request) from error


class ExchangeStream(httpx.AsyncByteStream):
    """The body of a response, read as it arrives."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with httpx_errors():
            while piece := await self._exchange.read():
                yield piece

    async def aclose(self) -> None:
        """End the exchange; unless it is complete, its connection is closed."""
        self._exchange.close()


class PooledTransport(httpx.AsyncBaseTransport):
    """A transport for `httpx.AsyncClient` over a pool.

    Args:
        pool: The pool to use; the caller closes it. Without one, the transport owns a pool of its own.
        uds: Path of a Unix socket to which all requests go, whatever their host.

    A request's extensions `tls` and `is_alive` are its origin's.

    Example:
        `async with httpx.AsyncClient(transport=PooledTransport()) as client: ...`
    """

    def __init__(self, pool: Pool | None = None, *, uds: str | None = None) -> None:
        self._pool = pool if pool is not None else Pool()
        self._owns_pool = pool is None
        self._uds = uds

    def __repr__(self) -> str:
        return f"<PooledTransport: {self._pool!r}>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return its response, the body still to be read.

        Raises:
            httpx.TransportError: As httpx's own transport does.
        """
        with httpx_errors(request):
            exchange = await self._pool.send(
                _origin(request, self._uds),
                _head(request),
                _body(request),
                method=request.method.encode("ascii"),
                timeouts=_timeouts(request, self._pool.timeouts),
                chunked="transfer-encoding" in request.headers,
            )
        return httpx.Response(
            exchange.status,
            headers=exchange.headers,
            stream=ExchangeStream(exchange),
            extensions={
                "http_version": b"HTTP/" + exchange.http_version.encode("ascii"),
                "reason_phrase": exchange.reason,
            },
        )

    async def aclose(self) -> None:
        """Close the pool, if it is our own."""
        if self._owns_pool:
            await self._pool.aclose()


def _origin(request: httpx.Request, uds: str | None) -> Origin:
    url = request.url
    default = _DEFAULT_PORTS.get(url.scheme)
    if default is None:
        raise httpx.UnsupportedProtocol(f"{url.scheme!r} is neither http nor https")
    tls, is_alive = request.extensions.get("tls"), request.extensions.get("is_alive")
    return Origin(url.scheme, url.host, url.port or default, uds=uds, tls=tls, is_alive=is_alive)


def _head(request: httpx.Request) -> bytes:
    target = request.url.raw_path
    if not _TARGET.fullmatch(target):
        raise httpx.LocalProtocolError("the request target has white space or control bytes", request=request)
    lines = [b"%b %b HTTP/1.1\r\n" % (request.method.encode("ascii"), target)]
    for name, value in request.headers.raw:
        if not (_TOKEN.fullmatch(name) and _VALUE.fullmatch(value)):
            raise httpx.LocalProtocolError(f"not a header field: {name!r}", request=request)
        lines.append(b"%b: %b\r\n" % (name, value))
    lines.append(b"\r\n")
    return b"".join(lines)


def _body(request: httpx.Request) -> bytes | AsyncIterator[bytes] | None:
    stream = request.stream
    if isinstance(stream, httpx.ByteStream):
        return b"".join(stream)
    if not isinstance(stream, AsyncIterable):
        raise TypeError("an asynchronous transport needs an asynchronous request body")
    return aiter(stream)


def _timeouts(request: httpx.Request, ours: Timeouts) -> Timeouts:
    """Return httpx's four timeouts as ours; where httpx has None, ours stay: no wait is without an end."""
    asked = request.extensions.get("timeout", {})
    read_s = asked.get("read")
    return Timeouts(
        connect_s=_or(asked.get("connect"), ours.connect_s),
        pool_s=_or(asked.get("pool"), ours.pool_s),
        first_byte_s=_or(read_s, ours.first_byte_s),
        idle_s=_or(read_s, ours.idle_s),
    )


def _or(asked: float | None, default: float) -> float:
    return default if asked is None else asked
