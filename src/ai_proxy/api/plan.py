"""The route that thinks a start through without starting anything."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from ai_proxy.api.dependencies import PlaneDep, view_of
from ai_proxy.api.schemas import NOT_FOUND, PlacementOut
from ai_proxy.api.schemas_plan import PlanIn, PlanOut, Verdict, VictimOut
from ai_proxy.devices import Placement
from ai_proxy.scheduler.planner import Evict, Plan, Refuse, Start, Wait
from ai_proxy.services.machine import State

router = APIRouter(prefix="/api/v1", tags=["Fleet"])

RUNNING = frozenset({State.STARTING, State.LOADING, State.READY, State.DRAINING})


def get_consider(plane: PlaneDep) -> Callable[[str], Plan]:
    """What thinks a start through."""
    return plane.scheduler.consider


@router.post(
    "/plan",
    response_model=PlanOut,
    responses=NOT_FOUND,
    summary="What would happen?",
    description="Thinks through what would happen if a service had to start now: where it would run, who would have "
    "to give room for it and what that would cost, or why it would have to wait. Nothing is started or stopped.",
)
async def plan_start(
    wish: PlanIn, plane: PlaneDep, consider: Annotated[Callable[[str], Plan], Depends(get_consider)]
) -> PlanOut:
    """Think a start through."""
    service = view_of(wish.start, plane).id
    state = plane.state_of(service)
    if state in RUNNING:
        return _out(service, "running", f"it is {state}", None)
    return plan_out(service, consider(service))


def plan_out(service: str, plan: Plan) -> PlanOut:
    """A plan as the wire says it."""
    match plan:
        case Start(placement, reason):
            return _out(service, "start", reason, placement)
        case Evict(victims, placement, regret, exact, reason):
            leave = [VictimOut(holder=victim.holder, level=victim.level) for victim in victims]
            return _out(service, "evict", reason, placement, victims=leave, regret=regret, exact=exact)
        case Wait(reason, placement):
            return _out(service, "wait", reason, placement)
        case Refuse(reason):
            return _out(service, "refuse", reason, None)


def _out(service: str, verdict: Verdict, reason: str, placement: Placement | None, **more: Any) -> PlanOut:
    where = None
    if placement is not None:
        where = PlacementOut(
            devices=[device.id for device in placement.devices],
            vram_mb=placement.vram_mb,
            memory_mb=placement.memory_mb,
        )
    plain: dict[str, Any] = {"victims": [], "regret": None, "exact": None}
    return PlanOut(service=service, verdict=verdict, reason=reason, placement=where, **{**plain, **more})
