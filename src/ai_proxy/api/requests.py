"""Routes of requests: those in the house, the story of one that waited, the end of one."""

from typing import Annotated

from fastapi import APIRouter, Path, status

from ai_proxy.api.dependencies import ContextDep, PlaneDep
from ai_proxy.api.problems import Refused
from ai_proxy.api.schemas import Problem, RequestOut
from ai_proxy.api.schemas_scheduling import StepOut, StoryOut
from ai_proxy.control.history import Step, Wait
from ai_proxy.gate import RequestInfo

router = APIRouter(prefix="/api/v1", tags=["Requests"])

RequestId = Annotated[str, Path(description="Its request id.", examples=["5f0c1d6e9a7b4c32"])]


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
            key=request.key,
        )
        for request, granted in plane.scheduler.requests()
    ]


@router.get(
    "/requests/{request_id:path}",
    response_model=StoryOut,
    responses={404: {"model": Problem, "description": "No such request is in the house or remembered."}},
    summary="Explain a request",
    description="Where a request has waited and why: what was decided about its service meanwhile, who had to leave "
    "for it, how it ended. The last thousand requests that had to wait are remembered; of those that were served at "
    "once, only the ones in the house are known. Of several with one id, the latest is told.",
)
async def explain_request(request_id: RequestId, plane: PlaneDep, context: ContextDep) -> StoryOut:
    """Explain a request."""
    inside = next((it for it in plane.scheduler.requests() if it[0].id == request_id), None)
    waits = plane.history.waits(request_id)
    if waits:
        return _story_out(waits[-1], inside, context.clock())
    if inside is None:
        raise Refused(404, "request_not_found", f"no request {request_id[:128]!r} is in the house or remembered")
    request, granted = inside
    return StoryOut(
        id=request.id,
        service=request.service,
        state="running" if granted else "waiting",
        waited_s=0.0 if granted else max(0.0, context.clock() - request.since),
        outcome="admitted" if granted else None,
        timeline=[],
    )


@router.delete(
    "/requests/{request_id:path}",
    status_code=status.HTTP_204_NO_CONTENT,
    response_model=None,
    responses={404: {"model": Problem, "description": "No such request is in the house."}},
    summary="Cancel a request",
    description="Ends a request: its client's connection and its engine's are closed.",
)
async def cancel_request(request_id: RequestId, plane: PlaneDep) -> None:
    """Cancel a request."""
    found = [request for request, _ in plane.scheduler.requests() if request.id == request_id]
    if not found:
        raise Refused(404, "request_not_found", f"no request {request_id[:128]!r} waits or runs")
    for request in found:
        request.cancel()


def _story_out(wait: Wait, inside: tuple[RequestInfo, bool] | None, now: float) -> StoryOut:
    arrived = StepOut(at=wait.since, after_s=0.0, kind="arrived", service=wait.service, text=_arrival(wait))
    timeline = [arrived, *(_step_out(step, wait) for step in wait.steps)]
    if wait.answered_at is not None:
        at, text = wait.answered_at, f"{wait.outcome} after {wait.waited_s:.1f} s of waiting"
        timeline.append(StepOut(at=at, after_s=at - wait.since, kind="answered", service=wait.service, text=text))
    waited_s = wait.waited_s
    if waited_s is None:
        waited_s = 0.0 if inside is None else max(0.0, now - inside[0].since)
    return StoryOut(
        id=wait.request,
        service=wait.service,
        state="waiting" if wait.outcome is None else "ended" if inside is None else "running",
        waited_s=waited_s,
        outcome=wait.outcome,
        timeline=timeline,
    )


def _arrival(wait: Wait) -> str:
    """What the request found when it came."""
    if wait.before is None:
        return f"came; {wait.service} was stopped"
    return f"came {wait.since - wait.before.at:.1f} s after {wait.before.service} went {wait.before.text}"


def _step_out(step: Step, wait: Wait) -> StepOut:
    return StepOut(at=step.at, after_s=step.at - wait.since, kind=step.kind.value, service=step.service, text=step.text)
