"""Routes of services: look at them, start and stop them.

Starting and stopping are idempotent: asking for what is already so is answered like the change itself.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query

from ai_proxy.api.dependencies import Context, ContextDep, PlaneDep, ViewDep, view_of
from ai_proxy.api.problems import Refused
from ai_proxy.api.schemas import NOT_FOUND, FailureOut, FiguresOut, PlacementOut, Problem, ReplicaOut, ServiceOut
from ai_proxy.control.plane import View
from ai_proxy.errors import ProxyError, StartFailed
from ai_proxy.scheduler.figures import Figures
from ai_proxy.scheduler.scale import open_on
from ai_proxy.scheduler.state import Replica
from ai_proxy.services.machine import State

router = APIRouter(prefix="/api/v1", tags=["Services"])

Wait = Annotated[bool, Query(description="Answer once the service has come to rest.", examples=[True])]
WaitLimit = Annotated[float, Query(gt=0, le=7200, description="How long to wait, in seconds.", examples=[600])]
CHANGES: dict[int | str, dict[str, Any]] = {
    **NOT_FOUND,
    409: {"model": Problem, "description": "With `wait`: it could not be started; the detail says why."},
    503: {"model": Problem, "description": "With `wait`: the proxy is shutting down."},
    504: {"model": Problem, "description": "With `wait`: it did not come to rest in time."},
}


@router.get(
    "/services",
    response_model=list[ServiceOut],
    summary="List services",
    description="All services in the order of the config, each with its state.",
)
async def list_services(plane: PlaneDep, context: ContextDep) -> list[ServiceOut]:
    """All services."""
    return [service_out(view, context.clock()) for view in plane.views()]


@router.get("/services/{service_id}", response_model=ServiceOut, responses=NOT_FOUND, include_in_schema=False)
@router.get(
    "/service/{service_id}",
    response_model=ServiceOut,
    responses=NOT_FOUND,
    summary="Show a service",
    description="One service with its state. `/services/{service_id}` answers the same.",
)
async def show_service(view: ViewDep, context: ContextDep) -> ServiceOut:
    """One service."""
    return service_out(view, context.clock())


@router.post("/services/{service_id}/start", response_model=ServiceOut, responses=CHANGES, include_in_schema=False)
@router.post(
    "/service/{service_id}/start",
    response_model=ServiceOut,
    responses=CHANGES,
    summary="Start a service",
    description="Has a service run, as if a request needed it. Idempotent.",
)
async def start_service(
    view: ViewDep, context: ContextDep, *, wait: Wait = False, timeout_s: WaitLimit = 600
) -> ServiceOut:
    """Start a service."""
    context.plane.start(view.id)
    return await _settled(view.id, context, timeout_s=timeout_s if wait else None, starting=True)


@router.post("/services/{service_id}/stop", response_model=ServiceOut, responses=CHANGES, include_in_schema=False)
@router.post(
    "/service/{service_id}/stop",
    response_model=ServiceOut,
    responses=CHANGES,
    summary="Stop a service",
    description="Stops a service once its open requests are done; the next request starts it again. Idempotent.",
)
async def stop_service(
    view: ViewDep, context: ContextDep, *, wait: Wait = False, timeout_s: WaitLimit = 600
) -> ServiceOut:
    """Stop a service."""
    context.plane.stop(view.id)
    return await _settled(view.id, context, timeout_s=timeout_s if wait else None, starting=False)


@router.post("/services/{service_id}/restart", response_model=ServiceOut, responses=CHANGES, include_in_schema=False)
@router.post(
    "/service/{service_id}/restart",
    response_model=ServiceOut,
    responses=CHANGES,
    summary="Restart a service",
    description="Stops a service once its open requests are done, and starts it again.",
)
async def restart_service(
    view: ViewDep, context: ContextDep, *, wait: Wait = False, timeout_s: WaitLimit = 600
) -> ServiceOut:
    """Restart a service."""
    context.plane.restart(view.id)
    return await _settled(view.id, context, timeout_s=timeout_s if wait else None, starting=True)


async def _settled(service: str, context: Context, *, timeout_s: float | None, starting: bool) -> ServiceOut:
    """The service as it is now, or, with a time limit, once it has come to rest."""
    if timeout_s is not None:
        await rest(service, context, timeout_s)
    view = view_of(service, context.plane)
    if timeout_s is not None and starting and view.state.state is not State.READY:
        code, cause = _why_not(view)
        raise Refused(409, code, f"{service} was not started: {cause}")
    return service_out(view, context.clock())


async def rest(service: str, context: Context, timeout_s: float) -> None:
    """Wait until a service has come to rest.

    Raises:
        Refused: It did not in time, or the proxy is shutting down.
    """
    resting = asyncio.ensure_future(context.plane.settled(service))
    closing = asyncio.ensure_future(context.closing.wait())
    try:
        await asyncio.wait({resting, closing}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if resting.done():
            return
        state = context.plane.state_of(service)
        if closing.done():
            raise Refused(503, "draining", f"the proxy is shutting down; {service} is {state}")
        raise Refused(504, "wait_timeout", f"{service} did not come to rest within {timeout_s:g} s: it is {state}")
    finally:
        resting.cancel()
        closing.cancel()
        await asyncio.gather(resting, closing, return_exceptions=True)


def _why_not(view: View) -> tuple[str, str]:
    """Code and cause of a start that led to nothing."""
    service = view.state
    failure = service.failure if service.state is State.FAILED else service.blocked
    if failure is not None:
        return failure.code, failure.message
    verdict = f" ({service.verdict})" if service.verdict else ""
    return "not_started", f"it is {service.state}{verdict}"


def service_out(view: View, now: float) -> ServiceOut:
    """A view as the wire says it; `now` is the loop's time."""
    service, live = view.state, view.state.live
    ready_at = live.ready_at if live is not None else None
    is_idle = any(replica.is_idle for replica in service.replicas) and not open_on(service)
    return ServiceOut(
        id=view.id,
        type=view.config.type,
        runtime=view.config.kind,
        models=list(view.config.models) if view.config.models is not None else [view.id],
        state=service.state.value,
        doing=service.verdict if service.state is State.QUEUED else view.doing,
        in_flight=sum(replica.live.open for replica in service.replicas if replica.live is not None),
        waiting=service.waiting,
        busy=live is not None and not live.is_idle,
        pinned=view.config.pinned,
        instance=live.instance.id if live is not None and live.instance is not None else None,
        placement=_placement_out(view, live.replica) if live is not None else None,
        ready_for_s=now - ready_at if ready_at is not None and service.state is State.READY else None,
        idle_for_s=now - live.last_used if live is not None and is_idle else None,
        figures=_figures_out(view),
        failure=_failure_out(service.failure, service.retry_at - now) if service.failure is not None else None,
        replicas=[
            ReplicaOut(
                number=replica.number,
                state=replica.state.value,
                in_flight=replica.live.open if replica.live is not None else 0,
                placement=_placement_out(view, replica),
            )
            for replica in service.replicas
        ],
    )


def _placement_out(view: View, replica: Replica) -> PlacementOut | None:
    placement = view.rooms.get(replica.key)
    if placement is None:
        return None
    return PlacementOut(
        devices=[device.id for device in placement.devices], vram_mb=placement.vram_mb, memory_mb=placement.memory_mb
    )


def _figures_out(view: View) -> FiguresOut:
    declared, seen = view.config.resources.vram_required_mb, view.figures or Figures()
    return FiguresOut(
        declared_vram_mb=None if declared == "auto" else declared,
        seen_vram_mb=seen.peak_vram_mb,
        load_s=seen.load_s,
        loads=len(seen.loads_s),
        stop_s=seen.stop_s,
        wake_s={level: wake_s for level in seen.wakes_s if (wake_s := seen.wake_s(level)) is not None},
    )


def _failure_out(failure: ProxyError, retry_in_s: float) -> FailureOut:
    tail = failure.log_tail if isinstance(failure, StartFailed) else ()
    return FailureOut(message=failure.message, log_tail=list(tail), retry_in_s=max(0.0, retry_in_s))
