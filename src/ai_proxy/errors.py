"""Every error that a client or an operator may see, as one tree.

An error has a kind (`code`), a source, an HTTP status and says whether a retry can mend it. It becomes HTTP in one
place per plane (`proxy/replies.py`, `api/app.py`); nothing here knows of HTTP beyond the status number.

    ProxyError
    ├── ClientError                 source client
    │   ├── MalformedRequest        400  malformed_request
    │   ├── ModelMissing            400  model_missing
    │   ├── Unauthorized            401  invalid_api_key
    │   ├── Forbidden               403  model_not_allowed
    │   ├── OriginNotAllowed        403  origin_not_allowed
    │   ├── UnknownModel            404  model_not_found
    │   ├── UnknownPath             404  path_not_found
    │   ├── MethodNotAllowed        405  method_not_allowed
    │   ├── ClientTooSlow           408  client_too_slow
    │   ├── BodyTooLarge            413  body_too_large
    │   ├── TargetTooLong           414  target_too_long
    │   ├── EncodingNotSupported    415  encoding_not_supported
    │   ├── RateLimited             429  rate_limit_exceeded, retryable
    │   ├── HeadersTooLarge         431  headers_too_large
    │   └── UpgradeNotSupported     501  upgrade_not_supported
    ├── CannotServe                 503, source proxy or runtime
    │   ├── QueueFull               503  queue_full
    │   ├── NoRoom                  503  no_room
    │   ├── Draining                503  draining
    │   ├── StartFailed             503  start_failed
    │   ├── RuntimeUnavailable      503  runtime_unavailable
    │   ├── PoolBusy                503  pool_busy
    │   ├── NotReady                503  not_ready
    │   ├── TooLate                 503  too_late
    │   └── WaitTimeout             504  wait_timeout
    └── UpstreamError               source upstream
        ├── UpstreamUnreachable     502  upstream_unreachable
        ├── UpstreamBroken          502  upstream_broken
        ├── UpstreamRefused         502  upstream_refused
        └── UpstreamTooSlow         504  upstream_too_slow
"""

from enum import StrEnum
from typing import ClassVar, Self


class Source(StrEnum):
    """Who caused an error."""

    CLIENT = "client"
    PROXY = "proxy"
    RUNTIME = "runtime"
    UPSTREAM = "upstream"


class ProxyError(Exception):
    """An error with a cause that the reader can act on.

    Args:
        message: What happened and what to do, one or two sentences, no address of an upstream.
        service: Id of the service concerned, if one is known.
        param: Name of the request's field or parameter at fault, if one is.
        retry_after_s: When a retry may succeed, seconds from now; None where time alone mends nothing.
    """

    code: ClassVar[str] = "internal_error"
    type: ClassVar[str] = "server_error"
    source: ClassVar[Source] = Source.PROXY
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        service: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.service = service
        self.param = param
        self.retry_after_s = retry_after_s

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, service={self.service!r})"

    def renewed(self, *, service: str | None, retry_after_s: float | None) -> Self:
        """A fresh error with the same cause, for another waiter or another moment."""
        # Not by copy(): it would call the constructor, whose arguments differ from error to error.
        renewed = type(self).__new__(type(self), *self.args)
        renewed.__dict__.update(self.__dict__)
        renewed.service, renewed.retry_after_s = service, retry_after_s
        return renewed


class ClientError(ProxyError):
    """The request itself is at fault: sending it again changes nothing, unless its error says so."""

    type = "invalid_request_error"
    source = Source.CLIENT
    status = 400


class MalformedRequest(ClientError):
    """The body or the framing can't be read."""

    code = "malformed_request"


class ModelMissing(ClientError):
    """A model-routed path whose request names no model, and no default service is set."""

    code = "model_missing"


class Unauthorized(ClientError):
    """The request has no key, or one that nobody was given."""

    code = "invalid_api_key"
    status = 401


