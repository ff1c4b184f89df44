"""Images: whether one is here, and fetching it with progress, once for all who wait for it.

Owns the pulls that are under way. A pull may take as long as it moves: its deadline counts from the last progress.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ai_proxy.config.models import PullPolicy
from ai_proxy.errors import StartFailed
from ai_proxy.runtimes.base import Progress
from ai_proxy.runtimes.docker.auth import registry_auth
from ai_proxy.runtimes.docker.engine import Engine, EngineRefused

_MIB = 1 << 20


def split_reference(image: str) -> tuple[str, str]:
    """Part an image's name from its tag or digest; without one the engine would fetch every tag.

    Example:
        >>> split_reference("ghcr.io/ggml-org/llama.cpp:server"), split_reference("localhost:5000/x")
        (('ghcr.io/ggml-org/llama.cpp', 'server'), ('localhost:5000/x', 'latest'))
        >>> split_reference("busybox@sha256:ab")
        ('busybox', 'sha256:ab')
    """
    name, at, digest = image.partition("@")
    if at:
        return name, digest
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


class Layers:
    """What a pull's messages add up to. Pure.

    Example:
        >>> layers = Layers()
        >>> layers.take({"id": "a", "status": "Downloading", "progressDetail": {"current": 1048576, "total": 4194304}})
        True
        >>> layers.words
        '25 % of 4 MiB'
    """

    def __init__(self) -> None:
        self._layers: dict[str, tuple[str, int, int]] = {}

    def __repr__(self) -> str:
        return f"Layers({self.words})"

    def take(self, message: Mapping[str, Any]) -> bool:
        """Take one message; tell whether anything moved."""
        layer, detail = message.get("id", ""), message.get("progressDetail") or {}
        status, known = message.get("status", ""), self._layers.get(layer, ("", 0, 0))
        now = (status, detail.get("current", known[1]), detail.get("total", known[2]))
        self._layers[layer] = now
        return now != known

    @property
    def words(self) -> str:
        """How far the pull is, for people."""
        total = sum(total for _, _, total in self._layers.values())
        if not total:
            return "waiting for the registry"
        if any(status == "Extracting" for status, _, _ in self._layers.values()):
            return f"extracting {total / _MIB:.0f} MiB"
        done = sum(min(current, total) for _, current, total in self._layers.values())
        return f"{100 * done // total} % of {total / _MIB:.0f} MiB"


@dataclass(eq=False, slots=True)
class _Pull:
    """One pull under way, and who is told of it."""

    task: asyncio.Task[None]
    words: str = ""
    listeners: list[Progress] = field(default_factory=list)

    def tell(self, words: str) -> None:
        if words != self.words:
            self.words = words
            for listener in self.listeners:
                listener(words)


class Images:
    """The images of one engine.

    Args:
        engine: Where they are kept.
        auth: Finds the login for an image's registry.
    """

    def __init__(self, engine: Engine, auth: Callable[[str], Awaitable[str | None]] = registry_auth) -> None:
        self._engine = engine
        self._auth = auth
        # Pulls that may be joined, by image; and every one that has not ended
        self._pulls: dict[str, _Pull] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Images(pulling={sorted(self._pulls)})"

    async def ensure(self, image: str, policy: PullPolicy, progress: Progress) -> None:
        """Have the image here, as the policy says.

        Raises:
            StartFailed: It is not here and may not or could not be pulled.
            RuntimeUnavailable: The engine does not answer.
        """
        if policy is not PullPolicy.ALWAYS and await self._is_here(image):
            return
        if policy is PullPolicy.NEVER:
            raise StartFailed(f"image {image} is not on this machine and pull_policy is never: pull it first")
        await self.pull(image, progress)

    async def pull(self, image: str, progress: Progress) -> None:
        """Fetch the image, or join whoever fetches it already; the last to leave ends the pull.

        Raises:
            StartFailed: It could not be pulled, with the cause.
            RuntimeUnavailable: The engine does not answer.
        """
        pull = self._pulls.get(image) or self._begin(image)
        pull.listeners.append(progress)
        if pull.words:
            progress(pull.words)
        try:
            await asyncio.shield(pull.task)
        except EngineRefused as refused:
            raise StartFailed(f"image {image} can't be pulled: {refused.reason}") from refused
        finally:
            pull.listeners.remove(progress)
            if not pull.listeners:
                self._forget(image, pull)
                pull.task.cancel()

    async def close(self) -> None:
        """End every pull."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, image: str) -> _Pull:
        task = asyncio.create_task(self._run(image), name=f"pull {image}")
        pull = self._pulls[image] = _Pull(task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._forget(image, pull))
        return pull

    def _forget(self, image: str, pull: _Pull) -> None:
        if self._pulls.get(image) is pull:
            del self._pulls[image]

    async def _is_here(self, image: str) -> bool:
        try:
            async with self._engine.call() as docker:
                await docker.images.inspect(image)
        except EngineRefused as refused:
            if refused.engine_status == 404:
                return False
            raise
        return True

    async def _run(self, image: str) -> None:
        pull = self._pulls[image]
        pull.tell(f"pulling {image}: waiting for the registry")
        name, tag = split_reference(image)
        login = await self._auth(image)
        stall_s, layers = self._engine.deadlines.stall_s, Layers()
        async with self._engine.stream(
            "POST",
            "images/create",
            {"fromImage": name, "tag": tag},
            headers={"X-Registry-Auth": login} if login else None,
            head_s=stall_s,
        ) as messages:
            try:
                async with asyncio.timeout(stall_s) as stall:
                    async for line in messages:
                        if layers.take(_message(line)):
                            stall.reschedule(asyncio.get_running_loop().time() + stall_s)
                            pull.tell(f"pulling {image}: {layers.words}")
            except TimeoutError:
                raise EngineRefused(0, f"no progress for {stall_s:.0f} s") from None
        if not await self._is_here(image):
            raise EngineRefused(0, "the engine ended the pull without the image")


def _message(line: bytes) -> Mapping[str, Any]:
    message: Mapping[str, Any] = json.loads(line)
    if error := message.get("error"):
        raise EngineRefused(0, str((message.get("errorDetail") or {}).get("message") or error))
    return message
