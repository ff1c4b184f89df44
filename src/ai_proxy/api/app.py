"""The management application: routes, error handlers, docs that load nothing from elsewhere.

It is an ASGI app with full paths, so it needs no mount. From the outside in: `Boundary` names requests and stops what
nobody expected, `Audit` logs who did what, `Guard` keeps foreign web pages out, `Access` those without a key, then come
the routes.
"""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from ai_proxy import __version__
from ai_proxy.api import compat, leases, logs, plan, requests, resources, services, system
from ai_proxy.api.access import Access
from ai_proxy.api.audit import Audit
from ai_proxy.api.dependencies import Context
from ai_proxy.api.docs import DOCS_PAGE
from ai_proxy.api.guard import Guard
from ai_proxy.api.problems import Boundary, on_http_error, on_invalid_request
from ai_proxy.api.schemas import EVERYWHERE

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
        responses=EVERYWHERE,
    )
    app.state.context = context
    app.include_router(services.router)
    app.include_router(logs.router)
    app.include_router(resources.router)
    app.include_router(requests.router)
    app.include_router(leases.router)
    app.include_router(plan.router)
    app.include_router(system.router)
    app.include_router(compat.router)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_middleware(Access, config=lambda: context.plane.config)
    app.add_middleware(Guard, config=lambda: context.plane.config)
    app.add_middleware(Audit)
    app.add_middleware(Boundary)  # the one added last is the outermost

    @app.get("/api/v1/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> HTMLResponse:
        """The API's documentation, without a line from elsewhere."""
        return HTMLResponse(DOCS_PAGE, headers={"content-security-policy": "default-src 'self' 'unsafe-inline'"})

    return app
