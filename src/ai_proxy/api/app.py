"""The management application: routes, error handlers, docs that load nothing from elsewhere.

It is an ASGI app with full paths, so it needs no mount. Errors have the guide's `{"detail": …}` plus a code and the
request id; anything unexpected is logged and answered as a plain 500.
"""

from collections.abc import Mapping
from http import HTTPStatus
from secrets import token_hex

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from loguru import logger
from starlette.exceptions import HTTPException

from ai_proxy import __version__
from ai_proxy.api import resources, services, system
from ai_proxy.api.dependencies import Context
from ai_proxy.api.docs import DOCS_PAGE

ABOUT = "Look at services, start and stop them, read their output, follow what the scheduler decides."


def create_api(context: Context) -> FastAPI:
    """Make the management application.

    Args:
        context: What it acts on.
    """
    app = FastAPI(
        title="ai-proxy",
        version=__version__,
        description=ABOUT,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    app.include_router(services.router)
    app.include_router(resources.router)
    app.include_router(system.router)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(Exception, _on_unexpected)

    @app.get("/api/v1/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> HTMLResponse:
        """The API's documentation, without a line from elsewhere."""
        return HTMLResponse(DOCS_PAGE, headers={"content-security-policy": "default-src 'self' 'unsafe-inline'"})

    return app


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    status, detail, headers = 500, str(error), None
    if isinstance(error, HTTPException):
        status, detail, headers = error.status_code, error.detail, error.headers
    return _problem(request, status, detail, headers=headers)


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    detail = "; ".join(f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in faults)
    return _problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, detail)


async def _on_unexpected(request: Request, error: Exception) -> JSONResponse:
    request_id = _request_id(request)
    logger.bind(request_id=request_id).opt(exception=error).error("A management request failed unexpectedly")
    return _problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected error; the log has it", request_id)


def _problem(
    request: Request,
    status: int,
    detail: str,
    request_id: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    code = HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")
    body = {"detail": detail, "code": code, "request_id": request_id or _request_id(request)}
    return JSONResponse(body, status_code=status, headers=headers)


def _request_id(request: Request) -> str:
    return request.headers.get("x-request-id", "")[:128] or token_hex(8)
