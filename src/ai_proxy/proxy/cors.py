"""Lets web pages of other origins use the data plane, where the config says whose. Closed, it is not there at all.

An ASGI layer around the app: it answers preflights itself, for they carry no key, and puts its own fields in place of
an engine's on every other response, errors included. Cookies and the like are never allowed: a page presents its key.
"""

from collections.abc import Awaitable, Callable, Mapping
from secrets import token_hex
from typing import Any, Final

from ai_proxy.config.management import CorsConfig
from ai_proxy.config.origins import canonical_origin
from ai_proxy.errors import OriginNotAllowed
from ai_proxy.proxy.body import Receive
from ai_proxy.proxy.replies import reply
from ai_proxy.proxy.request import Fields, Send
from ai_proxy.routing.endpoints import dialect_of

type App = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]

_ANY: Final = "*"
_OURS: Final = b"access-control-"
_METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_EXPOSED: Final = b"x-request-id, request-id, x-ai-proxy-service, x-should-retry, retry-after, server-timing"
_VARY: Final = (b"vary", b"Origin")


def opened(app: App, config: CorsConfig) -> App:
    """Open an app to the pages that the config names; to none, it is the app itself."""
    return Cors(app, config) if config.allow_origins else app


class Cors:
    """An app that pages of other origins may use.

    Args:
        app: What is asked.
        config: Which origins, and what they may send.
    """

    def __init__(self, app: App, config: CorsConfig) -> None:
        self._app = app
        self._origins = frozenset(config.allow_origins)
        self._headers = None if config.allow_headers is None else ", ".join(config.allow_headers).encode()
        self._max_age = b"%d" % config.max_age_s

    def __repr__(self) -> str:
        return f"<Cors for {', '.join(sorted(self._origins))}: {self._app!r}>"

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fields: Mapping[bytes, bytes] = dict(scope["headers"])
        said = self._said_to(fields.get(b"origin"))
        if scope["method"] == "OPTIONS" and b"origin" in fields and b"access-control-request-method" in fields:
            await self._answer_preflight(scope, fields, send, said)
            return

        async def send_with_ours(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*_without_theirs(message["headers"]), *said]
            await send(message)

        await self._app(scope, receive, send_with_ours)

    def _said_to(self, origin: bytes | None) -> Fields:
        """The fields of every response to a page of this origin; what it may do is said to it alone."""
        if _ANY in self._origins:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED)]
        if origin is None or canonical_origin(origin.decode("latin-1")) not in self._origins:
            return [_VARY]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
            _VARY,
        ]

    async def _answer_preflight(
        self, scope: Mapping[str, Any], fields: Mapping[bytes, bytes], send: Send, said: Fields
    ) -> None:
        if said == [_VARY]:
            error = OriginNotAllowed("server.cors.allow_origins does not name this page's origin")
            status, headers, body = reply(error, token_hex(8), dialect_of(scope["raw_path"]))
        else:
            asked = fields.get(b"access-control-request-headers", b"")
            status, headers, body = 204, [(b"content-length", b"0")], b""
            headers += (
                (b"access-control-allow-methods", _METHODS),
                (b"access-control-allow-headers", asked if self._headers is None else self._headers),
                (b"access-control-max-age", self._max_age),
            )
        await send({"type": "http.response.start", "status": status, "headers": headers + said})
        await send({"type": "http.response.body", "body": body})


def _without_theirs(fields: Fields) -> Fields:
    return [field for field in fields if not field[0].lower().startswith(_OURS)]
