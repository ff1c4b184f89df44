"""What the tests of a service's hands share: an owner that notes what it is told, a service under it."""

import asyncio
from typing import Any

from ai_proxy.config.models import ServiceConfig
from ai_proxy.devices import Placement
from ai_proxy.errors import CannotServe, StartFailed
from ai_proxy.runtimes.base import Instance, Runtime
from ai_proxy.services.machine import Action, Event
from ai_proxy.services.owner import Leftovers
from ai_proxy.services.probe import Probe
from ai_proxy.services.release import Released, nothing_to_ask
from ai_proxy.services.service import Service
from tests.fakes.clock import pause
from tests.fakes.probe import FakeProbe
from tests.fakes.runtime import FakeRuntime

PLACE = Placement()
FAKE: dict[str, Any] = {"command": "engine", "type": "comfyui", "stop_grace_period": 1}


class RecordingOwner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[tuple[Event, Instance | None, CannotServe | None]] = asyncio.Queue()
        self.keys: list[str] = []
        self.leftovers: Leftovers | None = None
        self.sick: list[CannotServe] = []
        self.work: list[bool] = []
        self.quiet = 1000.0

    def report(
        self,
        service: str,
        event: Event,
        *,
        instance: Instance | None = None,
        failure: CannotServe | None = None,
        leftovers: Leftovers | None = None,
    ) -> None:
        self.keys.append(service)
        self.leftovers = leftovers
        self.reports.put_nowait((event, instance, failure))

    def report_unhealthy(self, service: str, failure: CannotServe) -> None:
        self.sick.append(failure)

    def report_work(self, service: str, *, busy: bool, asked_at: float) -> None:
        self.work.append(busy)

    def quiet_s(self, service: str) -> float:
        return self.quiet

    async def next(self, within_s: float = 20) -> Event:
        return (await self.next_whole(within_s))[0]

    async def next_whole(self, within_s: float = 20) -> tuple[Event, Instance | None, CannotServe | None]:
        async with asyncio.timeout(within_s):
            return await self.reports.get()

    async def failure(self, within_s: float = 20) -> StartFailed:
        event, _, failure = await self.next_whole(within_s)
        assert event is Event.BROKE
        assert isinstance(failure, StartFailed)
        return failure


def service_of(
    owner: RecordingOwner,
    runtime: Runtime,
    probe: Probe,
    *,
    replica: int = 0,
    released: Released = nothing_to_ask,
    **keys: Any,
) -> Service:
    return Service(
        "small",
        ServiceConfig.model_validate(keys or FAKE),
        replica=replica,
        released=released,
        runtime=runtime,
        probe=probe,
        owner=owner,
        progress=lambda service, text: None,
        drain_timeout_s=20.0,
    )


async def watched(
    owner: RecordingOwner, runtime: FakeRuntime, probe: FakeProbe, place: Placement = PLACE, **keys: Any
) -> Service:
    """A service whose replica is ready and watched."""
    service = service_of(owner, runtime, probe, **keys)
    for action in (Action.LAUNCH, Action.PROBE):
        service.run(action, place)
        await owner.next()
    service.run(Action.WATCH, PLACE)
    await pause()
    return service
