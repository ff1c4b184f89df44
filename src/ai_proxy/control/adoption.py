"""Finds what a former life of the proxy left running, before anything new is started.

Per runtime: until it has told what runs, its services are held. What still fits the config is taken over; what does
not is stopped first, so that no room is given away twice. The config may change meanwhile: it is looked up anew at
each step.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from loguru import logger

from ai_proxy.config.diff import spec_hash
from ai_proxy.config.models import RuntimeKind, ServiceConfig
from ai_proxy.errors import RuntimeUnavailable
from ai_proxy.events import EventBus, RuntimeChanged
from ai_proxy.runtimes.base import Instance, Runtime
from ai_proxy.scheduler.scheduler import Scheduler
from ai_proxy.services.machine import State

ADOPT_DEADLINE_S = 15.0
RETRY_S = 2.0
STOP_MARGIN_S = 30.0


class Adoption:
    """Adopts the replicas of one runtime.

    Args:
        kind: The runtime's kind.
        runtime: The driver.
        services: Tells what the config in force says of this runtime's services.
        scheduler: Takes the replicas over.
        bus: Is told when the runtime does not answer.
        wall_clock: Unix seconds, for events.
        retry_s: How soon a runtime that did not answer is asked again.
    """

    def __init__(
        self,
        kind: RuntimeKind,
        runtime: Runtime,
        *,
        services: Callable[[], Mapping[str, ServiceConfig]],
        scheduler: Scheduler,
        bus: EventBus,
        wall_clock: Callable[[], float],
        retry_s: float,
    ) -> None:
        self._kind = kind
        self._runtime = runtime
        self._services = services
        self._scheduler = scheduler
        self._bus = bus
        self._wall_clock = wall_clock
        self._retry_s = retry_s

        self.is_over = False
        """The runtime has told what runs: its services may be started."""

        self._failure: RuntimeUnavailable | None = None

    def __repr__(self) -> str:
        state = "over" if self.is_over else f"waiting: {self._failure.message}" if self._failure else "under way"
        return f"<Adoption of {self._kind}, {state}>"

    def hold(self, service: str) -> None:
        """Have a service that comes to this runtime wait like its others."""
        self._scheduler.hold(service, self._failure)

    async def run(self) -> None:
        """Adopt, however often the runtime has to be asked; its services are held meanwhile."""
        found = await self._ask(self._runtime.adopt, "tell what runs", ADOPT_DEADLINE_S)
        unwanted = {instance.id: reason for instance in found if (reason := self._take_over(instance))}
        endings = (self._end(instance, unwanted[instance.id]) for instance in found if instance.id in unwanted)
        await asyncio.gather(*endings)
        self.is_over = True
        self._answers()
        for service in self._services():
            self._scheduler.release(service)

    def _take_over(self, instance: Instance) -> str:
        """Adopt a replica if the config still means it; else say why not."""
        config, known = self._services().get(instance.service), self._scheduler.find(instance.service)
        if config is None or known is None or instance.replica >= config.replicas.max:
            return "no service of the config needs it"
        service = self._scheduler.hands_of(instance.service, instance.replica)
        replica = self._scheduler.state.replicas.get(service.key)
        if service.instance is not None or (replica is not None and replica.state is not State.STOPPED):
            return "its service runs elsewhere already"
        if instance.spec_hash != spec_hash(config):
            return "it was started from other settings"
        logger.bind(service=instance.service).info("Adopted what was running already: {}", instance.id)
        service.adopt(instance)
        return ""

    async def _end(self, instance: Instance, reason: str) -> None:
        config = self._services().get(instance.service)
        grace_s = config.stop_grace_period if config is not None else STOP_MARGIN_S
        logger.bind(service=instance.service).info("Stopping {}: {}", instance.id, reason)
        stop = partial(self._runtime.stop, instance, grace_s)
        await self._ask(stop, f"stop {instance.id}, left by a former life of the proxy,", grace_s + STOP_MARGIN_S)

    async def _ask[T](self, question: Callable[[], Awaitable[T]], what: str, deadline_s: float) -> T:
        """Ask the runtime until it has answered."""
        while True:
            try:
                async with asyncio.timeout(deadline_s):
                    return await question()
            except TimeoutError:
                failure = RuntimeUnavailable(f"the {self._kind} runtime did not {what} within {deadline_s:g} s")
            except RuntimeUnavailable as error:
                failure = error
            except Exception as error:  # noqa: BLE001  # a driver's fault must reach the waiters, not strand them
                logger.exception("The {} runtime failed in a way it does not name", self._kind)
                failure = RuntimeUnavailable(f"the {self._kind} runtime failed: {error!r}")
            self._does_not_answer(failure)
            await asyncio.sleep(self._retry_s)

    def _does_not_answer(self, failure: RuntimeUnavailable) -> None:
        """Nobody need wait for an adoption that can't go on."""
        if self._failure is None:
            self._tell(available=False, reason=failure.message)
        self._failure = failure
        for service in self._services():
            self._scheduler.hold(service, failure)

    def _answers(self) -> None:
        if self._failure is not None:
            self._failure = None
            self._tell(available=True, reason="")

    def _tell(self, *, available: bool, reason: str) -> None:
        self._bus.publish(RuntimeChanged(self._wall_clock(), self._kind, available=available, reason=reason))
