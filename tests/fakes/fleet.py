"""A control plane over two programmable runtimes, whose replicas really answer their health checks.

async with Fleet("services: {a: {image: x}, b: {command: serve}}") as fleet:
    fleet.plane.boot()
    fleet.docker, fleet.process      the runtimes (tests/fakes/runtime.py)
    await fleet.until("a", "ready")
    fleet.edit("services: {…}")      what the next reload reads
    fleet.events                     what the bus carried
    fleet.found.show(…), fleet.monitor.start()    what is read of the GPUs (tests/fakes/gpus.py)
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from ai_proxy.config.diff import spec_hash
from ai_proxy.config.faults import ConfigError, Fault
from ai_proxy.config.models import Config, RuntimeKind
from ai_proxy.control.learned import Learned
from ai_proxy.control.plane import ControlPlane
from ai_proxy.devices import Device, Placement
from ai_proxy.events import Event, EventBus, ServiceChanged
from ai_proxy.gate import RequestInfo
from ai_proxy.inventory.monitor import Monitor
from ai_proxy.runtimes.base import Instance
from ai_proxy.runtimes.external import ExternalRuntime
from ai_proxy.scheduler.grants import OpenGrant
from ai_proxy.scheduler.ledger import Ledger
from ai_proxy.scheduler.scheduler import Scheduler
from ai_proxy.scheduler.state import SchedulerState
from ai_proxy.services.probe import Probe
from tests.fakes.gpus import FakeGpus
from tests.fakes.listening import stop_listening
from tests.fakes.runtime import FakeRuntime

GUARD_S = 20


def config_of(text: str) -> Config:
    """A config from YAML, without what only `load` does."""
    return Config.model_validate(yaml.safe_load(text))


class Fleet:
    """Everything of a control plane; `boot` is the test's to call.

    Args:
        config: YAML of the config.
        left: Replicas that a former life left in the docker runtime, as (service, YAML of the config it was from).
        gpus: The GPUs of the machine.
    """

    def __init__(self, config: str, *, left: dict[str, str] | None = None, gpus: tuple[Device, ...] = ()) -> None:
        self._config = config
        self._left = left or {}
        self.gpus = gpus
        self.learned = Learned(Path("never opened"))
        self._next: Config | ConfigError | None = None
        self.events: list[Event] = []
        self.configs: list[Config] = []
        self.load: Callable[[], Config] | None = None

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(_healthy, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        left = [
            Instance(
                f"left-{service}", service, "127.0.0.1", port, Placement(), spec_hash(config_of(text).services[service])
            )
            for service, text in self._left.items()
        ]
        self.found = FakeGpus()
        self.monitor = Monitor((self.found,), every_s=0.005)
        self.docker, self.process = FakeRuntime(left), FakeRuntime()
        config = config_of(self._config)
        for runtime in (self.docker, self.process):
            for service in ("a", "b", "c"):
                runtime.serve(service, "127.0.0.1", port)
        self.bus = EventBus()
        self.bus.listen(self.events.append)
        self.probe = Probe()
        self.scheduler = Scheduler(
            SchedulerState(Ledger(self.gpus, 64_000)),
            self.bus,
            clock=asyncio.get_running_loop().time,
            wall_clock=time.time,
            on_gone=lambda _: None,
            quiet=lambda _: 0.0,
        )
        self.plane = ControlPlane(
            config,
            load=self._load,
            scheduler=self.scheduler,
            runtimes={
                RuntimeKind.DOCKER: lambda: self.docker,
                RuntimeKind.PROCESS: lambda: self.process,
                RuntimeKind.EXTERNAL: ExternalRuntime,
            },
            probe=self.probe,
            devices=self.gpus,
            monitor=self.monitor,
            learned=self.learned,
            bus=self.bus,
            clock=asyncio.get_running_loop().time,
            wall_clock=time.time,
            on_config=self.configs.append,
            ask_again_s=0.01,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for runtime in (self.docker, self.process):
            for service in ("a", "b", "c"):
                runtime.release(service)
                runtime.exit(service)
        # A replica that ends closes its port; these share one.
        await stop_listening(self.server)
        await self.plane.aclose()
        await self.monitor.aclose()
        await self.probe.aclose()
        await self.server.wait_closed()

    def edit(self, text: str) -> None:
        """Write another config file."""
        self._next = config_of(text)

    def spoil(self) -> None:
        """Write a faulty config file."""
        self._next = ConfigError([Fault("ai-proxy.yaml", 3, "services.a.port", "not a number", "write 8080")])

    def _load(self) -> Config:
        if self.load is not None:
            return self.load()
        if isinstance(self._next, ConfigError):
            raise self._next
        return self._next or self.plane.config

    async def grant(self, service: str, *, cancel: Callable[[], None] = lambda: None) -> OpenGrant:
        """Have a request admitted."""
        now = asyncio.get_running_loop().time()
        async with asyncio.timeout(GUARD_S):
            return await self.scheduler.admit(RequestInfo(f"for-{service}", service, now, cancel, GUARD_S))

    async def until(self, service: str, state: str) -> None:
        """Wait until a service is in a state."""
        async with asyncio.timeout(GUARD_S):
            subscription = self.bus.open()
            while (replica := self.scheduler.find(service)) is None or replica.state != state:
                await subscription.next()
            self.bus.close(subscription)

    async def until_gone(self, service: str) -> None:
        """Wait until a removed service is forgotten."""
        async with asyncio.timeout(GUARD_S):
            while self.scheduler.find(service) is not None:
                await asyncio.sleep(0)

    def moves(self, service: str) -> list[str]:
        """The states that a service went through."""
        return [it.state for it in self.events if isinstance(it, ServiceChanged) and it.service == service]

    def seen(self, kind: type[Event]) -> list[Any]:
        """All events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


async def _healthy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    writer.close()
