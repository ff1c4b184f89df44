"""Who decides about a service, as its hands see it, and what they tell of a release that is not complete."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ai_proxy.errors import CannotServe
from ai_proxy.runtimes.base import Instance
from ai_proxy.services.machine import Event


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What a replica's release left behind, though its runtime says that it is gone.

    Attributes:
        held_mb: Memory that is not free, in MiB by the device's UUID; at most what the replica had reserved there.
        words: Who holds it, for people.
    """

    held_mb: Mapping[str, int]
    words: str


class Owner(Protocol):
    """Who decides about a service's replicas; each is told of by its key."""

    def report(
        self,
        service: str,
        event: Event,
        *,
        instance: Instance | None = None,
        failure: CannotServe | None = None,
        leftovers: Leftovers | None = None,
    ) -> None:
        """Take what happened to a replica.

        Args:
            service: The replica's key.
            event: What happened. UNWANTED comes of a replica that could not be put to sleep or woken: it is to stop.
            instance: The handle, where a replica was started or found.
            failure: The cause, of BROKE and of UNWANTED.
            leftovers: What is not free yet, of GONE.
        """
        ...

    def report_unhealthy(self, service: str, failure: CannotServe) -> None:
        """Take that a ready replica no longer answers its health check."""
        ...

    def report_work(self, service: str, *, busy: bool, asked_at: float) -> None:
        """Take what an engine says of itself, asked at a time of the loop's clock."""
        ...

    def quiet_s(self, service: str) -> float:
        """How long no exchange with the replica has moved a byte, in seconds."""
        ...
