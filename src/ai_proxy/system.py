"""Builds and wires everything for one process; the only file that knows all the others.

`System` is the wired whole, made inside the event loop: it owns what lives as long as the process, starts it and ends
it. It knows neither ASGI nor the management API: the root app (`server.py`) is what requests reach it through.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from loguru import logger

from ai_proxy import __version__
from ai_proxy.config.discover import absent
from ai_proxy.config.faults import ConfigError
from ai_proxy.config.load import load
from ai_proxy.config.model_files import absolute
from ai_proxy.config.models import Config, RuntimeKind
from ai_proxy.config.paths import proxy_name, state_dir
from ai_proxy.config.server import OnExit
from ai_proxy.config.tls_files import unverified
from ai_proxy.config.watch import Watcher
from ai_proxy.control.journal import Journal
from ai_proxy.control.learned import FILE_NAME, Learned
from ai_proxy.control.plane import ControlPlane
from ai_proxy.control.usage import uses_of
from ai_proxy.control.waiting import waiting_for
from ai_proxy.events import EventBus
from ai_proxy.inventory.look import Inventory
from ai_proxy.inventory.monitor import Monitor
from ai_proxy.logging import Logs
from ai_proxy.metrics import Fleet, Metrics
from ai_proxy.proxy.app import ProxyApp
from ai_proxy.proxy.cors import opened
from ai_proxy.proxy.listener_tls import ListenerTls
from ai_proxy.proxy.own_ports import OwnPorts
from ai_proxy.routing.table import RouteTable
from ai_proxy.runtimes.base import Runtime
from ai_proxy.runtimes.external import ExternalRuntime
from ai_proxy.runtimes.process.runtime import ProcessRuntime
from ai_proxy.scheduler.estimates import Estimates
from ai_proxy.scheduler.scheduler import Scheduler
from ai_proxy.scheduler.state import SchedulerState
from ai_proxy.scheduler.terms import ledger_of, settings_of
from ai_proxy.services.machine import State
from ai_proxy.services.probe import Probe
from ai_proxy.transport.limits import Limits
from ai_proxy.transport.origin import Origin
from ai_proxy.transport.pool import Pool

MODEL_STATES = {
    State.STOPPED: "unloaded",
    State.QUEUED: "loading",
    State.STARTING: "loading",
    State.LOADING: "loading",
    State.READY: "loaded",
    State.DRAINING: "loaded",
    State.STOPPING: "unloaded",
    State.FAILED: "failed",
}
"""llama.cpp's words for what a client sees of a replica's state."""

FOLLOW_RETRY_S = 60.0
MAX_CONNECTIONS = 16_384
USES = "uses"
"""The name under which it is kept what was learned of when services are used."""


class System:
    """Everything of one process, wired; it belongs to the event loop it is made in.

    Args:
        path: The config file.
        config: What it says.
        environ: The environment, for reloads and for processes.
        logs: Where access lines go.
        inventory: What the machine has.
        monitor: Tells how its GPUs are used.
        tls: How the listeners prove who they are, if they speak https.
    """

    def __init__(
        self,
        path: Path,
        config: Config,
        *,
        environ: Mapping[str, str],
        logs: Logs,
        inventory: Inventory,
        monitor: Monitor,
        tls: ListenerTls | None = None,
    ) -> None:
        self._path = path
        self._environ = environ
        self._logs = logs
        self._tls = tls
        self._state_dir = state_dir(path, config, environ)
        self.closing = asyncio.Event()

        self.clock = asyncio.get_running_loop().time
        self.bus = EventBus()
        self.metrics = Metrics(config.services)
        self.bus.listen(Journal(self.metrics).write)
        self.pool = Pool(limits=Limits(max_connections=MAX_CONNECTIONS))
        self._estimates = Estimates(sum(device.vram_mb for device in inventory.devices))
        ledger = ledger_of(config, inventory.devices, inventory.memory_mb)
        self.scheduler = Scheduler(
            SchedulerState(ledger, settings_of(config.scheduling), estimates=self._estimates),
            self.bus,
            clock=self.clock,
            wall_clock=time.time,
            on_gone=self._on_gone,
            quiet=self.pool.quiet_s,
        )
        self.learned = Learned(self._state_dir / FILE_NAME)
        self._probe = Probe()
        self._monitor = monitor
        self.plane = ControlPlane(
            config,
            load=partial(load, path, environ),
            scheduler=self.scheduler,
            runtimes=self._runtimes(config),
            probe=self._probe,
            devices=inventory.devices,
            monitor=monitor,
            learned=self.learned,
            bus=self.bus,
            clock=self.clock,
            wall_clock=time.time,
            on_config=self._on_config,
        )
        self.proxy = self._proxy_app(config)
        self.data_plane = opened(self.proxy, config.server.cors)
        """What answers requests: the proxy, open to pages of other origins or not."""
        self.ports = OwnPorts(lambda: self.data_plane)
        # The follower of the config file, and reloads that nobody waits for.
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<System of {self._path}: {self.plane!r}>"

    def start(self) -> None:
        """Take the services under control and follow the config file."""
        self._warn(self.plane.config)
        self._remember_uses()
        self.plane.boot(self._former_runtimes())
        self._monitor.start()
        self._own(self._follow_config(), "follow config")

    def _remember_uses(self) -> None:
        """Go on from what former lives have learned of when services are used, and leave that to the next one."""
        if (memo := self.learned.memo(USES)) is not None:
            try:
                self._estimates.load(memo, self.clock())
            except ValueError as error:
                logger.warning("What was learned of the services' uses can't be read, and is learned anew: {}", error)
        self.learned.keep(USES, self._estimates.dump)

    async def aclose(self) -> None:
        """End everything, replicas included that are not to be kept."""
        self.closing.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self.plane.aclose()
            if self.plane.config.server.on_exit is OnExit.STOP:
                with contextlib.suppress(OSError):
                    self._container_mark.unlink()
        except TimeoutError:
            logger.error("Some services did not stop in time; the next start finds them")
        finally:
            await self._monitor.aclose()
            await self.learned.aclose()
            await self._probe.aclose()
            await self.pool.aclose()

    def reload_soon(self) -> None:
        """Reload the config; a no-op once the end has begun."""
        if not self.closing.is_set():
            self._own(self._reload(), "reload")

    def fleet(self) -> Fleet:
        """What a scrape shows beside what is counted."""
        views = self.plane.views()
        return Fleet(
            version=__version__,
            states={view.id: view.state.state for view in views},
            waiting={view.id: view.state.waiting for view in views if view.state.waiting},
            grants=self.scheduler.open_grants(),
            keys=self.proxy.key_uses(),
            devices=uses_of(self.scheduler.state.ledger, self.plane.measuring.picture),
            connections={"idle": self.pool.idle, "active": self.pool.active},
            log_lines_dropped=self._logs.dropped,
            tasks=len(asyncio.all_tasks()),
        )

    def _proxy_app(self, config: Config) -> ProxyApp:
        return ProxyApp(
            config,
            RouteTable(config),
            gate=self.scheduler,
            pool=self.pool,
            metrics=self.metrics,
            access=self._logs.access,
            states=self._model_state,
            waiting_for=lambda service: waiting_for(self.scheduler, service, self.clock()),
        )

    def _runtimes(self, config: Config) -> Mapping[RuntimeKind, Callable[[], Runtime]]:
        name = proxy_name(self._path, config)

        def docker() -> Runtime:
            # Costs 0.2 s to import; only who runs containers pays it.
            from ai_proxy.runtimes.docker.runtime import DockerRuntime  # noqa: PLC0415

            try:
                self._container_mark.touch()
            except OSError as error:  # serving goes on: only a later config without containers would not find these
                logger.warning("Can't note in {} that containers may run: {}", self._state_dir, error)
            return DockerRuntime(name, docker_host=self._environ.get("DOCKER_HOST"), network=config.docker.network)

        return {
            RuntimeKind.DOCKER: docker,
            RuntimeKind.PROCESS: lambda: ProcessRuntime(self._state_dir, self._environ),
            RuntimeKind.EXTERNAL: ExternalRuntime,
        }

    @property
    def _container_mark(self) -> Path:
        """Exists while containers of ours may run, so that a config without any still finds them after a crash."""
        return self._state_dir / "containers"

    def _former_runtimes(self) -> list[RuntimeKind]:
        left = {RuntimeKind.DOCKER: self._container_mark, RuntimeKind.PROCESS: self._state_dir / "processes"}
        return [kind for kind, trace in left.items() if trace.exists()]

    def _model_state(self, service: str) -> str:
        return MODEL_STATES[self.plane.state_of(service)]

    def _on_gone(self, origin: Origin) -> None:
        self.proxy.drop(origin)

    def _on_config(self, config: Config) -> None:
        self.metrics.configure(config.services)
        self.scheduler.tune(settings_of(config.scheduling))
        self.proxy.configure(config, RouteTable(config))
        self.data_plane = opened(self.proxy, config.server.cors)
        self.ports.follow(config)
        self._warn(config)

    def _warn(self, config: Config) -> None:
        for what in absent(config):
            logger.warning("Config: {}", what)
        if services := unverified(config):
            logger.warning("Nobody checks whom requests go to (tls.verify: false): {}", ", ".join(services))

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        if self._tls is not None:
            await self._tls.renew()
        # The bus has told what is wrong with a faulty file.
        with contextlib.suppress(ConfigError):
            await self.plane.reload()

    def _patterns(self) -> list[str]:
        """Where the config in force looks for model files."""
        return [absolute(rule.glob, self._path.parent) for rule in self.plane.config.discover]

    def _files(self) -> tuple[Path, ...]:
        return () if self._tls is None else self._tls.files

    async def _follow_config(self) -> None:
        while True:
            try:
                watcher = Watcher(self._path, files=self._files, patterns=self._patterns)
                await self._reload()  # what changed after the last look at the file, and before this watch
                async for _ in watcher:
                    await self._reload()
            except Exception:  # noqa: BLE001  # edits must not go unnoticed from now on
                logger.exception("Can't follow {}: SIGHUP reloads it; trying again", self._path)
                await asyncio.sleep(FOLLOW_RETRY_S)
