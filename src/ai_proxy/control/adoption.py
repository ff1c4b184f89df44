"""Finds what a former life of the proxy left running, before anything new is started.

Per runtime: until it has told what runs, its services are held. What still fits the config is taken over; what does
not is stopped first, so that no room is given away twice.
"""

import asyncio
from collections.abc import Callable, Mapping

from loguru import logger

from ai_proxy.config.diff import spec_hash
from ai_proxy.config.models import RuntimeKind, ServiceConfig
from ai_proxy.errors import RuntimeUnavailable
from ai_proxy.events import EventBus, RuntimeChanged
from ai_proxy.runtimes.base import Instance, Runtime
from ai_proxy.scheduler.scheduler import Scheduler

ADOPT_DEADLINE_S = 15.0
RETRY_S = 2.0
STOP_MARGIN_S = 30.0


class Adoption:
    """Adopts the replicas of one runtime.

    Args:
        kind: The runtime's kind.
        runtime: The driver.
        services: What the config says of this runtime's services.
        scheduler: Takes the replicas over.
        bus: Is told when the runtime does not answer.
        wall_clock: Unix seconds, for events.
    """

    def __init__(
        self,
        kind: RuntimeKind,
        runtime: Runtime,
        *,
        services: Mapping[str, ServiceConfig],
        scheduler: Scheduler,
        bus: EventBus,
        wall_clock: Callable[[], float],
    ) -> None:
        self._kind = kind
        self._runtime = runtime
        self._services = services
        self._scheduler = scheduler
        self._bus = bus
        self._wall_clock = wall_clock

    def __repr__(self) -> str:
        return f"<Adoption of {self._kind}, {len(self._services)} services>"

    async def run(self) -> None:
        """Adopt, however often the runtime has to be asked; its services are held meanwhile."""
        instances = await self._found()
        for instance in instances:
            service = self._scheduler.service(instance.service)
            config = self._services.get(instance.service)
            if service is None or config is None or service.instance is not None:
                await self._end(instance, "no service of the config needs it")
            elif instance.spec_hash != spec_hash(config):
                await self._end(instance, "it was started from other settings")
            else:
                logger.bind(service=instance.service).info("Adopted what was running already: {}", instance.id)
                service.adopt(instance)
        for service_id in self._services:
            self._scheduler.release(service_id)

    async def _found(self) -> list[Instance]:
        available = True
        while True:
            try:
                async with asyncio.timeout(ADOPT_DEADLINE_S):
                    instances = list(await self._runtime.adopt())
            except (RuntimeUnavailable, TimeoutError) as error:
                failure = _unavailable(self._kind, error)
                if available:
                    self._bus.publish(
                        RuntimeChanged(self._wall_clock(), self._kind, available=False, reason=failure.message)
                    )
                for service in self._services:
                    self._scheduler.hold(service, failure)
                available = False
                await asyncio.sleep(RETRY_S)
            else:
                if not available:
                    self._bus.publish(RuntimeChanged(self._wall_clock(), self._kind, available=True, reason=""))
                return instances

    async def _end(self, instance: Instance, reason: str) -> None:
        config = self._services.get(instance.service)
        grace_s = config.stop_grace_period if config is not None else STOP_MARGIN_S
        logger.bind(service=instance.service).info("Stopping {}: {}", instance.id, reason)
        while True:
            try:
                async with asyncio.timeout(grace_s + STOP_MARGIN_S):
                    await self._runtime.stop(instance, grace_s)
            except (RuntimeUnavailable, TimeoutError) as error:
                logger.bind(service=instance.service).warning("Can't stop {} yet: {!r}", instance.id, error)
                await asyncio.sleep(RETRY_S)
            else:
                return


def _unavailable(kind: RuntimeKind, error: RuntimeUnavailable | TimeoutError) -> RuntimeUnavailable:
    if isinstance(error, RuntimeUnavailable):
        return error
    return RuntimeUnavailable(f"the {kind} runtime did not answer within {ADOPT_DEADLINE_S:g} s")
