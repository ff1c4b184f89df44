"""Follow the config file: one turn of the iterator for each time its content, or what it finds, has changed.

Sees edits in place, atomic replacement, and the swap of a symlink anywhere on its path (Kubernetes mounts a ConfigMap
that way). Compares contents, not events: a touch, or a change back before anyone looked, yields nothing. Does not
read the config.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from pathlib import Path

from watchfiles import awatch

from ai_proxy.config.model_files import fixed_part, names

_DEBOUNCE_MS = 200
_RETRY_S = 1.0


class Watcher:
    """Yields after each change; changes that come while the reader is busy become one.

    Args:
        path: The config file. Its content at this moment is what changes are measured against.
        look_every_s: How often to look without an event: events can be lost, on network mounts for one, and there is
            a moment before the watch stands.
        files: Tells the files whose contents count as well, certificates for one.
        patterns: Tells the absolute patterns of the model files that the config in force looks for: that some came or
            went counts as a change. Below the directory where a pattern starts, changes are seen only by looking.

    Example:
        `async for _ in Watcher(path): reload()`
    """

    def __init__(
        self,
        path: Path,
        look_every_s: float = 2.0,
        *,
        files: Callable[[], Iterable[Path]] = tuple,
        patterns: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._path = path
        self._look_every_s = look_every_s
        self._files = files
        self._patterns = patterns
        self._digest = self._look()

    def __repr__(self) -> str:
        return f"<Watcher {self._path}>"

    async def __aiter__(self) -> AsyncGenerator[None]:
        """Wait for changes until cancelled; a file that is gone for a while is waited for."""
        while True:
            try:
                async with aclosing(self._changes()) as changes:
                    async for _ in changes:
                        yield
            except FileNotFoundError:
                # The directory itself is being replaced.
                await asyncio.sleep(_RETRY_S)

    async def _changes(self) -> AsyncGenerator[None]:
        """Yield changes for as long as the same directories are the right ones to watch."""
        watched = await asyncio.to_thread(self._watched)
        events = awatch(
            *watched,
            watch_filter=None,
            debounce=_DEBOUNCE_MS,
            step=50,
            recursive=False,
            rust_timeout=int(self._look_every_s * 1000),
            yield_on_timeout=True,
        )
        async with aclosing(events):
            async for _ in events:
                digest = await asyncio.to_thread(self._look)
                if digest is not None and digest != self._digest:
                    self._digest = digest
                    yield
                if await asyncio.to_thread(self._watched) != watched:
                    return

    def _look(self) -> bytes | None:
        """The hash of the contents and of the names that are found, or None while there is no readable file."""
        try:
            seen = hashlib.sha256(self._path.read_bytes())
        except OSError:
            return None
        for file in self._files():
            with suppress(OSError):
                seen.update(hashlib.sha256(file.read_bytes()).digest())
        for pattern in self._patterns():
            seen.update(repr(names(pattern)).encode())
        return seen.digest()

    def _watched(self) -> Mapping[Path, int]:
        """The directories to watch, each with its inode."""
        watched: dict[Path, int] = {}
        for file in (self._path, *self._files()):
            watched |= _directories(file)
        starts = [_existing(fixed_part(pattern).resolve()) for pattern in self._patterns()]
        return {**watched, **{start: start.stat().st_ino for start in starts}}


def _directories(path: Path) -> Mapping[Path, int]:
    """The directories in which a step on the way to the file may be replaced, each with its inode.

    These are the file's own directory and that of every symlink on its way. The inode tells a directory from its
    successor of the same name, which an old watch does not see.
    """
    found: dict[Path, int] = {}
    links: set[Path] = set()
    ways = [path.absolute()]
    while ways:
        way = ways.pop()
        new_links = [step for step in (way, *way.parents) if step.is_symlink() and step not in links]
        links.update(new_links)
        ways.extend(link.parent / link.readlink() for link in new_links)
        for directory in (way.parent, *(link.parent for link in new_links)):
            real = _existing(directory.resolve())
            found[real] = real.stat().st_ino
    return found


def _existing(directory: Path) -> Path:
    """The directory, or while it is missing the nearest one above it, where it will appear."""
    return next((place for place in (directory, *directory.parents) if place.is_dir()), Path("/"))
