"""The control plane of one system: services come to life, change and end through this object.

It turns a config into services under the scheduler's control, applies a changed config as a difference, and is what
the management API and the signals act on. It decides nothing about rooms and waiters: that is the scheduler's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Never

from ai_proxy.config.diff import Change, diff, spec_hash
from ai_proxy.config.faults import ConfigError
from ai_proxy.config.models import Config, RuntimeKind, ServiceConfig
from ai_proxy.config.server import OnExit
from ai_proxy.control.adoption import RETRY_S, Adoption
from ai_proxy.control.closing import in_time, stop_deadline_s
from ai_proxy.control.history import History
from ai_proxy.control.learned import Learned
from ai_proxy.control.learning import Learner
from ai_proxy.control.leases import Leases
from ai_proxy.control.measuring import Measuring
from ai_proxy.devices import Device, Placement
from ai_proxy.events import ConfigApplied, ConfigRefused, EventBus, Progress
from ai_proxy.inventory.monitor import Monitor
from ai_proxy.routing.nearest import advice, shown
from ai_proxy.runtimes.base import Instance, Runtime
from ai_proxy.scheduler.figures import Figures
from ai_proxy.scheduler.measured import Measured
from ai_proxy.scheduler.scheduler import Scheduler
from ai_proxy.scheduler.spec import ServiceSpec, spec_of
from ai_proxy.scheduler.state import ServiceState
from ai_proxy.services.machine import State
from ai_proxy.services.probe import Probe
from ai_proxy.services.service import Service


class UnknownService(Exception):
    """No service of the config has this id; the message names the nearest ones."""

    def __init__(self, service: str, known: Iterable[str]) -> None:
        super().__init__(f"no service {shown(service)} in the config; {advice(service, known)}")
        self.service = service


@dataclass(frozen=True, slots=True)
class View:
    """A service as an operator sees it; `state` is read at once and not kept.

    Attributes:
        id: The service.
        config: Its settings.
        state: Its replicas and its queue.
        doing: What a start is doing right now, for people.
        figures: What was learned of it; None before its first life.
        rooms: What each of its replicas holds, by key.
    """

    id: str
    config: ServiceConfig
    state: ServiceState
    doing: str
    figures: Figures | None = None
    rooms: Mapping[str, Placement] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Driver:
    """A runtime that was needed, and its search for what a former life left."""

    runtime: Runtime
    adoption: Adoption
    adopting: asyncio.Task[None]


class ControlPlane:
    """Holds the config in force and the services that come of it.

    Args:
        config: The config to start with.
        load: Reads the config file anew; raises ConfigError.
        scheduler: Owns the fleet's state.
        runtimes: Makes the driver of a kind when it is first needed.
        probe: Asks replicas for their health.
        devices: The GPUs of this machine.
        monitor: Tells how they are used.
        learned: What was learned of services, in this life and in former ones.
        bus: Is told of progress and reloads.
        clock: Monotonic seconds, the loop's.
        wall_clock: Unix seconds, for events.
        on_config: Is told each config that comes into force after the first.
        ask_again_s: How soon a runtime that did not tell what runs is asked again.
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
        monitor: Monitor,
        learned: Learned,
        bus: EventBus,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        on_config: Callable[[Config], None],
        ask_again_s: float = RETRY_S,
    ) -> None:
        self.config = config
        self.bus = bus
        self.scheduler = scheduler
        self.devices = devices
        self.learned = learned
        self.learner = Learner(learned, instance_of=self._instance_of, on_news=self._relearn, clock=clock)
        self.measuring = Measuring(monitor, occupants=self._occupants, tell=self._measured)
        self.history = History()
        self.leases = Leases(
            scheduler,
            devices=devices,
            make=self._hands,
            bus=bus,
            wall_clock=wall_clock,
            on_pids=self.measuring.ask_again,
        )
        bus.listen(self.learner.hear)
        bus.listen(self.history.hear)

        self._load = load
        self._factories = runtimes
        self._probe = probe
        self._wall_clock = wall_clock
        self._on_config = on_config
        self._ask_again_s = ask_again_s

        self._measure: asyncio.Task[Never] | None = None
        self._drivers: dict[RuntimeKind, _Driver] = {}
        self._hashes: dict[str, str] = {}
        self._reads = 0
        self._applied_read = 0

    def __repr__(self) -> str:
        return f"<ControlPlane {len(self.config.services)} services, runtimes {', '.join(self._drivers) or 'none'}>"

    # Life

    def boot(self, former: Iterable[RuntimeKind] = ()) -> None:
        """Take all services under control, adopt what runs, start what is to be preloaded.

        Args:
            former: Runtimes in which a former life may have left something, needed by this config or not.
        """
        self._measure = asyncio.create_task(self.measuring.run(), name="measure")
        for kind in former:
            self._driver(kind)
        for service, config in self.config.services.items():
            self._add(service, config)

    async def aclose(self) -> None:
        """End every replica that is not to be kept, then release what the runtimes hold.

        Raises:
            TimeoutError: Some replica did not end in time; the rest is released all the same.
        """
        await self.leases.aclose()
        adopting = [driver.adopting for driver in self._drivers.values()]
        for task in adopting:
            task.cancel()
        await asyncio.gather(*adopting, return_exceptions=True)
        try:
            async with asyncio.timeout(stop_deadline_s(self.config)):
                await self.scheduler.shut_down(self._kept())
        finally:
            await in_time(self.scheduler.aclose(), "the services' tasks")
            if self._measure is not None:  # until now it was asked for what has come free
                self._measure.cancel()
                await asyncio.wait({self._measure})
            for kind, driver in self._drivers.items():
                await in_time(driver.runtime.aclose(), f"the {kind} runtime")

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
            raise UnknownService(service, self.config.services)
        return view

    def logs(self, service: str, *, follow: bool) -> AsyncIterator[str] | None:
        """The output of a service's replica, line by line; None while it has none.

        Raises:
            UnknownService: The config has none of this id.
        """
        self._known(service)
        hands = self.scheduler.hands(service)
        running = [each for each in hands if each.instance is not None]
        return running[0].logs(follow=follow) if running else None

    def state_of(self, service: str) -> State:
        """Where that replica of a service is that is nearest to serving; STOPPED for a service that is not known."""
        found = self.scheduler.find(service)
        return State.STOPPED if found is None else found.state

    # Reload

    async def reload(self) -> Change:
        """Read the config file again and apply what changed.

        Raises:
            ConfigError: It is at fault; the config in force stays.
        """
        self._reads += 1
        read = self._reads
        try:
            new = await asyncio.to_thread(self._load)
        except ConfigError as error:
            self.bus.publish(ConfigRefused(self._wall_clock(), str(error)))
            raise
        if read < self._applied_read:
            return Change()  # the file was read again meanwhile, and that is in force
        self._applied_read = read
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
            if self.scheduler.find(service) is None:
                self._add(service, new.services[service])
            else:
                self._configure(service, new.services[service], replace=True)
        self._on_config(new)
        self.bus.publish(ConfigApplied(self._wall_clock(), change.words))
        return change

    # Services

    def _add(self, service: str, config: ServiceConfig) -> None:
        driver = self._driver(config.kind)
        self.scheduler.add(self._spec(service, config), partial(self._make, service))
        self._relearn(service)
        if not driver.adoption.is_over:
            driver.adoption.hold(service)
        if config.preload or config.replicas.min:
            self.scheduler.start(service)

    def _make(self, service: str, number: int) -> Service:
        """The hands of one replica of a service, with the settings in force."""
        config = self.config.services[service]
        return self._hands(service, config, self._driver(config.kind).runtime, number)

    def _hands(self, service: str, config: ServiceConfig, runtime: Runtime, number: int = 0) -> Service:
        return Service(
            service,
            config,
            runtime=runtime,
            probe=self._probe,
            owner=self.scheduler,
            progress=self._progress,
            drain_timeout_s=self.config.server.drain_timeout_s,
            replica=number,
            released=self.measuring.released,
        )

    def _configure(self, service: str, config: ServiceConfig, *, replace: bool) -> None:
        hands = self.scheduler.hands(service)
        if not hands:
            return
        driver, former = self._driver(config.kind), hands[0].config
        for each in hands:
            each.configure(config, driver.runtime)
        # Nothing may start between the two: neither on a runtime that has not told what runs, nor by the old settings.
        if not driver.adoption.is_over:
            driver.adoption.hold(service)
        self.scheduler.configure(self._spec(service, config), replace=replace)
        self._relearn(service)
        if driver.adoption.is_over:
            self.scheduler.release(service)
        if (config.preload or config.replicas.min) and (replace or not (former.preload or former.replicas.min)):
            self.scheduler.start(service)

    def _spec(self, service: str, config: ServiceConfig) -> ServiceSpec:
        """What the scheduler needs to know of a service."""
        self._hashes[service] = spec_hash(config)
        return spec_of(service, config, self.devices)

    def _relearn(self, service: str) -> None:
        """Have a service placed, weighed and awaited by what was learned of it."""
        if (found := self._hashes.get(service)) is not None and self.scheduler.find(service) is not None:
            self.scheduler.recall(service, self.learned.over_all(found) or Figures())

    def _occupants(self) -> Mapping[str, Service]:
        holders = self.scheduler.state.ledger.held
        return {key: hands for key in holders if (hands := self.scheduler.hand(key)) is not None}

    def _measured(self, measured: Measured) -> None:
        self.learner.measured(measured.held_mb)
        self.scheduler.measured(measured)

    def _instance_of(self, key: str) -> Instance | None:
        hands = self.scheduler.hand(key)
        return None if hands is None else hands.instance

    def _driver(self, kind: RuntimeKind) -> _Driver:
        """The driver of a kind; the first call makes it and starts looking for what it runs already."""
        driver = self._drivers.get(kind)
        if driver is None:
            runtime = self._factories[kind]()
            adoption = Adoption(
                kind,
                runtime,
                services=lambda: self._services_of(kind),
                scheduler=self.scheduler,
                bus=self.bus,
                wall_clock=self._wall_clock,
                retry_s=self._ask_again_s,
            )
            adopting = asyncio.create_task(adoption.run(), name=f"adopt {kind}")
            driver = self._drivers[kind] = _Driver(runtime, adoption, adopting)
        return driver

    def _services_of(self, kind: RuntimeKind) -> Mapping[str, ServiceConfig]:
        return {service: config for service, config in self.config.services.items() if config.kind is kind}

    def _progress(self, service: str, text: str) -> None:
        self.bus.publish(Progress(self._wall_clock(), service, text))

    def _known(self, service: str) -> None:
        if service not in self.config.services:
            raise UnknownService(service, self.config.services)

    def _view(self, service: str) -> View | None:
        found, config = self.scheduler.find(service), self.config.services.get(service)
        if found is None or config is None:
            return None
        doing = next((each.doing for each in self.scheduler.hands(service) if each.doing), "")
        ledger = self.scheduler.state.ledger
        rooms = {each.key: ledger.placement(each.key) for each in found.replicas if each.key in ledger}
        return View(service, config, found, doing, found.figures, rooms)
