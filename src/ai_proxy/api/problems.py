"""Where an error becomes an answer of the management plane: `{"detail", "code", "request_id"}`.

What a route refuses says what is wrong and what to do. Anything unexpected is logged and answered as a plain 500 that
tells nothing of the inside. Every answer carries the request's id.
"""

import re
from http import HTTPStatus
from secrets import token_hex

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from loguru import logger
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_INDEX = "the API is described at /api/v1/docs"


class Refused(HTTPException):
    """A request that can't be done as asked.

    Args:
        status: The answer's status.
        code: The kind of error, for programs.
        detail: What is wrong and what to do, for people.
    """

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(status, detail)
        self.code = code


class Boundary:
    """The outermost layer: names each request, and stops what nobody expected.

    Args:
        app: The application within.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __repr__(self) -> str:
        return f"<Boundary of {self._app!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens within."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope.setdefault("state", {})["request_id"] = _request_id(scope)
        has_begun = False

        async def named(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, named)
        except Exception:
            logger.bind(request_id=request_id).exception("A management request failed unexpectedly")
            if has_begun:
                raise  # the server cuts the answer off; a clean end would be a lie
            error = Refused(500, "internal_error", "unexpected error: the proxy's log has it, under this request id")
            await answer(scope, error)(scope, receive, named)


def answer(scope: Scope, error: HTTPException) -> JSONResponse:
    """Word an error as the API's answer."""
    code = error.code if isinstance(error, Refused) else HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    body = {"detail": error.detail, "code": code, "request_id": scope["state"]["request_id"]}
    return JSONResponse(body, error.status_code, error.headers)


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Answer what a route refused, and what no route knows."""
    if not isinstance(error, HTTPException):
        raise error
    headers = error.headers
    if not isinstance(error, Refused) and error.status_code == HTTPStatus.NOT_FOUND:
        error = Refused(404, "path_not_found", f"nothing is at {request.url.path[:200]}; {_INDEX}")
    elif not isinstance(error, Refused) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = Headers(headers).get("allow", "another method")
        error = Refused(405, "method_not_allowed", f"{request.method} is not allowed here, but {allowed}; {_INDEX}")
        error.headers = headers
    elif not isinstance(error, Refused) and error.status_code == HTTPStatus.BAD_REQUEST:
        error = Refused(422, "invalid_parameter", "the body can't be read: it has to be JSON in UTF-8")
    return answer(request.scope, error)


async def on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Answer parameters that are not what the route takes, all faults at once."""
    if not isinstance(error, RequestValidationError):
        raise error
    faults = (f"{'.'.join(str(part) for part in fault['loc'][1:])}: {fault['msg']}" for fault in error.errors())
    return answer(request.scope, Refused(422, "invalid_parameter", "; ".join(faults)))


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else token_hex(8)
