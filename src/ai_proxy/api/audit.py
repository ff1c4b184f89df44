"""The audit log: one line for each act on the management plane, and for each request that was refused.

It says who, from where, what and with which outcome; never a key. What only looks is not logged, nor is the heartbeat
of a lease, which would bury the rest.
"""

from typing import Final

from loguru import logger
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOKING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_ACT_BY_GET: Final = "/unload"  # llama-swap's
_REFUSALS: Final = frozenset({401, 403})
_PATH_CHARS: Final = 200
CLIENT_LEFT: Final = 499


class Audit:
    """Logs what is done through the management plane.

    Args:
        app: What it watches; the layer that decides on access notes the actor in `scope["state"]`, and the
            client if a trusted proxy tells of one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __repr__(self) -> str:
        return f"<Audit of {self._app!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and log how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_logged = False

        async def watched(message: Message) -> None:
            nonlocal is_logged
            if message["type"] == "http.response.start":
                _log(scope, message["status"])
                is_logged = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except BaseException as error:
            if not is_logged:
                _log(scope, 500 if isinstance(error, Exception) else CLIENT_LEFT)
            raise


def _log(scope: Scope, status: int) -> None:
    """Write the line, if the request is one to be logged."""
    method, path = scope["method"], scope["path"]
    if method in _LOOKING and path != _ACT_BY_GET and status not in _REFUSALS:
        return
    is_heartbeat = method == "PUT" and path.startswith("/api/v1/leases/") and status < 300
    client, state = scope.get("client"), scope["state"]
    logger.bind(request_id=state["request_id"]).log(
        "DEBUG" if is_heartbeat else "INFO",
        "Management: {} {} → {}, by {} from {}",
        method,
        scope["raw_path"][:_PATH_CHARS].decode("latin-1"),
        status,
        state.get("actor", "anyone"),
        state.get("client") or (client[0] if client else "a Unix socket"),
    )
