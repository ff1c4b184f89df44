"""One service's hands: the task that carries out what its machine asks for.

It owns the service's `Instance` and knows how to launch, probe, watch and stop it. It decides nothing and holds no
state of the machine: what it finds goes to its owner, who decides and asks for the next action. Actions follow each
other in one chain of tasks, so that a service never does two things at once and a late finding never arrives.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any, Never, Protocol

from loguru import logger

from ai_proxy.config.diff import spec_hash
from ai_proxy.config.models import RuntimeKind, ServiceConfig
from ai_proxy.devices import Placement
from ai_proxy.engines.registry import health_path_of, is_ready, profile_of, start_timeout_of
from ai_proxy.errors import CannotServe, StartFailed
from ai_proxy.runtimes.base import Instance, InstanceSpec, Runtime
from ai_proxy.services.machine import Action, Event
from ai_proxy.services.probe import Probe

PROBE_EVERY_S = 0.1
WATCH_EVERY_S = 10.0
ASK_AGAIN_S = 0.1
FAILED_PROBES = 3
STOP_RETRY_S = 2.0
STOP_MARGIN_S = 30.0
LOG_DEADLINE_S = 2.0
LOG_LINES = 20
LATE = 3 / 4
"""Of a start-up deadline: a log that stands still from then on tells a replica that is stuck from one that is slow."""


class Owner(Protocol):
    """Who decides about a service."""

    def report(
        self, service: str, event: Event, *, instance: Instance | None = None, failure: CannotServe | None = None
    ) -> None:
        """Take what happened to a replica."""
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


class Service:
    """Carries out the actions of one service's machine.

    Args:
        id: The service.
        config: Its settings; replaced by `configure`.
        runtime: Starts and stops its replica.
        probe: Asks it for its health.
        owner: Is told what happens.
        progress: Is told what a start is doing, for people.
        drain_timeout_s: How long open exchanges with an unhealthy replica may go on.
        watch_every_s: Interval of the health checks of a ready replica.
    """

    def __init__(
        self,
        id: str,  # noqa: A002  # the word of the config
        config: ServiceConfig,
        *,
        runtime: Runtime,
        probe: Probe,
        owner: Owner,
        progress: Callable[[str, str], None],
        drain_timeout_s: float = 30.0,
        watch_every_s: float = WATCH_EVERY_S,
    ) -> None:
        self.id = id
        self.config = config
        self.instance: Instance | None = None
        self.doing = ""
        """What a start is doing right now, for people."""

        self._runtime = runtime
        # Of what runs: they stay behind when its successor is to be another.
        self._driver = runtime
        self._in_use = config
        self._probe = probe
        self._owner = owner
        self._progress = progress
        self._drain_timeout_s = drain_timeout_s
        self._watch_every_s = watch_every_s
        self._task: asyncio.Task[None] | None = None
        # The last one, and those before it that are still cleaning up.
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Service {self.id}: {self.instance.id if self.instance else 'no instance'}>"

    def configure(self, config: ServiceConfig, runtime: Runtime) -> None:
        """Use other settings from the next action on.

        What runs is still ended by the runtime that started it. While it drains for a successor of another shape, it
        is looked after by its own settings: it may be of another engine.
        """
        if spec_hash(config) == spec_hash(self._in_use):
            self._in_use = config
        self.config, self._runtime = config, runtime

    def logs(self, *, follow: bool) -> AsyncIterator[str] | None:
        """The output of the replica, line by line; None while there is none."""
        return None if self.instance is None else self._driver.logs(self.instance, follow=follow)

    def run(self, action: Action, placement: Placement) -> None:
        """Carry out an action; the one before is over, or is cancelled by a stop."""
        previous = self._task
        if previous is not None and action is Action.STOP:
            previous.cancel()
        self._task = asyncio.create_task(self._carry_out(action, placement, previous), name=f"{self.id}: {action}")
        self._tasks.add(self._task)
        self._task.add_done_callback(self._tasks.discard)

    def ask(self) -> None:
        """Have the engine of a ready replica tell at once whether it works, and if so soon again."""
        self._asked.set()

    def adopt(self, instance: Instance) -> None:
        """Take over a replica that a former life of the proxy left running."""
        self.instance, self._driver, self._in_use = instance, self._runtime, self.config
        self._owner.report(self.id, Event.ADOPTED, instance=instance)

    async def aclose(self) -> None:
        """End the chain of tasks; a running replica is left as it is."""
        if self._task is not None:
            self._task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _carry_out(self, action: Action, placement: Placement, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait({previous})
        try:
            event = await self._work(action, placement)
        except CannotServe as failure:
            self._owner.report(self.id, Event.BROKE, failure=failure)
        except Exception as error:  # noqa: BLE001  # a driver's fault must reach the waiters, not strand them
            logger.bind(service=self.id).exception("The runtime failed in a way it does not name")
            unnamed = StartFailed(f"{self.id} failed in a way its runtime does not name: {error!r}", service=self.id)
            self._owner.report(self.id, Event.BROKE, failure=unnamed)
        else:
            self._owner.report(self.id, event, instance=self.instance if event is Event.LAUNCHED else None)

    async def _work(self, action: Action, placement: Placement) -> Event:
        """Do it, and say what it led to; what went wrong is raised."""
        match action:
            case Action.LAUNCH:
                self._driver, self._in_use = self._runtime, self.config
                spec = InstanceSpec(self.id, self.config, placement, spec_hash(self.config))
                self.instance = await self._driver.start(spec, self._tell)
                return Event.LAUNCHED
            case Action.PROBE:
                await self._load()
                return Event.HEALTHY
            case Action.WATCH:
                return await self._watch()
            case Action.STOP:
                await self._stop()
                return Event.GONE

    async def _watch(self) -> Never:
        """Notice the end of a ready replica, that it stopped answering, and what its engine says of its work."""
        self._tell("")
        instance = self._running
        await first(
            self._look_after(instance), self._follow_work(instance), self._until_exit(instance, "while it was ready")
        )

    async def _load(self) -> None:
        """Wait until the replica is ready.

        Raises:
            StartFailed: It has exited or had its time.
        """
        if self.config.kind is RuntimeKind.EXTERNAL and self.config.health.path is None:
            return
        self._tell("loading")
        await first(self._until_ready(self._running), self._until_exit(self._running, "while it was loading"))

    async def _until_ready(self, instance: Instance) -> None:
        clock, late_tail = asyncio.get_running_loop().time, None
        began = clock()
        while True:
            # Read each time: who sees a model load slowly may give it longer.
            timeout_s = start_timeout_of(self.config)
            seen = await self._probe.health(instance, health_path_of(self.config), self.config.headers)
            if is_ready(self.config, seen.status):
                return
            if clock() >= began + timeout_s:
                break
            if late_tail is None and clock() >= began + LATE * timeout_s:
                late_tail = await self._log_tail(instance)
            await asyncio.sleep(PROBE_EVERY_S)
        tail = await self._log_tail(instance)
        message = f"{self.id} was not ready within {timeout_s:g} s (health.start_timeout_s): {seen.detail}"
        if late_tail is not None and self.config.kind is not RuntimeKind.EXTERNAL:
            moved = "has not moved" if tail == late_tail else "still moved"
            message += f"; its log {moved} in the last {timeout_s * (1 - LATE):g} s"
        raise StartFailed(message, log_tail=tail, service=self.id)

    async def _until_exit(self, instance: Instance, when: str) -> Never:
        end = await self._driver.wait(instance)
        raise StartFailed(f"{self.id} {end.cause} {when}", log_tail=end.log_tail, service=self.id)

    async def _look_after(self, instance: Instance) -> Never:
        """Probe a ready replica at intervals; a failed probe alone is no reason to act.

        Once it is unhealthy it takes nothing new, and what is open on it has `drain_timeout_s` to end.
        """
        failed = 0
        while True:
            await asyncio.sleep(self._watch_every_s)
            if self._in_use.kind is RuntimeKind.EXTERNAL and self._in_use.health.path is None:
                continue
            finding = await self._probe.health(instance, health_path_of(self._in_use), self._in_use.headers)
            failed = 0 if is_ready(self._in_use, finding.status) else failed + 1
            # Asked each time: the answer counts from the last question that found something moving.
            quiet_s = self._owner.quiet_s(self.id)
            if failed >= FAILED_PROBES and quiet_s >= (FAILED_PROBES - 1) * self._watch_every_s:
                message = f"{self.id} stopped answering its health check: {finding.detail}"
                failure = StartFailed(message, service=self.id)
                self._owner.report_unhealthy(self.id, failure)
                await asyncio.sleep(self._drain_timeout_s)
                raise failure

    async def _follow_work(self, instance: Instance) -> Never:
        """Have the engine tell whether it works, at intervals and whenever the owner needs to know.

        One that does not answer has told nothing: what it last said stands, and its health says the rest. Engines
        rest a moment after a request's last byte, so the owner's question is put again soon, then ever more rarely.
        """
        clock = asyncio.get_running_loop().time
        pause_s = self._watch_every_s
        while True:
            pause_s = ASK_AGAIN_S if self._asked.is_set() else min(2 * pause_s, self._watch_every_s)
            self._asked.clear()
            asked_at = clock()
            if (busy := await self._works(instance)) is not None:
                self._owner.report_work(self.id, busy=busy, asked_at=asked_at)
                if not busy:
                    pause_s = self._watch_every_s
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), pause_s)

    async def _works(self, instance: Instance) -> bool | None:
        probe = profile_of(self._in_use).busy
        return None if probe is None else await self._probe.busy(instance, probe, self._in_use.headers)

    async def _stop(self) -> None:
        """End the replica, however often the runtime has to be asked: its room is not free before."""
        grace_s = self.config.stop_grace_period
        while self.instance is not None:
            try:
                async with asyncio.timeout(grace_s + STOP_MARGIN_S):
                    await self._driver.stop(self.instance, grace_s)
                self.instance = None
            except Exception as error:  # noqa: BLE001  # whatever it is: its room is held until it is gone
                logger.bind(service=self.id).warning("Can't stop it yet, will try again: {!r}", error)
                await asyncio.sleep(STOP_RETRY_S)
        self._tell("")

    @property
    def _running(self) -> Instance:
        if self.instance is None:
            raise RuntimeError(f"{self.id} has no instance to look at")
        return self.instance

    def _tell(self, text: str) -> None:
        self.doing = text
        if text:
            self._progress(self.id, text)

    async def _log_tail(self, instance: Instance) -> tuple[str, ...]:
        lines: list[str] = []
        try:
            async with asyncio.timeout(LOG_DEADLINE_S):
                async for line in self._driver.logs(instance, follow=False):
                    lines.append(line)
                    del lines[:-LOG_LINES]
        except (TimeoutError, CannotServe):
            logger.bind(service=self.id).debug("Its log could not be read to the end")
        return tuple(lines)


async def first[T](*ways: Coroutine[Any, Any, T]) -> T:
    """Return what the first of these yields; the others are cancelled and awaited.

    Example:
        >>> async def value(): return 1
        >>> asyncio.run(first(value(), asyncio.sleep(9)))
        1
    """
    tasks = [asyncio.create_task(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
