"""Containers made from specs, and removed again, whatever the engine answers and whoever leaves meanwhile.

Owns every task that must outlive a caller: a creation whose caller left, a removal that the engine was too busy for.
Starts nothing.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4

from ai_proxy.engines.registry import port_of
from ai_proxy.errors import RuntimeUnavailable, StartFailed
from ai_proxy.runtimes.base import InstanceSpec, Progress
from ai_proxy.runtimes.docker.containers import Containers, NameTaken
from ai_proxy.runtimes.docker.engine import Engine
from ai_proxy.runtimes.docker.pull import Images
from ai_proxy.runtimes.docker.reach import Standpoint
from ai_proxy.runtimes.docker.spec import (
    NAME,
    REPLICA,
    SERVICE,
    START,
    container_name,
    create_body,
    image_of,
    labels_of,
)

_RETRY_S = 1


class Maker:
    """Makes the containers of one proxy on one engine.

    Args:
        name: This proxy's name; containers that carry another are never touched.
        engine: Where they are made.
        containers: Its verbs.
        images: What they are made from.
        standpoint: How they will be reached.
    """

    def __init__(
        self, name: str, engine: Engine, containers: Containers, images: Images, standpoint: Standpoint
    ) -> None:
        # Given for life
        self._name = name
        self._engine = engine
        self._standpoint = standpoint
        self._containers = containers
        self._images = images
        # What goes on though its caller left
        self._tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"Maker({self._name!r}, tasks={len(self._tasks)})"

    async def fetch(self, spec: InstanceSpec, progress: Progress) -> None:
        """Have the image of a spec here, as its policy says.

        Raises:
            StartFailed: It is not here and may not or could not be pulled.
            RuntimeUnavailable: The engine does not answer.
        """
        await self._images.ensure(image_of(spec.config), spec.config.pull_policy, progress)

    async def create(self, spec: InstanceSpec) -> str:
        """Create the container of a spec on all of its networks and return its id; failed, it leaves nothing.

        Raises:
            NameTaken: There is a container of that name.
            StartFailed: The engine refuses, with the cause.
            RuntimeUnavailable: The engine does not answer.
        """
        port, attachment = port_of(spec.config), await self._standpoint.attachment(spec.config)
        labels = labels_of(self._name, spec, port, uuid4().hex)
        first, *further = attachment.networks
        body = create_body(spec, labels, port, network=first, publish=attachment.publish)
        name = self._name_of(spec)
        try:
            container = await self._containers.create(name, body, START)
        except RuntimeUnavailable:
            self.own(self._remove_unconfirmed(name, labels[START]))
            raise
        try:
            for network in further:
                await self._containers.join(container, network)
        except BaseException:
            await self.discard(container)
            raise
        return container

    async def create_anew(self, spec: InstanceSpec) -> str:
        """Create the container of a spec in the place of what a former life of its replica left.

        Raises:
            StartFailed: The engine refuses, or the name is another's, with the cause.
            RuntimeUnavailable: The engine does not answer.
        """
        for _ in range(2):
            try:
                return await self.create(spec)
            except NameTaken:
                await self._make_way(spec)
        name = self._name_of(spec)
        raise StartFailed(f"a container named {name} comes back as often as it is removed: who else starts it?")

    async def discard(self, container: str) -> None:
        """Remove a container, running or not: now, or as soon as the engine can."""
        try:
            await self._containers.remove(container)
        except RuntimeUnavailable:
            self.discard_later(container)

    def discard_later(self, container: str) -> None:
        """Remove a container when the engine can; nobody waits for it."""
        self.own(self._remove_when_possible(container))

    def own[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do work that goes on whoever waits for it, until `aclose`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """End all work; containers are left as they are."""
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # Gathering what is done already gives the loop no turn in which the tasks could take themselves out.
            self._tasks.difference_update(tasks)

    def _name_of(self, spec: InstanceSpec) -> str:
        return container_name(self._name, spec.service, spec.replica)

    async def _make_way(self, spec: InstanceSpec) -> None:
        """Remove a leftover of the same replica; anything else keeps its name."""
        name = self._name_of(spec)
        leftover = await self._containers.find(name)
        if leftover is None:
            return
        ours = {NAME: self._name, SERVICE: spec.service, REPLICA: str(spec.replica)}
        if not ours.items() <= leftover.labels.items():
            raise StartFailed(f"a container named {name} exists and is not this proxy's: remove or rename it")
        try:
            await self._containers.remove(leftover.id)
        except RuntimeUnavailable:
            # An engine that crashed can be unable to remove what it left; unless that runs, its name is all we need.
            state = await self._containers.find(leftover.id)
            if state is not None and state.is_running:
                raise
            if state is not None:
                await self._containers.rename(leftover.id, f"{name}-{leftover.id[:12]}")
                self.discard_later(leftover.id)

    async def _remove_when_possible(self, container: str) -> None:
        while True:
            try:
                return await self._containers.remove(container)
            except RuntimeUnavailable:
                await asyncio.sleep(_RETRY_S)

    async def _remove_unconfirmed(self, name: str, start: str) -> None:
        """Remove the container of a creation that the engine never confirmed, once it answers again."""
        while True:
            try:
                state = await self._containers.find(name)
            except RuntimeUnavailable:
                await asyncio.sleep(_RETRY_S)
                continue
            if state is not None and state.labels.get(START) == start:
                await self._remove_when_possible(state.id)
            return
