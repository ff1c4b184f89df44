"""Routes of what services share: devices and memory, requests in the house, events."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, status
from fastapi.responses import Response

from ai_proxy.api.dependencies import ContextDep, PlaneDep
from ai_proxy.api.problems import Refused
from ai_proxy.api.schemas import DeviceOut, MemoryOut, Problem, RequestOut, ResourcesOut
from ai_proxy.api.stream import EventStream, events_as_sse

EVENT_EXAMPLE: dict[str, Any] = {
    "text/event-stream": {
        "example": 'event: service\ndata: {"type":"service","at":1750000000.0,"service":"chat","state":"ready",'
        '"previous":"loading","reason":"healthy","eviction":null}\n\n'
    }
}

router = APIRouter(prefix="/api/v1", tags=["Fleet"])


@router.get(
    "/resources",
    response_model=ResourcesOut,
    summary="Show devices and memory",
    description="The GPUs and the host's memory, with what is reserved of them and for whom.",
)
async def show_resources(plane: PlaneDep) -> ResourcesOut:
    """Devices and memory."""
    ledger = plane.scheduler.state.ledger
    held = ledger.held
    devices = [
        DeviceOut(
            id=device.id,
            uuid=device.uuid,
            name=device.name,
            vram_mb=device.vram_mb,
            reserved_mb=device.vram_mb - ledger.free_mb(device),
            holders={
                holder: min(placement.vram_mb, device.vram_mb)
                for holder, placement in held.items()
                if device in placement.devices
            },
        )
        for device in ledger.devices
    ]
    memory = MemoryOut(
        memory_mb=ledger.memory_mb,
        reserved_mb=ledger.memory_mb - ledger.free_memory_mb,
        holders={holder: placement.memory_mb for holder, placement in held.items() if placement.memory_mb},
    )
    return ResourcesOut(devices=devices, memory=memory)


@router.get(
    "/requests",
    response_model=list[RequestOut],
    summary="List requests in the house",
    description="Every request that waits for its service or runs on it.",
)
async def list_requests(plane: PlaneDep, context: ContextDep) -> list[RequestOut]:
    """Requests that wait or run."""
    now = context.clock()
    return [
        RequestOut(
            id=request.id,
            service=request.service,
            state="running" if granted else "waiting",
            age_s=max(0.0, now - request.since),
        )
        for request, granted in plane.scheduler.requests()
    ]


@router.delete(
    "/requests/{request_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    response_model=None,
    responses={404: {"model": Problem, "description": "No such request is in the house."}},
    summary="Cancel a request",
    description="Ends a request: its client's connection and its engine's are closed.",
)
async def cancel_request(
    request_id: Annotated[str, Path(description="Its request id.", examples=["5f0c1d6e9a7b4c32"])], plane: PlaneDep
) -> None:
    """Cancel a request."""
    found = [request for request, _ in plane.scheduler.requests() if request.id == request_id]
    if not found:
        raise Refused(404, "request_not_found", f"no request {request_id[:128]!r} waits or runs")
    for request in found:
        request.cancel()


@router.get(
    "/events",
    response_class=Response,
    response_model=None,
    responses={200: {"description": "Events, one after the other.", "content": EVENT_EXAMPLE}},
    summary="Follow events",
    description="Changes of services, progress of starts, decisions and reloads as server-sent events, from now on.",
)
async def follow_events(plane: PlaneDep, context: ContextDep) -> EventStream:
    """Follow events."""
    return EventStream(events_as_sse(plane.bus), context.closing)
