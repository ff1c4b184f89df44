"""The docker runtime: replicas as containers that carry this proxy's name in their labels.

Owns the engine's connection and the event stream. Containers outlive the proxy; labels alone rebuild their handles.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

from loguru import logger

from ai_proxy.config.models import ServiceConfig
from ai_proxy.errors import RuntimeUnavailable, StartFailed
from ai_proxy.runtimes.base import Exit, Instance, InstanceSpec, Progress
from ai_proxy.runtimes.docker.ahead import Ahead
from ai_proxy.runtimes.docker.containers import Containers
from ai_proxy.runtimes.docker.engine import Deadlines, Engine
from ai_proxy.runtimes.docker.events import ContainerEvents
from ai_proxy.runtimes.docker.maker import Maker
from ai_proxy.runtimes.docker.own import own_ids
from ai_proxy.runtimes.docker.pull import Images
from ai_proxy.runtimes.docker.reach import Reach, Standpoint
from ai_proxy.runtimes.docker.spec import NAME, image_of
from ai_proxy.runtimes.docker.state import ContainerState

_RETRY_S = 1
_LOOK_AGAIN_S = 30
_ENDS_KEPT = 256


class DockerRuntime:
    """Drives the containers of one proxy on one Docker engine.

    Args:
        name: This proxy's name; containers that carry another are never touched.
        docker_host: The engine's address; None for what Docker's own tools would use.
        network: The network of containers whose service names none; see `Standpoint`.
        reach: How containers are reached; found out by default.
        deadlines: How long the engine may take.
    """

    def __init__(
        self,
        name: str,
        *,
        docker_host: str | None = None,
        network: str | None = None,
        reach: Reach = Reach.AUTO,
        deadlines: Deadlines | None = None,
    ) -> None:
        # Given for life
        self._name = name
        self._label = f"{NAME}={name}"
        self._engine = Engine(docker_host, deadlines)
        self._containers = Containers(self._engine)
        self._images = Images(self._engine)
        self._standpoint = Standpoint(self._engine, self._containers, reach, network, own_ids())
        self._maker = Maker(name, self._engine, self._containers, self._images, self._standpoint)
        self._ahead = Ahead(self._maker, self._containers)
        self._events = ContainerEvents(self._engine, self._label)
        # Ends by container id, the oldest dropped first: the container itself is gone by then
        self._ends: dict[str, Exit] = {}

    def __repr__(self) -> str:
        return f"DockerRuntime({self._name!r}, {self._engine!r}, {self._maker!r})"

    async def prepare(self, config: ServiceConfig, progress: Progress) -> None:
        """Have the image here."""
        await self._images.ensure(image_of(config), config.pull_policy, progress)

    async def create_ahead(self, spec: InstanceSpec) -> None:
        """Pull if need be, create a container and keep it for its start; see `CreatesAhead.create_ahead`."""
        await self._ahead.hold(spec)

    async def start(self, spec: InstanceSpec, progress: Progress) -> Instance:
        """Start the container that was created ahead; else pull if need be, and create one. See `Runtime.start`."""
        self._events.open()
        container = await self._ahead.take(spec)
        if container is None:
            await self._maker.fetch(spec, progress)
        launch = self._maker.own(self._launch(spec, container, progress))
        try:
            return await asyncio.shield(launch)
        except asyncio.CancelledError:
            # A request cut off half-way may still be carried out: only its end tells what there is to undo.
            # Whoever cancelled gives the room away next, so what may be on the device must be gone.
            deadlines = self._engine.deadlines
            await asyncio.wait({self._maker.own(self._undo(launch))}, timeout=deadlines.start_s + deadlines.stop_s)
            raise

    async def stop(self, instance: Instance, grace_s: float) -> None:
        """SIGTERM, the grace, SIGKILL, and remove what is left; see `Runtime.stop`."""
        state = await self._containers.stop(instance.id, grace_s)
        if state is None:
            return
        if state.has_ended:
            await self._read_end(state)
        await self._containers.remove(instance.id)

    async def wait(self, instance: Instance) -> Exit:
        """Wait for the container's end, then remove it; see `Runtime.wait`."""
        with self._events.watch(instance.id) as changed:
            while True:
                changed.clear()
                look_again_s = _LOOK_AGAIN_S
                try:
                    if (end := await self._end_of(instance.id)) is not None:
                        return end
                except RuntimeUnavailable:
                    if self._engine.is_closed:
                        raise
                    look_again_s = _RETRY_S
                with suppress(TimeoutError):
                    async with asyncio.timeout(look_again_s):
                        await changed.wait()

    async def adopt(self) -> Sequence[Instance]:
        """Find this proxy's running containers and remove its ended ones; see `Runtime.adopt`."""
        adopted = []
        for state in await self._containers.labelled(self._label):
            if not state.is_running:
                self._maker.discard_later(state.id)
            elif (instance := await self._readopted(state)) is not None:
                adopted.append(instance)
        return adopted

    async def logs(self, instance: Instance, *, follow: bool) -> AsyncGenerator[str]:
        """Yield the container's output; of a removed one, the last lines that were kept."""
        if (end := self._ends.get(instance.id)) is not None:
            for line in end.log_tail:
                yield line
            return
        async with aclosing(self._containers.lines(instance.id, follow=follow)) as lines:
            async for line in lines:
                yield line

    async def pids(self, instance: Instance) -> frozenset[int] | None:
        """List the container's processes as its host numbers them; None where that host may not be this one."""
        return await self._containers.pids(instance.id)

    async def pull(self, config: ServiceConfig, progress: Progress) -> None:
        """Fetch a service's image ahead of its first start.

        Raises:
            StartFailed: It could not be pulled, with the cause.
            RuntimeUnavailable: The engine does not answer.
        """
        await self._images.pull(image_of(config), progress)

    async def aclose(self) -> None:
        """Close every connection; containers run on."""
        await self._maker.aclose()
        await self._images.close()
        await self._events.close()
        await self._engine.close()

    async def _launch(self, spec: InstanceSpec, created: str | None, progress: Progress) -> Instance:
        container = created
        if container is None:
            progress("creating container")
            container = await self._maker.create_anew(spec)
        try:
            progress("starting container")
            return await self._started(await self._containers.start(container))
        except BaseException:
            await self._maker.discard(container)
            raise

    async def _started(self, state: ContainerState) -> Instance:
        if not state.is_running:
            end = await self._read_end(state)
            raise StartFailed(f"the container ended at once: {end.cause}", log_tail=end.log_tail)
        instance = await self._standpoint.instance(state)
        if instance is None:
            raise StartFailed("the container has no address: it must join a network that gives it one")
        return instance

    async def _readopted(self, state: ContainerState) -> Instance | None:
        """Take a running container of ours back; one that can't be is left alone."""
        try:
            instance, why = await self._standpoint.instance(state), "its labels or its address lack"
        except StartFailed as failure:
            instance, why = None, failure.message
        if instance is None:
            logger.warning("container {} carries our label but is left alone: {}", state.name, why)
        return instance

    async def _end_of(self, container: str) -> Exit | None:
        """How a container ended; None while it runs."""
        state = await self._containers.find(container)
        if state is None:
            return self._ends.get(container, Exit())
        if not state.has_ended:
            return None
        end = await self._read_end(state)
        self._maker.discard_later(container)
        return end

    async def _read_end(self, state: ContainerState) -> Exit:
        """Read how a container ended, and keep it: whoever removes the container has read it before."""
        oom_killed = self._events.ran_out_of_memory(state.id)
        end = self._ends.setdefault(state.id, await self._containers.ending(state, oom_killed=oom_killed))
        while len(self._ends) > _ENDS_KEPT:
            del self._ends[next(iter(self._ends))]
        return end

    async def _undo(self, launch: asyncio.Task[Instance]) -> None:
        with suppress(StartFailed, RuntimeUnavailable):
            await self._maker.discard((await launch).id)
