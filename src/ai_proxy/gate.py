"""The data plane's only door to the fleet.

`proxy` sees services through `Gate` and nothing else: it asks for a grant on a ready replica, uses its origin, and
closes it. Who implements the gate (the scheduler in one process, a link to it from another) is not known here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ai_proxy.transport.origin import Origin


@dataclass(slots=True)
class RequestInfo:
    """A request as the control plane sees it.

    Attributes:
        id: The request id that the client and the engine are told.
        service: Id of the service it was routed to.
        since: Loop time at which it arrived, seconds.
        cancel: Ends the request: the client's connection and the engine's are closed.
        max_wait_s: How long it may wait for its service; None for the service's own limit.
        may_swap: Its service may be started, and others be made to leave, for its sake.
        affinity: What it has in common with requests that should go to the same replica; None for nothing.
        priority: Rank of its class while it waits; None: its service's.
        key: Name of its key; None where none was needed.
    """

    id: str
    service: str
    since: float
    cancel: Callable[[], None]
    max_wait_s: float | None = None
    may_swap: bool = True
    affinity: bytes | None = None
    priority: int | None = None
    key: str | None = None


class Grant(Protocol):
    """The right to send one request to one ready replica; while it is open the replica is busy."""

    @property
    def origin(self) -> Origin:
        """Where the replica answers."""
        ...

    @property
    def base_path(self) -> bytes:
        """What goes before every request path, without a trailing slash; mostly empty."""
        ...

    @property
    def start_s(self) -> float:
        """For how long its replica was being started, or woken up, while the request waited; in seconds."""
        ...

    def renew(self) -> bool:
        """Take the right again after it was given back, on the same replica and past any limit.

        Returns:
            Whether it is open now; not on a replica that takes nothing new, or is gone.
        """
        ...

    def close(self) -> None:
        """Give the right back. Synchronous, idempotent, never raises."""
        ...


class Gate(Protocol):
    """Admits requests to services."""

    def try_admit(self, request: RequestInfo) -> Grant | None:
        """Grant at once if the service is ready and takes more; else None. Never waits."""
        ...

    async def admit(self, request: RequestInfo) -> Grant:
        """Grant as soon as the service is ready, starting it if need be.

        Cancelling the wait leaves the queue.

        Raises:
            CannotServe: QueueFull, NoRoom, NotReady, TooLate, StartFailed, RuntimeUnavailable, Draining or WaitTimeout,
                with the cause.
        """
        ...
