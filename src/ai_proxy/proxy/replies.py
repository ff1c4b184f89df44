"""Error replies: the one place where a `ProxyError` becomes HTTP on the data plane.

The same error is written in the words of the API that was called: OpenAI's, Anthropic's or Ollama's. Pure: bytes
out, nothing sent here.
"""

from http import HTTPStatus
from math import ceil
from typing import Any, Final, NamedTuple

import msgspec

from ai_proxy.engines.profile import Dialect
from ai_proxy.errors import ProxyError, StartFailed

# Clients that repeat by themselves take no longer one seriously; the body says how long it really is.
_MAX_RETRY_AFTER_S: Final = 120
# With every 5xx, unless they are told that it mends nothing.
_REPEATED_BY_SDKS: Final = frozenset({408, 409, 429})
_encode: Final = msgspec.json.Encoder().encode


class Reply(NamedTuple):
    """A whole response."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def reply(error: ProxyError, request_id: str, dialect: Dialect = Dialect.OPENAI) -> Reply:
    """Write an error as a response.

    Args:
        error: What happened.
        request_id: Told to the client, in a header and where the shape has room for it.
        dialect: In whose words.
    """
    body = _encode(_content(error, request_id, dialect))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode("latin-1", "replace")),
    ]
    if dialect is Dialect.ANTHROPIC:
        # Where its SDK looks.
        headers.append((b"request-id", headers[-1][1]))
    if error.service is not None:
        headers.append((b"x-ai-proxy-service", error.service.encode("latin-1", "replace")))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.retryable:
        headers.append((b"retry-after", b"%d" % min(_retry_after_s(error), _MAX_RETRY_AFTER_S)))
    elif error.status in _REPEATED_BY_SDKS or error.status >= 500:
        headers.append((b"x-should-retry", b"false"))
    return Reply(error.status, headers, body)


def sse_event(error: ProxyError, request_id: str, dialect: Dialect = Dialect.OPENAI) -> bytes:
    """Write an error as a last server-sent event, for a stream that has already begun."""
    name = b"event: error\n" if dialect is Dialect.ANTHROPIC else b""
    return b"%sdata: %s\n\n" % (name, _encode(_content(error, request_id, dialect)))


def refusal(error: ProxyError, request_id: str) -> bytes:
    """Write an error as the last bytes of a connection whose request could not be read."""
    status, headers, body = reply(error, request_id)
    lines = [b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode("ascii"))]
    lines += [b"%s: %s\r\n" % header for header in headers]
    return b"".join((*lines, b"connection: close\r\n\r\n", body))


def _content(error: ProxyError, request_id: str, dialect: Dialect) -> dict[str, Any]:
    message = f"{error.message} (request {request_id})" if dialect is Dialect.OLLAMA else error.message
    match dialect:
        case Dialect.OLLAMA:
            return {"error": message}
        case Dialect.ANTHROPIC:
            return {
                "type": "error",
                "error": {"type": _anthropic_type(error.status), "message": message, "code": error.code},
                "request_id": request_id,
            }
        case Dialect.OPENAI:
            return {"error": _openai(error, request_id)}


def _openai(error: ProxyError, request_id: str) -> dict[str, Any]:
    content: dict[str, Any] = {
        "message": error.message,
        "type": error.type,
        "code": error.code,
        "param": error.param,
        "service": error.service,
        "retry_after_s": _retry_after_s(error) if error.retryable else None,
        "request_id": request_id,
    }
    if isinstance(error, StartFailed) and error.log_tail:
        content["log_tail"] = error.log_tail
    return content


def _anthropic_type(status: int) -> str:
    named = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
    }
    return named.get(status, "invalid_request_error" if status < 500 else "api_error")


def _retry_after_s(error: ProxyError) -> int:
    """At least a second: a retry at once would meet the same state."""
    return max(1, ceil(error.retry_after_s or 1))
