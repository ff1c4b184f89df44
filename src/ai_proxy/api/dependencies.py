"""What the routes are given: the plane and its parts, by FastAPI's `Depends`, so that a test can hand in others."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Path, Request

from ai_proxy.api.problems import Refused
from ai_proxy.control.plane import ControlPlane, UnknownService, View


@dataclass(frozen=True, slots=True)
class Context:
    """All that the management plane acts on.

    Attributes:
        plane: The control plane.
        clock: The loop's clock, seconds.
        exposition: Writes the metrics in Prometheus' format.
        closing: Is set when the proxy begins to shut down, so that answers that go on end.
    """

    plane: ControlPlane
    clock: Callable[[], float]
    exposition: Callable[[], Awaitable[bytes]]
    closing: asyncio.Event


def get_context(request: Request) -> Context:
    """The context that the application was created with."""
    return cast("Context", request.app.state.context)


def get_plane(context: Annotated[Context, Depends(get_context)]) -> ControlPlane:
    """The control plane."""
    return context.plane


ServiceId = Annotated[str, Path(description="Id of the service in the config.", examples=["chat"])]


def get_view(service_id: ServiceId, plane: Annotated[ControlPlane, Depends(get_plane)]) -> View:
    """The service that the path names."""
    return view_of(service_id, plane)


def view_of(service: str, plane: ControlPlane) -> View:
    """A service as it is now.

    Raises:
        Refused: 404, there is none of this id (any more).
    """
    try:
        return plane.view(service)
    except UnknownService as error:
        raise Refused(404, "service_not_found", str(error)) from None


ContextDep = Annotated[Context, Depends(get_context)]
PlaneDep = Annotated[ControlPlane, Depends(get_plane)]
ViewDep = Annotated[View, Depends(get_view)]
