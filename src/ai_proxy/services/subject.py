"""One replica as its hands see it: its settings, what drives it, its handle.

Shared by the steps of its life (load, watch, sleep, release). It decides nothing and starts no task.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Never

from loguru import logger

from ai_proxy.config.diff import spec_hash
from ai_proxy.config.models import ServiceConfig
from ai_proxy.devices import Placement
from ai_proxy.errors import CannotServe, StartFailed
from ai_proxy.runtimes.base import Instance, InstanceSpec, Runtime, replica_key
from ai_proxy.services.probe import Probe

LOG_DEADLINE_S = 2.0
LOG_LINES = 20


@dataclass(slots=True, eq=False)
class Subject:
    """A replica and what is needed to deal with it.

    Attributes:
        id: The service.
        number: Of the replica within it.
        config: The settings of the next action.
        runtime: Starts the next life.
        probe: Has exchanges with it.
        progress: Is told what a start is doing, by the service's id.
        in_use: The settings of what runs; they stay behind when its successor is to be another.
        driver: The runtime of what runs.
        instance: The handle; None while there is nothing.
        doing: What a start is doing right now, for people.
    """

    id: str
    number: int
    config: ServiceConfig
    runtime: Runtime
    probe: Probe
    progress: Callable[[str, str], None]
    in_use: ServiceConfig = field(init=False)
    driver: Runtime = field(init=False)
    instance: Instance | None = None
    doing: str = ""

    def __post_init__(self) -> None:
        """Let nothing that runs yet be of the settings given."""
        self.begin()

    def begin(self) -> None:
        """Let what runs from now on be of the present settings."""
        self.in_use, self.driver = self.config, self.runtime

    def configure(self, config: ServiceConfig, runtime: Runtime) -> None:
        """Use other settings from the next action on.

        What runs is still ended by the runtime that started it. While it drains for a successor of another shape, it
        is looked after by its own settings: it may be of another engine.
        """
        if spec_hash(config) == spec_hash(self.in_use):
            self.in_use = config
        self.config, self.runtime = config, runtime

    @property
    def key(self) -> str:
        """By what its owner knows it."""
        return replica_key(self.id, self.number)

    @property
    def running(self) -> Instance:
        """The handle of what runs."""
        if self.instance is None:
            raise RuntimeError(f"{self.key} has no instance to look at")
        return self.instance

    def spec(self, placement: Placement) -> InstanceSpec:
        """What the next life is started from."""
        return InstanceSpec(self.id, self.config, placement, spec_hash(self.config), self.number)

    def tell(self, text: str) -> None:
        """Tell people what is being done; nothing, once it is over."""
        self.doing = text
        if text:
            self.progress(self.id, text)

    async def until_exit(self, when: str) -> Never:
        """Wait until the replica ends by itself.

        Raises:
            StartFailed: It did.
            RuntimeUnavailable: It can't be told.
        """
        end = await self.driver.wait(self.running)
        raise StartFailed(f"{self.id} {end.cause} {when}", log_tail=end.log_tail, service=self.id)

    async def log_tail(self) -> tuple[str, ...]:
        """The last lines of its output, as far as they are to be had in time."""
        lines: list[str] = []
        try:
            async with asyncio.timeout(LOG_DEADLINE_S):
                async for line in self.driver.logs(self.running, follow=False):
                    lines.append(line)
                    del lines[:-LOG_LINES]
        except (TimeoutError, CannotServe):
            logger.bind(service=self.id).debug("Its log could not be read to the end")
        return tuple(lines)
