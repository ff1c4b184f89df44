"""The engine's event stream: it wakes whoever waits for a container, and keeps who ran out of memory.

Events are hints: they say when to look again, never what is so. The stream is opened again whenever it ends, and
after that everybody looks again.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from loguru import logger

from ai_proxy.errors import RuntimeUnavailable
from ai_proxy.runtimes.docker.engine import Engine

_FIRST_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 5.0


class ContainerEvents:
    """Follows what happens to the containers that carry a label.

    Args:
        engine: Where they run.
        label: `name=value` that they carry.
    """

    def __init__(self, engine: Engine, label: str) -> None:
        # Given for life
        self._engine = engine
        self._filters = json.dumps({"type": ["container"], "event": ["die", "oom", "destroy"], "label": [label]})
        # By container id
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._out_of_memory: set[str] = set()
        # From open() to close()
        self._task: asyncio.Task[None] | None = None
        self._since: str | None = None

    def __repr__(self) -> str:
        return f"ContainerEvents(watched={len(self._watchers)}, open={self._task is not None})"

    def open(self) -> None:
        """Begin to follow, unless it has begun."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name="docker events")

    async def close(self) -> None:
        """Follow no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @contextmanager
    def watch(self, container: str) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever the container should be looked at."""
        self.open()
        changed = asyncio.Event()
        self._watchers.setdefault(container, set()).add(changed)
        try:
            yield changed
        finally:
            watchers = self._watchers[container]
            watchers.remove(changed)
            if not watchers:
                del self._watchers[container]

    def ran_out_of_memory(self, container: str) -> bool:
        """Whether the kernel killed any process of the container; its inspection tells of the first one only."""
        return container in self._out_of_memory

    async def _follow(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while not self._engine.is_closed:
            try:
                params = {"filters": self._filters} | ({"since": self._since} if self._since else {})
                async with self._engine.stream("GET", "events", params) as lines:
                    backoff_s = _FIRST_BACKOFF_S
                    self._wake(*self._watchers)
                    async for line in lines:
                        self._take(json.loads(line))
            except RuntimeUnavailable as error:
                logger.debug("Docker events: {}; next try in {:.1f} s", error, backoff_s)
            self._wake(*self._watchers)
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)

    def _take(self, event: Mapping[str, Any]) -> None:
        container, action = event["Actor"]["ID"], event["Action"]
        seconds, nanoseconds = divmod(event["timeNano"], 10**9)
        self._since = f"{seconds}.{nanoseconds:09}"
        if action == "oom":
            logger.warning("container {}: the kernel killed a process of it for want of memory", container[:12])
            self._out_of_memory.add(container)
        elif action == "destroy":
            self._out_of_memory.discard(container)
        self._wake(container)

    def _wake(self, *containers: str) -> None:
        for container in containers:
            for changed in self._watchers.get(container, ()):
                changed.set()
