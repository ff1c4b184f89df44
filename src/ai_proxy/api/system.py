"""Routes of the proxy itself: is it alive, is it ready, what config is in force, reload it; metrics."""

from collections import Counter
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from ai_proxy import __version__
from ai_proxy.api.dependencies import ContextDep, PlaneDep
from ai_proxy.api.problems import Refused
from ai_proxy.api.schemas import HealthOut, Problem, ReadyOut, ReloadOut
from ai_proxy.config.faults import ConfigError
from ai_proxy.config.redact import redacted

EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8"

router = APIRouter(tags=["Proxy"])


@router.get("/health", response_model=HealthOut, include_in_schema=False)
@router.get(
    "/api/v1/health",
    response_model=HealthOut,
    summary="Is the proxy alive?",
    description="Answers 200 as long as the process serves. `/health` answers the same.",
)
async def health() -> HealthOut:
    """Alive."""
    return HealthOut(status="ok", version=__version__)


@router.get(
    "/api/v1/ready",
    response_model=ReadyOut,
    responses={503: {"model": Problem, "description": "It is shutting down."}},
    summary="Does the proxy take requests?",
    description="200 while it does; `degraded`: some service can't be started, its runtime does not answer.",
)
async def ready(plane: PlaneDep, context: ContextDep) -> ReadyOut:
    """Ready."""
    if context.closing.is_set():
        raise Refused(503, "draining", "the proxy is shutting down")
    views = plane.views()
    states = Counter(view.state.state.value for view in views)
    degraded = any(view.state.blocked is not None for view in views)
    return ReadyOut(status="degraded" if degraded else "ready", services=dict(states))


@router.get(
    "/api/v1/config",
    response_model=dict[str, Any],
    summary="Show the config in force",
    description="The config with defaults, templates and environment resolved; secrets are hidden.",
)
async def show_config(plane: PlaneDep) -> dict[str, Any]:
    """The config in force."""
    return redacted(plane.config)


@router.post(
    "/api/v1/config/reload",
    response_model=ReloadOut,
    responses={409: {"model": Problem, "description": "The file is at fault; the config in force stays."}},
    summary="Reload the config file",
    description="Reads the file again and applies what changed; a faulty file changes nothing.",
)
async def reload_config(plane: PlaneDep) -> ReloadOut:
    """Reload the config file."""
    try:
        change = await plane.reload()
    except ConfigError as error:
        raise Refused(409, "config_refused", str(error)) from None
    return ReloadOut(
        added=list(change.added),
        removed=list(change.removed),
        restarts=list(change.restarts),
        live=list(change.live),
        settings=list(change.settings),
        deferred=list(change.deferred),
    )


@router.get("/metrics", response_class=PlainTextResponse, response_model=None, include_in_schema=False)
async def metrics(context: ContextDep) -> PlainTextResponse:
    """All metrics in Prometheus' text format."""
    return PlainTextResponse(await context.exposition(), media_type=EXPOSITION_TYPE)
