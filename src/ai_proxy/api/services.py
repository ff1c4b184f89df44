"""Routes of services: look at them, start and stop them, read their output.

Starting and stopping are idempotent: asking for what is already so is answered like the change itself.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, status
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from ai_proxy.api.dependencies import ContextDep, PlaneDep, ViewDep
from ai_proxy.api.schemas import FailureOut, PlacementOut, Problem, ServiceOut
from ai_proxy.api.stream import SSE_HEADERS, lines_as_sse
from ai_proxy.control.plane import View
from ai_proxy.errors import CannotServe, ProxyError, StartFailed
from ai_proxy.services.machine import State

LOG_DEADLINE_S = 10.0

router = APIRouter(prefix="/api/v1", tags=["Services"])

Wait = Annotated[bool, Query(description="Answer once the service has come to rest.", examples=[True])]
WaitLimit = Annotated[float, Query(gt=0, le=7200, description="How long to wait, in seconds.", examples=[600])]
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No service of this id."}}
CHANGES: dict[int | str, dict[str, Any]] = {
    **NOT_FOUND,
    409: {"model": Problem, "description": "It could not be started."},
    504: {"model": Problem, "description": "It did not come to rest in time."},
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


@router.get(
    "/services/{service_id}/logs", response_class=PlainTextResponse, responses=NOT_FOUND, include_in_schema=False
)
@router.get(
    "/service/{service_id}/logs",
    response_class=PlainTextResponse,
    response_model=None,
    responses={**NOT_FOUND, 200: {"content": {"text/plain": {}, "text/event-stream": {}}}},
    summary="Read a service's output",
    description="The last lines of the replica's output as plain text; with `follow`, as server-sent events until it "
    "ends.",
)
async def service_logs(
    view: ViewDep,
    context: ContextDep,
    *,
    follow: Annotated[bool, Query(description="Go on with new lines.", examples=[True])] = False,
    tail: Annotated[int, Query(ge=1, le=100_000, description="At most so many lines.", examples=[200])] = 200,
) -> Response:
    """The output of a service."""
    lines = context.plane.logs(view.id, follow=follow)
    if lines is None:
        detail = f"{view.id} has no replica to read from: it is {view.replica.state}"
        raise HTTPException(status.HTTP_409_CONFLICT, detail)
    if follow:
        return StreamingResponse(
            lines_as_sse(lines, context.closing), media_type="text/event-stream", headers=SSE_HEADERS
        )
    kept = await _last(lines, tail)
    return PlainTextResponse("".join(f"{line}\n" for line in kept))


async def _last(lines: AsyncIterator[str], count: int) -> deque[str]:
    kept: deque[str] = deque(maxlen=count)
    try:
        async with asyncio.timeout(LOG_DEADLINE_S):
            async for line in lines:
                kept.append(line)
    except TimeoutError:
        detail = f"its output could not be read within {LOG_DEADLINE_S:g} s"
        raise HTTPException(status.HTTP_504_GATEWAY_TIMEOUT, detail) from None
    except CannotServe as error:
        raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, error.message) from error
    return kept


async def _settled(service: str, context: ContextDep, *, timeout_s: float | None, starting: bool) -> ServiceOut:
    """The service as it is now, or, with a time limit, once it has come to rest."""
    if timeout_s is not None:
        try:
            async with asyncio.timeout(timeout_s):
                await context.plane.settled(service)
        except TimeoutError:
            state = context.plane.state_of(service)
            detail = f"{service} did not come to rest within {timeout_s:g} s: it is {state}"
            raise HTTPException(status.HTTP_504_GATEWAY_TIMEOUT, detail) from None
    view = context.plane.view(service)
    if timeout_s is not None and starting and view.replica.state is not State.READY:
        failure = view.replica.failure
        detail = failure.message if failure else view.replica.verdict or f"it is {view.replica.state}"
        raise HTTPException(status.HTTP_409_CONFLICT, f"{service} was not started: {detail}")
    return service_out(view, context.clock())


def service_out(view: View, now: float) -> ServiceOut:
    """A view as the wire says it; `now` is the loop's time."""
    replica, live = view.replica, view.replica.live
    ready_at = live.ready_at if live is not None else None
    return ServiceOut(
        id=view.id,
        type=view.config.type,
        runtime=view.config.kind,
        models=list(view.config.models) if view.config.models is not None else [view.id],
        state=replica.state.value,
        doing=replica.verdict if replica.state is State.QUEUED else view.doing,
        in_flight=live.open if live is not None else 0,
        waiting=len(replica.queue),
        busy=live is not None and not live.is_idle,
        pinned=view.config.pinned,
        instance=live.instance.id if live is not None and live.instance is not None else None,
        placement=PlacementOut(
            devices=[device.id for device in live.placement.devices],
            vram_mb=live.placement.vram_mb,
            memory_mb=live.placement.memory_mb,
        )
        if live is not None
        else None,
        ready_for_s=now - ready_at if ready_at is not None else None,
        idle_for_s=now - live.last_used if live is not None and replica.is_idle else None,
        failure=_failure_out(replica.failure, replica.retry_at - now) if replica.failure is not None else None,
    )


def _failure_out(failure: ProxyError, retry_in_s: float) -> FailureOut:
    tail = failure.log_tail if isinstance(failure, StartFailed) else ()
    return FailureOut(message=failure.message, log_tail=list(tail), retry_in_s=max(0.0, retry_in_s))
