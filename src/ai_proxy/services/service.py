"""One replica's hands: the tasks that carry out what its machine asks for.

It owns the replica's `Instance` and knows the order of things; each step of a life has a file of its own. It decides
nothing and holds no state of the machine: what it finds goes to its owner, who decides and asks for the next action.
Actions follow each other in one chain of tasks, so that a replica never has two things done to it at once and a late
finding never arrives.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from loguru import logger

from ai_proxy.config.diff import spec_hash
from ai_proxy.config.models import ServiceConfig
from ai_proxy.devices import Placement
from ai_proxy.errors import CannotServe, StartFailed
from ai_proxy.runtimes.base import Instance, Runtime, TellsPids
from ai_proxy.services.first import first
from ai_proxy.services.loading import load
from ai_proxy.services.machine import Action, Event
from ai_proxy.services.owner import Leftovers, Owner
from ai_proxy.services.preparing import Preparation
from ai_proxy.services.probe import Probe
from ai_proxy.services.release import Released, nothing_to_ask, release
from ai_proxy.services.sleeping import RungFailed, fall_asleep, refuse_sleeper, wake
from ai_proxy.services.subject import Subject
from ai_proxy.services.watching import WATCH_EVERY_S, Watch


class Service:
    """Carries out the actions of one replica's machine.

    Args:
        id: The service.
        config: Its settings; replaced by `configure`.
        runtime: Starts and stops the replica.
        probe: Has exchanges with it.
        owner: Is told what happens, by the replica's key.
        progress: Is told what a start is doing, for people, by the service's id.
        replica: The replica's number within the service.
        drain_timeout_s: How long open exchanges with an unhealthy replica may go on.
        watch_every_s: Interval of the health checks of a ready replica.
        released: Asks the devices who still holds memory of a replica that ended.
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
        replica: int = 0,
        drain_timeout_s: float = 30.0,
        watch_every_s: float = WATCH_EVERY_S,
        released: Released = nothing_to_ask,
    ) -> None:
        self._subject = Subject(id, replica, config, runtime, probe, progress)
        self._owner = owner
        self._released = released
        self._watch = Watch(self._subject, owner, drain_timeout_s=drain_timeout_s, every_s=watch_every_s)
        # Of the present life
        self._is_adopted = False
        self._asleep_at = 0
        # The last task, and those before it that are still at work or cleaning up
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._only_looks_on = False
        self._preparation = Preparation(self._subject)

    def __repr__(self) -> str:
        return f"<Service {self.key}: {self.instance.id if self.instance else 'no instance'}>"

    @property
    def id(self) -> str:
        """The service."""
        return self._subject.id

    @property
    def key(self) -> str:
        """The replica's key: the service's id, with its number where there are several."""
        return self._subject.key

    @property
    def config(self) -> ServiceConfig:
        """The settings of the next action."""
        return self._subject.config

    @property
    def instance(self) -> Instance | None:
        """The handle of what runs."""
        return self._subject.instance

    @property
    def doing(self) -> str:
        """What is being done right now, for people."""
        return self._subject.doing

    def configure(self, config: ServiceConfig, runtime: Runtime) -> None:
        """Use other settings from the next action on; what runs is still ended by the runtime that started it."""
        if spec_hash(config) != spec_hash(self.config):
            self.call_off()
        self._subject.configure(config, runtime)

    def logs(self, *, follow: bool) -> AsyncIterator[str] | None:
        """The output of the replica, line by line; None while there is none."""
        return None if self.instance is None else self._subject.driver.logs(self.instance, follow=follow)

    async def pids(self) -> frozenset[int] | None:
        """The processes of what runs, as the host numbers them; None where nobody can tell.

        Raises:
            RuntimeUnavailable: Its runtime does not answer.
        """
        driver = self._subject.driver
        if self.instance is None or not isinstance(driver, TellsPids):
            return None
        return await driver.pids(self.instance)

    def run(self, action: Action, placement: Placement, level: int = 0) -> None:
        """Carry out an action once the one before is over; a stop cuts that short.

        Args:
            action: What to do.
            placement: Where a launch starts it.
            level: How deep it is to sleep.
        """
        before = set(self._tasks)
        if action is Action.STOP:
            self._cut_short()
        elif self._only_looks_on and self._task is not None:
            self._task.cancel()
        self._only_looks_on = action is Action.WATCH
        work = self._carry_out(action, placement, level, before)
        self._task = asyncio.create_task(work, name=f"{self.key}: {action}")
        self._tasks.add(self._task)
        self._task.add_done_callback(self._tasks.discard)

    def prepare(self, room: Placement | None = None) -> None:
        """Do ahead of a launch what needs no device, and create it for the room that is promised to it.

        Once for each launch and each room, however often it is asked for.
        """
        self._preparation.begin(room)

    def call_off(self) -> None:
        """Drop what was prepared and is not done; the next `prepare` begins anew. Idempotent."""
        self._preparation.call_off()

    def ask(self) -> None:
        """Have the engine of a ready replica tell at once whether it works, and if so soon again."""
        self._watch.ask()

    def adopt(self, instance: Instance) -> None:
        """Take over a replica that a former life of the proxy left running."""
        self._subject.begin()
        self._subject.instance, self._is_adopted = instance, True
        self._owner.report(self.key, Event.ADOPTED, instance=instance)

    async def aclose(self) -> None:
        """End the chain of tasks; a running replica is left as it is."""
        self._cut_short()
        if pending := {*self._tasks, *self._preparation.ending}:
            await asyncio.wait(pending)

    def _cut_short(self) -> None:
        """Cancel all that is under way; what cleans up already is not disturbed."""
        self.call_off()
        for task in self._tasks:
            if not task.cancelling():
                task.cancel()

    async def _carry_out(
        self, action: Action, placement: Placement, level: int, before: set[asyncio.Task[None]]
    ) -> None:
        if before:
            await asyncio.wait(before)
        try:
            await self._work(action, placement, level)
        except CannotServe as failure:
            self._owner.report(self.key, Event.BROKE, failure=failure)
        except RungFailed as failed:
            logger.bind(service=self.id).warning("It has to be stopped: {}", failed)
            self._owner.report(self.key, Event.UNWANTED, failure=failed.cause)
        except Exception as error:  # noqa: BLE001  # a driver's fault must reach the waiters, not strand them
            logger.bind(service=self.id).exception("The runtime failed in a way it does not name")
            unnamed = StartFailed(f"{self.id} failed in a way its runtime does not name: {error!r}", service=self.id)
            self._owner.report(self.key, Event.BROKE, failure=unnamed)

    async def _work(self, action: Action, placement: Placement, level: int) -> None:
        """Do it, and report what it led to; what went wrong is raised."""
        match action:
            case Action.LAUNCH:
                self._owner.report(self.key, Event.LAUNCHED, instance=await self._launch(placement))
            case Action.PROBE:
                await self._load()
                self._owner.report(self.key, Event.HEALTHY)
            case Action.WATCH:
                await self._watch.run()
            case Action.SLEEP:
                await self._sleep(level)
            case Action.WAKE:
                await self._wake()
                self._owner.report(self.key, Event.HEALTHY)
            case Action.STOP:
                self._owner.report(self.key, Event.GONE, leftovers=await self._stop())

    async def _launch(self, placement: Placement) -> Instance:
        subject = self._subject
        subject.begin()
        self._is_adopted = False
        subject.instance = await subject.driver.start(subject.spec(placement), subject.tell)
        return subject.instance

    async def _load(self) -> None:
        await load(self._subject)
        if self._is_adopted:
            await refuse_sleeper(self._subject)
        self.call_off()

    async def _sleep(self, level: int) -> None:
        """Put it to sleep and notice its end, until something else is to be done.

        One that was told to wake before it slept has nothing to tell: that is not where it is any more.
        """
        subject = self._subject
        self._asleep_at = level
        await first(fall_asleep(subject, level), subject.until_exit("while it fell asleep"))
        if self._is_last:
            self._owner.report(self.key, Event.SLEPT)
        if self._is_last:
            self._only_looks_on = True
            await subject.until_exit("while it slept")

    async def _wake(self) -> None:
        subject = self._subject
        await first(wake(subject, self._asleep_at), subject.until_exit("while it woke up"))
        self.call_off()

    async def _stop(self) -> Leftovers | None:
        leftovers = await release(self._subject, self._released)
        self._subject.tell("")
        return leftovers

    @property
    def _is_last(self) -> bool:
        """Whether nothing else is to be done after the task that asks."""
        return self._task is asyncio.current_task()
