"""The control plane of one system: services come to life, change and end through this object.

It turns a config into services under the scheduler's control, applies a changed config as a difference, and is what
the management API and the signals act on. It decides nothing about rooms and waiters: that is the scheduler's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from ai_proxy.config.diff import Change, diff
from ai_proxy.config.faults import ConfigError
from ai_proxy.config.models import Config, OnExit, RuntimeKind, ServiceConfig
from ai_proxy.control.adoption import Adoption
from ai_proxy.devices import Device
from ai_proxy.events import ConfigApplied, ConfigRefused, EventBus, Progress
from ai_proxy.runtimes.base import Runtime
from ai_proxy.scheduler.scheduler import Scheduler
from ai_proxy.scheduler.spec import spec_of
from ai_proxy.scheduler.state import Replica
from ai_proxy.services.machine import State
from ai_proxy.services.probe import Probe
from ai_proxy.services.service import Service

STOP_DEADLINE_S = 90.0


class UnknownService(Exception):
    """No service of the config has this id."""

    def __init__(self, service: str) -> None:
        super().__init__(f"no service {service!r} in the config")
        self.service = service


@dataclass(frozen=True, slots=True)
class View:
    """A service as an operator sees it; `replica` is read at once and not kept.

    Attributes:
        id: The service.
        config: Its settings.
        replica: Its state, life and queue.
        doing: What a start is doing right now, for people.
    """

    id: str
    config: ServiceConfig
    replica: Replica
    doing: str


class ControlPlane:
    """Holds the config in force and the services that come of it.

    Args:
        config: The config to start with.
        load: Reads the config file anew; raises ConfigError.
        scheduler: Owns the fleet's state.
        runtimes: Makes the driver of a kind when it is first needed.
        probe: Asks replicas for their health.
        devices: The GPUs of this machine.
        bus: Is told of progress and reloads.
        wall_clock: Unix seconds, for events.
        on_config: Is told each config that comes into force after the first.
    """

    def __init__(
        self,
        config: Config,
        *,
        load: Callable[[], Config],
        scheduler: Scheduler,
        runtimes: Mapping[RuntimeKind, Callable[[], Runtime]],
        probe: Probe,
        devices: tuple[Device, ...],
        bus: EventBus,
        wall_clock: Callable[[], float],
        on_config: Callable[[Config], None],
    ) -> None:
        self.config = config
        self.bus = bus
        self.scheduler = scheduler
        self.devices = devices

        self._load = load
        self._factories = runtimes
        self._probe = probe
        self._wall_clock = wall_clock
        self._on_config = on_config

        self._runtimes: dict[RuntimeKind, Runtime] = {}
        self._adopting: dict[RuntimeKind, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<ControlPlane {len(self.config.services)} services, runtimes {', '.join(self._runtimes) or 'none'}>"

    # Life

    def boot(self) -> None:
        """Take all services under control, adopt what runs, start what is to be preloaded."""
        for service, config in self.config.services.items():
            self._add(service, config)

    async def aclose(self) -> None:
        """End every replica that is not to be kept, then release what the runtimes hold."""
        for task in self._adopting.values():
            task.cancel()
        await asyncio.gather(*self._adopting.values(), return_exceptions=True)
        try:
            async with asyncio.timeout(STOP_DEADLINE_S):
                await self.scheduler.shut_down(self._kept())
        finally:
            await self.scheduler.aclose()
            for runtime in self._runtimes.values():
                await runtime.aclose()

    def _kept(self) -> list[str]:
        """Only containers can outlive the proxy."""
        if self.config.server.on_exit is OnExit.STOP:
            return []
        return [id_ for id_, config in self.config.services.items() if config.kind is RuntimeKind.DOCKER]

    # What operators do

    def start(self, service: str) -> None:
        """Have a service run; idempotent.

        Raises:
            UnknownService: The config has none of this id.
        """
        self._known(service)
        self.scheduler.start(service)

    def stop(self, service: str) -> None:
        """Have a service stop once its open requests are done; idempotent.

        Raises:
            UnknownService: The config has none of this id.
        """
        self._known(service)
        self.scheduler.stop(service, "stopped by an operator")

    def restart(self, service: str) -> None:
        """Have a service stop once its open requests are done, and start again.

        Raises:
            UnknownService: The config has none of this id.
        """
        self._known(service)
        self.scheduler.stop(service, "restarted by an operator", restart=True)

    async def settled(self, service: str) -> None:
        """Wait until a service has come to rest; the caller sets the deadline."""
        await self.scheduler.settled(service)

    def views(self) -> list[View]:
        """All services, in the config's order."""
        return [view for service in self.config.services if (view := self._view(service)) is not None]

    def view(self, service: str) -> View:
        """One service.

        Raises:
            UnknownService: The config has none of this id.
        """
        view = self._view(service)
        if view is None:
            raise UnknownService(service)
        return view

    def logs(self, service: str, *, follow: bool) -> AsyncIterator[str] | None:
        """The output of a service's replica, line by line; None while it has none.

        Raises:
            UnknownService: The config has none of this id.
        """
        self._known(service)
        hands = self.scheduler.service(service)
        return None if hands is None else hands.logs(follow=follow)

    def state_of(self, service: str) -> State:
        """Where a service's replica is in its life; STOPPED for one that is not known."""
        replica = self.scheduler.replica(service)
        return State.STOPPED if replica is None else replica.state

    # Reload

    async def reload(self) -> Change:
        """Read the config file again and apply what changed.

        Raises:
            ConfigError: It is at fault; the config in force stays.
        """
        try:
            new = await asyncio.to_thread(self._load)
        except ConfigError as error:
            self.bus.publish(ConfigRefused(self._wall_clock(), str(error)))
            raise
        return self.apply(new)

    def apply(self, new: Config) -> Change:
        """Bring a config into force; live state is kept by service id."""
        change = diff(self.config, new)
        if not change:
            return change
        self.config = new
        for service in change.removed:
            self.scheduler.remove(service)
        for service in (*change.restarts, *change.live):
            self._configure(service, new.services[service], replace=service in change.restarts)
        for service in change.added:
            # One that was removed a moment ago may still be draining: it goes on under its new settings.
            if self.scheduler.service(service) is None:
                self._add(service, new.services[service])
            else:
                self._configure(service, new.services[service], replace=True)
        self._on_config(new)
        self.bus.publish(ConfigApplied(self._wall_clock(), str(change)))
        return change

    # Services

    def _add(self, service: str, config: ServiceConfig) -> None:
        runtime = self._runtime(config.kind)
        hands = Service(
            service,
            config,
            runtime=runtime,
            probe=self._probe,
            owner=self.scheduler,
            progress=self._progress,
            drain_timeout_s=self.config.server.drain_timeout_s,
        )
        self.scheduler.add(hands, spec_of(service, config, self.devices))
        if not self._adopting[config.kind].done():
            self.scheduler.hold(service)
        if config.preload:
            self.scheduler.start(service)

    def _configure(self, service: str, config: ServiceConfig, *, replace: bool) -> None:
        hands = self.scheduler.service(service)
        if hands is None:
            return
        hands.configure(config, self._runtime(config.kind))
        self.scheduler.configure(spec_of(service, config, self.devices), replace=replace)

    def _runtime(self, kind: RuntimeKind) -> Runtime:
        """The driver of a kind; the first call makes it and starts looking for what it runs already."""
        runtime = self._runtimes.get(kind)
        if runtime is None:
            runtime = self._runtimes[kind] = self._factories[kind]()
            services = {id_: config for id_, config in self.config.services.items() if config.kind is kind}
            adoption = Adoption(
                kind,
                runtime,
                services=services,
                scheduler=self.scheduler,
                bus=self.bus,
                wall_clock=self._wall_clock,
            )
            self._adopting[kind] = asyncio.create_task(adoption.run(), name=f"adopt {kind}")
        return runtime

    def _progress(self, service: str, text: str) -> None:
        self.bus.publish(Progress(self._wall_clock(), service, text))

    def _known(self, service: str) -> None:
        if service not in self.config.services:
            raise UnknownService(service)

    def _view(self, service: str) -> View | None:
        hands, replica = self.scheduler.service(service), self.scheduler.replica(service)
        if hands is None or replica is None:
            return None
        return View(service, self.config.services[service], replica, hands.doing)
