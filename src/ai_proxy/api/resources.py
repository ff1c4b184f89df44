"""Routes of what services share: devices and memory, events."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from ai_proxy.api.dependencies import ContextDep, PlaneDep
from ai_proxy.api.schemas import DeviceOut, MemoryOut, ResourcesOut
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
