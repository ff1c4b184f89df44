"""The route of a service's output: its last lines, or all that come.

What a replica wrote is its runtime's to keep; nothing is kept here. Reading it has a deadline, following it has none.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, Response

from ai_proxy.api.dependencies import ContextDep, ViewDep
from ai_proxy.api.problems import Refused
from ai_proxy.api.schemas import NOT_FOUND, Problem
from ai_proxy.api.stream import EventStream, lines_as_sse
from ai_proxy.errors import CannotServe, StartFailed

LOG_DEADLINE_S = 10.0

LOG_EXAMPLES: dict[str, Any] = {
    "text/plain": {"example": "main: server is listening on http://0.0.0.0:8080\n"},
    "text/event-stream": {"example": 'event: line\ndata: {"text":"main: model loaded"}\n\nevent: end\ndata: {}\n\n'},
}
LOGS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Lines, oldest first.", "content": LOG_EXAMPLES},
    **NOT_FOUND,
    409: {"model": Problem, "description": "It has no replica to read from."},
    503: {"model": Problem, "description": "Its runtime does not answer."},
    504: {"model": Problem, "description": "Its output could not be read in time."},
}

router = APIRouter(prefix="/api/v1", tags=["Services"])


@router.get("/services/{service_id}/logs", response_model=None, responses=LOGS, include_in_schema=False)
@router.get(
    "/service/{service_id}/logs",
    response_class=Response,
    response_model=None,
    responses=LOGS,
    summary="Read a service's output",
    description="The last lines of the replica's output as plain text; with `follow`, as server-sent events (`line`, "
    "and `end` once the replica has ended). Of a failed service: what its engine said last.",
)
async def service_logs(
    view: ViewDep,
    context: ContextDep,
    *,
    follow: Annotated[bool, Query(description="Go on with new lines.", examples=[True])] = False,
    tail: Annotated[int, Query(ge=1, le=100_000, description="At most so many old lines.", examples=[200])] = 200,
) -> Response:
    """The output of a service."""
    old = context.plane.logs(view.id, follow=False)
    if old is None:
        failure = view.state.failure
        if isinstance(failure, StartFailed) and failure.log_tail and not follow:
            return _as_text(failure.log_tail[-tail:])
        why = f" ({failure.message})" if failure is not None else ""
        raise Refused(409, "no_replica", f"{view.id} has no replica to read from: it is {view.state.state}{why}")
    kept, count = await _last(old, tail)
    new = context.plane.logs(view.id, follow=True) if follow else None
    if new is not None:
        return EventStream(lines_as_sse(new, skip=count - len(kept)), context.closing)
    return _as_text(kept)


def _as_text(lines: Sequence[str]) -> PlainTextResponse:
    return PlainTextResponse("".join(f"{line}\n" for line in lines))


async def _last(lines: AsyncIterator[str], tail: int) -> tuple[deque[str], int]:
    """The last lines, and how many there are in all."""
    kept: deque[str] = deque(maxlen=tail)
    count = 0
    try:
        async with asyncio.timeout(LOG_DEADLINE_S), aclosing(cast("AsyncGenerator[str]", lines)) as source:
            async for line in source:
                kept.append(line)
                count += 1
    except TimeoutError:
        raise Refused(504, "too_slow", f"its output could not be read within {LOG_DEADLINE_S:g} s") from None
    except CannotServe as error:
        raise Refused(503, error.code, error.message) from error
    return kept, count
