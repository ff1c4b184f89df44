"""The container verbs, each true whatever the engine answered: what counts is what an inspection shows afterwards.

An engine may do what it was asked and still answer with an error, late, or not at all. Knows containers and ids,
nothing of services, labels or specs.
"""

import asyncio
import json
import math
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from ai_proxy.errors import RuntimeUnavailable, StartFailed
from ai_proxy.runtimes.base import Exit
from ai_proxy.runtimes.docker.engine import Engine, EngineRefused
from ai_proxy.runtimes.docker.logs import LogLines
from ai_proxy.runtimes.docker.state import ContainerState, cause_of, read_state
from ai_proxy.runtimes.process.ring import TAIL_LINES

_TAIL_LINE_CHARS = 500
_CHUNK_BYTES = 64 * 1024
_POLL_S = 0.05
_CONFLICT = 409


class NameTaken(Exception):
    """A container of that name exists already."""


class Containers:
    """The containers of one engine.

    Args:
        engine: Where they run.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __repr__(self) -> str:
        return f"Containers({self._engine!r})"

    async def find(self, reference: str) -> ContainerState | None:
        """Inspect a container by id or name; None if there is none.

        Raises:
            RuntimeUnavailable: The engine does not answer.
        """
        try:
            async with self._engine.call() as docker:
                return read_state(await docker.containers.container(reference).show())
        except EngineRefused as refused:
            if refused.engine_status == 404:
                return None
            raise

    async def labelled(self, label: str) -> Sequence[ContainerState]:
        """Inspect all containers that carry a label, whatever their state.

        Raises:
            RuntimeUnavailable: The engine does not answer.
        """
        async with self._engine.call() as docker:
            found = await docker.containers.list(all=True, filters=json.dumps({"label": [label]}))
        states = [await self.find(container.id) for container in found]
        return [state for state in states if state is not None]

    async def rename(self, container: str, name: str) -> None:
        """Give a container another name.

        Raises:
            RuntimeUnavailable: The engine does not answer, or refuses.
        """
        async with self._engine.call() as docker:
            await docker.containers.container(container).rename(name)

    async def create(self, name: str, body: Mapping[str, Any], mark: str) -> str:
        """Create a container and return its id.

        Args:
            name: Its name.
            body: What the engine is told of it.
            mark: A label of it that no other container has: it tells ours where the engine's answer does not.

        Raises:
            NameTaken: Another container has that name.
            StartFailed: The engine refuses, with the cause.
            RuntimeUnavailable: The engine does not answer.
        """
        try:
            async with self._engine.call(self._engine.deadlines.create_s) as docker:
                return (await docker.containers.create(body, name=name)).id
        except RuntimeUnavailable as error:
            found = await self.find(name)
            if found is not None and found.labels.get(mark) == body["Labels"][mark]:
                return found.id
            if not isinstance(error, EngineRefused):
                raise
            # What had the name may be gone by now: it was being removed.
            if found is not None or error.engine_status == _CONFLICT:
                raise NameTaken(name) from error
            raise StartFailed(cause_of(error.reason)) from error

    async def join(self, container: str, network: str) -> None:
        """Connect a container to a further network.

        Raises:
            StartFailed: The engine refuses, with the cause.
            RuntimeUnavailable: The engine does not answer.
        """
        try:
            async with self._engine.call() as docker:
                await (await docker.networks.get(network)).connect({"Container": container})
        except EngineRefused as refused:
            raise StartFailed(f"networks: {network} can't be joined: {refused.reason}") from refused

    async def start(self, container: str) -> ContainerState:
        """Start a container and inspect it; it may have ended already.

        Raises:
            StartFailed: The engine refuses, with the cause.
            RuntimeUnavailable: The engine does not answer: whether the container runs is not known.
        """
        refusal: RuntimeUnavailable | None = None
        try:
            async with self._engine.call(self._engine.deadlines.start_s) as docker:
                await docker.containers.container(container).start()
        except RuntimeUnavailable as error:
            refusal = error
        state = await self.find(container)
        if state is None:
            raise StartFailed("the container was removed while it was started") from refusal
        if refusal is None or state.is_running:
            return state
        if isinstance(refusal, EngineRefused):
            raise StartFailed(cause_of(refusal.reason)) from refusal
        if state.has_ended:
            return state
        raise refusal

    async def stop(self, container: str, grace_s: float) -> ContainerState | None:
        """Ask a container to end, kill it after the grace, and inspect it; None if it is gone.

        Raises:
            RuntimeUnavailable: The engine does not answer: the container may still run.
        """
        try:
            async with self._engine.call(grace_s + self._engine.deadlines.stop_s) as docker:
                await docker.containers.container(container).stop(t=math.ceil(grace_s))
        except EngineRefused as refused:
            if refused.engine_status == 404:
                return None
        return await self.find(container)

    async def remove(self, container: str) -> None:
        """Remove a container, killing it if it runs; return when it is gone.

        Raises:
            RuntimeUnavailable: The engine does not answer, or can't remove it.
        """
        try:
            async with self._engine.call(self._engine.deadlines.stop_s) as docker:
                await docker.containers.container(container).delete(force=True, v=True)
        except EngineRefused as refused:
            if refused.engine_status == 404:
                return
            if refused.engine_status != _CONFLICT:
                raise
            await self._removed_by_another(container)

    async def ending(self, state: ContainerState, *, oom_killed: bool = False) -> Exit:
        """Tell how a container ended, with its last lines.

        Args:
            state: It, inspected after its end.
            oom_killed: Whether another source says that memory ran out.
        """
        return Exit(
            code=state.exit_code,
            signal=state.signal,
            oom_killed=state.oom_killed or (oom_killed and state.exit_code != 0),
            log_tail=await self._tail(state.id),
        )

    async def lines(self, container: str, *, follow: bool = False, tail: int | None = None) -> AsyncGenerator[str]:
        """Yield a container's output line by line: all of it or the last `tail` lines.

        Raises:
            RuntimeUnavailable: The engine does not answer, or cuts the stream.
        """
        lines = LogLines()
        params = {"stdout": "1", "stderr": "1", "follow": str(int(follow)), "tail": str(tail or "all")}
        async with self._engine.stream("GET", f"containers/{container}/logs", params) as content:
            async for data in content.iter_chunked(_CHUNK_BYTES):
                for line in lines.feed(data):
                    yield line
        for line in lines.end():
            yield line

    async def pids(self, container: str) -> frozenset[int] | None:
        """List a running container's processes as its host numbers them; None if that host may not be this one.

        An engine behind a network may be anywhere, and one that can't list processes has no `ps`.

        Raises:
            RuntimeUnavailable: The engine does not answer.
        """
        try:
            async with self._engine.call() as docker:
                if not self._engine.is_local_socket():
                    return None
                listed = await docker.containers.container(container).top(ps_args="-eo pid")
                column = listed["Titles"].index("PID")
                return frozenset(int(row[column]) for row in listed["Processes"] or ())
        except EngineRefused as refused:
            return frozenset() if refused.engine_status in {404, _CONFLICT} else None

    async def _tail(self, container: str) -> tuple[str, ...]:
        """The last lines, as far as they are to be had in time: an end is told with or without them."""
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        try:
            async with asyncio.timeout(self._engine.deadlines.call_s):
                async for line in self.lines(container, tail=TAIL_LINES):
                    tail.append(line[:_TAIL_LINE_CHARS])
        except (TimeoutError, RuntimeUnavailable):
            pass
        return tuple(tail)

    async def _removed_by_another(self, container: str) -> None:
        try:
            async with asyncio.timeout(self._engine.deadlines.stop_s):
                while await self.find(container) is not None:  # noqa: ASYNC110 - nothing here can be awaited
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise RuntimeUnavailable(f"the Docker engine does not finish removing {container[:12]}") from error
