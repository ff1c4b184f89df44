"""What the routes are given: the plane and its parts, by FastAPI's `Depends`, so that a test can hand in others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, HTTPException, Request, status

from ai_proxy.control.plane import ControlPlane, UnknownService, View


@dataclass(frozen=True, slots=True)
class Context:
    """All that the management plane acts on.

    Attributes:
        plane: The control plane.
        clock: The loop's clock, seconds.
        exposition: Writes the metrics in Prometheus' format.
        closing: Tells whether the proxy is shutting down, so that endless answers end.
    """

    plane: ControlPlane
    clock: Callable[[], float]
    exposition: Callable[[], bytes]
    closing: Callable[[], bool]


def get_context(request: Request) -> Context:
    """The context that the application was created with."""
    return cast("Context", request.app.state.context)


def get_plane(context: Annotated[Context, Depends(get_context)]) -> ControlPlane:
    """The control plane."""
    return context.plane


def get_view(service_id: str, plane: Annotated[ControlPlane, Depends(get_plane)]) -> View:
    """The service that the path names.

    Raises:
        HTTPException: 404, there is none of this id.
    """
    try:
        return plane.view(service_id)
    except UnknownService as error:
        raise HTTPException(status.HTTP_404_NOT_FOUND, str(error)) from None


ContextDep = Annotated[Context, Depends(get_context)]
PlaneDep = Annotated[ControlPlane, Depends(get_plane)]
ViewDep = Annotated[View, Depends(get_view)]
