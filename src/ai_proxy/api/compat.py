"""Paths that tools written for llama-swap know: what runs, and have it make room. They answer in its shapes.

`/upstream/{model}/…` is the data plane's. Names are model names, or ids of services. None of this is part of our own
API, and so its description leaves it out.
"""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import PlainTextResponse

from ai_proxy.api.dependencies import Context, ContextDep, PlaneDep
from ai_proxy.api.problems import Refused
from ai_proxy.api.schemas import RunningModel, RunningOut, UnloadedOut
from ai_proxy.api.services import rest
from ai_proxy.config.models import RuntimeKind, ServiceConfig
from ai_proxy.config.redact import command_line
from ai_proxy.control.plane import ControlPlane
from ai_proxy.routing.nearest import advice, shown
from ai_proxy.services.machine import State

UNLOAD_LIMIT_S = 600.0

router = APIRouter(include_in_schema=False)

_STATES = {
    State.STARTING: "starting",
    State.LOADING: "starting",
    State.READY: "ready",
    State.SLEEPING: "sleeping",
    State.DRAINING: "stopping",
    State.STOPPING: "stopping",
}
"""What counts as running, in llama-swap's words; it knows no sleep."""


def refuse_links(sec_fetch_site: Annotated[str | None, Header()] = None) -> None:
    """A GET that changes something must not be what a link on a foreign page leads to."""
    if sec_fetch_site in {"cross-site", "same-site"}:
        raise Refused(403, "foreign_page", "a page of another site may not unload models")


@router.get("/running", response_model=RunningOut)
async def running(plane: PlaneDep, request: Request) -> RunningOut:
    """List every service that holds something of the machine, by its first model name."""
    models = [
        RunningModel(
            model=_first_name(view.id, view.config),
            state=_STATES[state],
            cmd=command_line(view.config.command or ()),
            proxy=f"{request.base_url}services/{view.id}",
            ttl=round(view.config.idle_timeout_s or 0),
            name=view.id,
            description=view.doing,
        )
        for view in plane.views()
        if (state := plane.state_of(view.id)) in _STATES
    ]
    return RunningOut(running=sorted(models, key=lambda it: it.model))


@router.get("/unload", response_class=PlainTextResponse, response_model=None, dependencies=[Depends(refuse_links)])
@router.post("/unload", response_class=PlainTextResponse, response_model=None)
async def unload(context: ContextDep) -> PlainTextResponse:
    """Stop every service once its open requests are done, and answer when that is so."""
    await _unload(context, list(context.plane.config.services))
    return PlainTextResponse("OK")


@router.post("/api/models/unload", response_model=UnloadedOut)
async def unload_all(context: ContextDep) -> UnloadedOut:
    """Do as `/unload` does."""
    await _unload(context, list(context.plane.config.services))
    return UnloadedOut(msg="ok")


@router.post("/api/models/unload/{model:path}", response_class=PlainTextResponse, response_model=None)
async def unload_model(model: str, context: ContextDep) -> PlainTextResponse:
    """Stop the service that offers a model, or that has this id."""
    await _unload(context, [_service_of(model, context.plane)])
    return PlainTextResponse("OK")


async def _unload(context: Context, services: list[str]) -> None:
    """Stop what runs of these; what runs elsewhere is not ours to stop."""
    plane = context.plane
    ours = [it for it in services if plane.config.services[it].kind is not RuntimeKind.EXTERNAL]
    leaving = [service for service in ours if plane.state_of(service) in _STATES]
    for service in leaving:
        plane.stop(service)
    await asyncio.gather(*(rest(service, context, UNLOAD_LIMIT_S) for service in leaving))


def _first_name(service: str, config: ServiceConfig) -> str:
    return next((name for name in config.models or () if "*" not in name), service)


def _service_of(model: str, plane: ControlPlane) -> str:
    services = plane.config.services
    owner = next((service for service, config in services.items() if model in (config.models or ())), model)
    if owner not in services:
        known = advice(model, [_first_name(service, config) for service, config in services.items()])
        raise Refused(404, "model_not_found", f"no model {shown(model)} here; {known}")
    return owner
