"""Routes of what services share: devices, memory and other resources, events."""

import asyncio
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from ai_proxy.api.dependencies import ContextDep, PlaneDep
from ai_proxy.api.schemas_resources import CustomOut, DeviceOut, ForeignOut, HolderOut, MemoryOut, ResourcesOut
from ai_proxy.api.stream import EventStream, events_as_sse
from ai_proxy.control.measuring import Picture
from ai_proxy.control.usage import usage_of
from ai_proxy.devices import Device, Vendor
from ai_proxy.inventory import host
from ai_proxy.scheduler.ledger import Ledger

EVENT_EXAMPLE: dict[str, Any] = {
    "text/event-stream": {
        "example": 'event: service\ndata: {"type":"service","at":1750000000.0,"service":"chat","state":"ready",'
        '"previous":"loading","reason":"healthy","eviction":null,"for_service":null,'
        '"level":0,"devices":["0"],"vram_mb":9000}\n\n'
    }
}

router = APIRouter(prefix="/api/v1", tags=["Fleet"])


@router.get(
    "/resources",
    response_model=ResourcesOut,
    summary="Show devices and memory",
    description="The GPUs, the host's memory and what else there is of limited supply: what is reserved, measured and "
    "free, for whom, and which processes of others take room.",
)
async def show_resources(plane: PlaneDep) -> ResourcesOut:
    """Devices, memory and other resources."""
    ledger, picture = plane.scheduler.state.ledger, plane.measuring.picture
    read = await asyncio.to_thread(host.memory)
    memory = MemoryOut(
        memory_mb=ledger.memory_mb,
        reserved_mb=ledger.memory_mb - ledger.free_memory_mb,
        total_mb=read.total_mb,
        used_mb=read.used_mb,
        holders={holder: placement.memory_mb for holder, placement in ledger.held.items() if placement.memory_mb},
    )
    devices = [_device(device, ledger, picture) for device in ledger.devices]
    return ResourcesOut(devices=devices, memory=memory, custom=_custom(ledger))


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


def _device(device: Device, ledger: Ledger, picture: Picture | None) -> DeviceOut:
    usage = usage_of(device, ledger, picture)
    read = usage.reading
    holders = {
        holder: HolderOut(reserved_mb=mb, measured_mb=picture.held_mb(holder, device.uuid) if picture else None)
        for holder, mb in usage.reserved_mb.items()
    }
    return DeviceOut(
        id=device.id,
        uuid=device.uuid,
        name=device.name or (read.device.name if read else ""),
        vendor="amd" if device.vendor is Vendor.AMD else "nvidia",
        state="lost" if usage.is_lost else "ok" if read else "unknown",
        vram_mb=device.vram_mb,
        reserved_mb=sum(usage.reserved_mb.values()),
        used_mb=usage.used_mb,
        foreign_mb=usage.foreign_mb,
        headroom_mb=ledger.headroom_mb,
        free_mb=usage.free_mb,
        holders=holders,
        foreign=[
            ForeignOut(pid=it.pid, process=it.name, used_mb=it.used_mb)
            for it in (picture.foreign(device.uuid) if picture else ())
        ],
        utilisation_percent=read.utilisation_percent if read else None,
        temperature_c=read.temperature_c if read else None,
        power_w=read.power_w if read else None,
    )


def _custom(ledger: Ledger) -> dict[str, CustomOut]:
    taken = {holder: dict(placement.custom) for holder, placement in ledger.held.items() if placement.custom}
    return {
        name: CustomOut(
            capacity=capacity,
            reserved=capacity - ledger.free_custom(name),
            holders={holder: amounts[name] for holder, amounts in taken.items() if name in amounts},
        )
        for name, capacity in ledger.capacities.items()
    }