class Forbidden(ClientError):
    """The request's key does not open what it asks for."""

    code = "model_not_allowed"
    status = 403


class OriginNotAllowed(ClientError):
    """A web page of an origin that the config does not name asks what it may do."""

    code = "origin_not_allowed"
    status = 403


class UnknownModel(ClientError):
    """The request names a model that no service offers."""

    code = "model_not_found"
    status = 404


class UnknownPath(ClientError):
    """No route knows the path."""

    code = "path_not_found"
    status = 404


class MethodNotAllowed(ClientError):
    """The path exists, the method does not."""

    code = "method_not_allowed"
    status = 405


class ClientTooSlow(ClientError):
    """The client did not send its request within the deadline."""

    code = "client_too_slow"
    status = 408


class BodyTooLarge(ClientError):
    """A model-routed body is over the limit; the prefix route streams without one."""

    code = "body_too_large"
    status = 413


class TargetTooLong(ClientError):
    """The request target is over the limit."""

    code = "target_too_long"
    status = 414


class EncodingNotSupported(ClientError):
    """A compressed request body on a route that must read it."""

    code = "encoding_not_supported"
    status = 415


class RateLimited(ClientError):
    """The request's key has as many requests open, or had as many within a minute, as it may."""

    code = "rate_limit_exceeded"
    type = "rate_limit_error"
    status = 429
    retryable = True


class HeadersTooLarge(ClientError):
    """The request's header block is over the limit in bytes or in number."""

    code = "headers_too_large"
    status = 431


class UpgradeNotSupported(ClientError):
    """The request asks for a protocol upgrade."""

    code = "upgrade_not_supported"
    status = 501


class CannotServe(ProxyError):
    """The request is fine; the fleet can't serve it now."""

    status = 503
    retryable = True


class QueueFull(CannotServe):
    """As many requests wait as may wait."""

    code = "queue_full"


class NoRoom(CannotServe):
    """The service can never fit, or what holds the room may not leave."""

    code = "no_room"
    retryable = False


class Draining(CannotServe):
    """The proxy or the service is going away."""

    code = "draining"


class StartFailed(CannotServe):
    """The service could not be started.

    Args:
        message: The cause, in words.
        log_tail: The engine's last lines, oldest first; bounded by the runtime.
        service: Id of the service.
        retry_after_s: When the next start will be tried.
    """

    code = "start_failed"
    source = Source.RUNTIME

    def __init__(
        self,
        message: str,
        *,
        log_tail: tuple[str, ...] = (),
        service: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, service=service, retry_after_s=retry_after_s)
        self.log_tail = log_tail


class RuntimeUnavailable(CannotServe):
    """The runtime itself (the Docker engine, for one) does not answer."""

    code = "runtime_unavailable"
    source = Source.RUNTIME


class PoolBusy(CannotServe):
    """No connection to the replica came free within the deadline."""

    code = "pool_busy"


class NotReady(CannotServe):
    """The service is not ready, and the request may not have it started."""

    code = "not_ready"


class TooLate(CannotServe):
    """The service can't be ready within the time for which the request may wait."""

    code = "too_late"


class WaitTimeout(CannotServe):
    """The request's own deadline passed while it waited for its service."""

    code = "wait_timeout"
    status = 504


class UpstreamError(ProxyError):
    """A replica did not answer as HTTP asks."""

    type = "upstream_error"
    source = Source.UPSTREAM
    status = 502
    retryable = True


class UpstreamUnreachable(UpstreamError):
    """No connection to the replica."""

    code = "upstream_unreachable"


class UpstreamBroken(UpstreamError):
    """The replica closed early or sent what is not HTTP."""

    code = "upstream_broken"


class UpstreamRefused(UpstreamError):
    """A replica answered with no stream where one had been promised to the client already."""

    code = "upstream_refused"
    retryable = False


class UpstreamTooSlow(UpstreamError):
    """The replica let a deadline pass: connect, first byte or idle."""

    code = "upstream_too_slow"
    status = 504
