"""A scheduler with everything around it: services, a fake runtime, a fake probe, and clients that ask for grants."""

import asyncio
from collections import Counter
from types import TracebackType
from typing import Any, Self

import pytest

from ai_proxy.config.models import ServiceConfig
from ai_proxy.errors import CannotServe
from ai_proxy.events import Event, EventBus, ServiceChanged
from ai_proxy.gate import RequestInfo
from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler.grants import OpenGrant
from ai_proxy.scheduler.ledger import Ledger
from ai_proxy.scheduler.scheduler import Scheduler
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.scheduler.state import SchedulerState, Settings
from ai_proxy.services.machine import State
from ai_proxy.services.service import Service
from ai_proxy.transport.origin import Origin
from tests.fakes.probe import FakeProbe
from tests.fakes.runtime import FakeRuntime
from tests.scheduler.fleets import gpus

CONFIG = ServiceConfig.model_validate({"command": "engine", "type": "comfyui", "stop_grace_period": 1})
DRAIN_S = 20.0


class WatchedRuntime(FakeRuntime):
    """A runtime that looks whether anybody is still served by what it is told to stop."""

    house: "House"

    async def stop(self, instance: Instance, grace_s: float) -> None:
        if not self.house.may_cut and (served := self.house.open_on(instance.service)):
            self.house.faults.append(f"{instance.service} is stopped while it serves {served}")
        await super().stop(instance, grace_s)


class House:
    """Services on one GPU of 10,000 MB, each of which needs most of it unless it says otherwise.

    Attributes:
        gone: Origins that were said to lead nowhere any more.
        quiet_s: For how long no byte has moved, on any exchange.
        may_cut: A stop may end open requests: something failed, or the proxy ends.
        cut: Requests that were told to end, by their ids.
        faults: Stops that ended open requests though they might not.
    """

    def __init__(self, *specs: ServiceSpec, gpus_mb: tuple[int, ...] = (10_000,), **settings: Any) -> None:
        loop = asyncio.get_running_loop()
        self.runtime = WatchedRuntime()
        self.runtime.house = self
        self.probe = FakeProbe()
        self.bus = EventBus()
        self.events: list[Event] = []
        self.bus.listen(self.events.append)
        self.gone: list[Origin] = []
        self.quiet_s = 1000.0
        self.may_cut = False
        self.faults: list[str] = []
        self.grants: list[OpenGrant] = []
        self.told: list[tuple[str, str]] = []
        self.cut: list[str] = []
        self._count = 0
        self.scheduler = Scheduler(
            SchedulerState(Ledger(gpus(*gpus_mb), 0), Settings(**settings)),
            self.bus,
            clock=loop.time,
            wall_clock=loop.time,
            on_gone=self._lost,
            quiet=lambda _: self.quiet_s,
        )
        for spec in specs:
            self.add(spec)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Whatever happened, everything ends and nothing is left."""
        self.may_cut = True
        for grant in self.grants:
            grant.close()
        await self.scheduler.shut_down()
        if error is None:
            self.check_nothing_leaked()

    def add(self, spec: ServiceSpec, config: ServiceConfig = CONFIG) -> None:
        """Take a service under control."""

        def make(number: int) -> Service:
            return Service(
                spec.id,
                config,
                runtime=self.runtime,
                probe=self.probe,
                owner=self.scheduler,
                progress=lambda service, text: self.told.append((service, text)),
                drain_timeout_s=DRAIN_S,
                replica=number,
            )

        self.scheduler.add(spec, make)

    # Clients

    def request(self, service: str, max_wait_s: float | None = None) -> RequestInfo:
        self._count += 1
        name = f"r{self._count}"
        since = asyncio.get_running_loop().time()
        return RequestInfo(name, service, since, lambda: self._cancel(name), max_wait_s)

    def ask(self, service: str) -> OpenGrant | None:
        """A grant at once, or none; one on a replica that was told to stop is a fault."""
        grant = self.scheduler.try_admit(self.request(service))
        return None if grant is None else self._taken(grant)

    async def admit(self, service: str, max_wait_s: float | None = None) -> OpenGrant:
        """A grant as soon as there is one."""
        return self._taken(await self.scheduler.admit(self.request(service, max_wait_s)))

    def later(self, service: str, max_wait_s: float | None = None) -> asyncio.Task[OpenGrant]:
        """A client that waits for its grant."""
        return asyncio.create_task(self.admit(service, max_wait_s))

    def _cancel(self, request: str) -> None:
        """What the data plane does with a request that has to end."""
        self.cut.append(request)
        for grant in self.grants:
            if grant.request.id == request:
                grant.close()

    def _lost(self, origin: Origin) -> None:
        self.gone.append(origin)

    def _taken(self, grant: OpenGrant) -> OpenGrant:
        assert grant.origin not in self.gone, f"{grant!r} leads to a replica that was told to stop"
        self.grants.append(grant)
        return grant

    def open_on(self, service: str) -> list[RequestInfo]:
        """The requests that hold a grant on a service."""
        return [info for info, granted in self.scheduler.requests() if granted and info.service == service]

    # What is to be seen

    def state(self, service: str) -> State | None:
        found = self.scheduler.find(service)
        return None if found is None else found.state

    def moves(self, service: str) -> list[str]:
        """The states that a service went through."""
        return [event.state for event in self.events if isinstance(event, ServiceChanged) and event.service == service]

    async def until(self, service: str, state: State | None) -> None:
        """Wait until a service is in a state; on virtual time this costs none."""
        async with asyncio.timeout(3600):
            while self.state(service) is not state:
                await asyncio.sleep(0.05)

    def check_nothing_leaked(self) -> None:
        """No request was cut, no grant is open, nobody waits, nothing is reserved, nothing runs."""
        scheduler = self.scheduler
        assert self.faults == []
        assert list(scheduler.requests()) == []
        assert (scheduler.state.waiting, scheduler.state.ready, scheduler.state.ledger.held) == (0, {}, {})
        assert self.runtime.running() == []
        starts, ends = (
            Counter(e.split()[1] for e in self.runtime.journal if e.startswith(w)) for w in ("started", "exit")
        )
        assert starts == ends


async def error_of(waiting: asyncio.Task[OpenGrant]) -> CannotServe:
    with pytest.raises(CannotServe) as caught:
        await waiting
    return caught.value
