"""Routes of leases: room on the GPUs for programs that are not the proxy's.

A lease is taken, renewed by heartbeats and given back; one that is not renewed ends by itself. What can be given
later is 503, what this machine can never give 409.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, status

from ai_proxy.api.dependencies import Context, ContextDep, get_plane
from ai_proxy.api.problems import Refused
from ai_proxy.api.schemas import Problem
from ai_proxy.api.schemas_scheduling import LeaseIn, LeaseOut, RenewIn
from ai_proxy.control.leases import Lease, Leases, UnknownDevice, UnknownLease, Wish
from ai_proxy.control.plane import ControlPlane
from ai_proxy.errors import CannotServe, NoRoom
from ai_proxy.runtimes.process.runtime import device_environment

router = APIRouter(prefix="/api/v1", tags=["Leases"])

GONE: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There is no such lease any more."}}
TAKING: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "This machine has no such GPU."},
    409: {"model": Problem, "description": "It would not fit on the empty machine either."},
    503: {"model": Problem, "description": "No room in time; the detail says who holds it. Or the proxy ends."},
}


def get_leases(plane: Annotated[ControlPlane, Depends(get_plane)]) -> Leases:
    """The leases."""
    return plane.leases


LeasesDep = Annotated[Leases, Depends(get_leases)]


def get_lease(
    lease_id: Annotated[str, Path(description="Id of the lease.", examples=["training-9c1f03ab"])], leases: LeasesDep
) -> Lease:
    """The lease that the path names.

    Raises:
        Refused: 404, there is none of this id any more.
    """
    try:
        return leases.get(lease_id)
    except UnknownLease as error:
        raise Refused(404, "lease_not_found", str(error)) from None


LeaseDep = Annotated[Lease, Depends(get_lease)]


@router.post(
    "/leases",
    response_model=LeaseOut,
    status_code=status.HTTP_201_CREATED,
    responses=TAKING,
    summary="Take a lease",
    description="Holds room on the GPUs for another program. Idle services make room at once, busy ones once their "
    "requests are done; pinned ones never do. Leases do not outlive the proxy: when a heartbeat is answered 404, take "
    "another.",
)
async def take_lease(wish: LeaseIn, context: ContextDep, leases: LeasesDep) -> LeaseOut:
    """Take a lease."""
    named = (wish.device,) if isinstance(wish.device, str) else tuple(wish.device)
    wanted = Wish(
        wish.vram_mb,
        () if wish.device == "any" else named,
        gpus=wish.gpus,
        ttl_s=wish.ttl_s,
        wait_s=wish.wait_s,
        name=wish.name,
        pids=tuple(wish.pids),
    )
    try:
        return lease_out(await _unless_closing(leases, wanted, context))
    except UnknownDevice as error:
        raise Refused(404, "device_not_found", str(error)) from None
    except NoRoom as error:
        raise Refused(409, error.code, error.message) from None
    except CannotServe as error:
        raise Refused(503, error.code, error.message) from None


@router.get(
    "/leases",
    response_model=list[LeaseOut],
    summary="List leases",
    description="All leases that hold room, the oldest first.",
)
async def list_leases(leases: LeasesDep) -> list[LeaseOut]:
    """All leases."""
    return [lease_out(lease) for lease in leases.all()]


@router.get(
    "/leases/{lease_id}",
    response_model=LeaseOut,
    responses=GONE,
    summary="Show a lease",
    description="One lease.",
)
async def show_lease(lease: LeaseDep) -> LeaseOut:
    """One lease."""
    return lease_out(lease)


@router.put(
    "/leases/{lease_id}",
    response_model=LeaseOut,
    responses=GONE,
    summary="Renew a lease",
    description="A heartbeat: the lease lasts for its time from now on. Send one well within that time.",
)
async def renew_lease(lease: LeaseDep, leases: LeasesDep, changed: RenewIn | None = None) -> LeaseOut:
    """Renew a lease."""
    pids = None if changed is None or changed.pids is None else tuple(changed.pids)
    return lease_out(leases.renew(lease.id, ttl_s=changed.ttl_s if changed is not None else None, pids=pids))


@router.delete(
    "/leases/{lease_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    response_model=None,
    responses=GONE,
    summary="Give a lease back",
    description="Ends a lease; its room is free for services again.",
)
async def end_lease(lease: LeaseDep, leases: LeasesDep) -> None:
    """Give a lease back."""
    leases.end(lease.id)


async def _unless_closing(leases: Leases, wanted: Wish, context: Context) -> Lease:
    """Wait for a lease, but not beyond the end of the proxy: that waits for its answers."""
    taking = asyncio.ensure_future(leases.take(wanted))
    closing = asyncio.ensure_future(context.closing.wait())
    try:
        await asyncio.wait({taking, closing}, return_when=asyncio.FIRST_COMPLETED)
        if not taking.done():
            raise Refused(503, "draining", "the proxy is shutting down")
        return taking.result()
    finally:
        taking.cancel()
        closing.cancel()
        await asyncio.gather(taking, closing, return_exceptions=True)


def lease_out(lease: Lease) -> LeaseOut:
    """A lease as the wire says it."""
    return LeaseOut(
        id=lease.id,
        name=lease.name,
        holder=lease.key,
        devices=[device.id for device in lease.placement.devices],
        vram_mb=lease.placement.vram_mb,
        environment=device_environment(lease.placement),
        pids=list(lease.pids),
        taken_at=lease.taken_at,
        ttl_s=lease.ttl_s,
        expires_at=lease.expires_at,
    )
