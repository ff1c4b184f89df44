"""What was learned of services, and outlives the proxy: read from memory, written behind.

It owns the figures in memory and the one thread that speaks to the database; reading never waits for it, and a disk
that fails or hangs costs what was learned since, never a request. Must not know who measures or what the figures are
used for.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from loguru import logger

from ai_proxy.control.database import Database, Key, Spoilt
from ai_proxy.control.worker import Worker
from ai_proxy.scheduler.figures import Figures, merged

FILE_NAME = "learned.db"
LIMIT = 2000
GATHER_S = 1.0
MEMO_EVERY_S = 300.0
DEADLINE_S = 5.0


class Learned:
    """Figures by what shapes a replica and the model of GPU, and memos by name.

    Until `open`, and where the file can't be used, they are kept in memory alone.

    Args:
        path: The database's file.
        limit: Keys kept; beyond, those that were noted longest ago are forgotten.
        gather_s: What is noted within this time is written together.
        memo_every_s: Memos are asked for and written this often.
    """

    def __init__(
        self, path: Path, *, limit: int = LIMIT, gather_s: float = GATHER_S, memo_every_s: float = MEMO_EVERY_S
    ) -> None:
        self._path = path
        self._limit = limit
        self._gather_s = gather_s
        self._memo_every_s = memo_every_s

        self._figures: dict[Key, Figures] = {}
        self._devices: dict[str, dict[str, None]] = {}
        self._memos: Mapping[str, object] = {}
        self._sources: dict[str, Callable[[], object]] = {}

        # What the file does not hold yet.
        self._dirty: set[Key] = set()
        self._forgotten: set[Key] = set()
        self._noted = asyncio.Event()
        self._is_failing = False

        self._database = Database(path)
        self._worker: Worker | None = None
        self._writing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Learned {len(self._figures)} figures, {len(self._dirty)} not written, in {self._path}>"

    async def open(self, deadline_s: float = DEADLINE_S) -> None:
        """Read what earlier lives have learned, and write down from now on what this one does."""
        self._worker = Worker("learned")
        try:
            figures, self._memos = await self._worker.call(self._database.load, deadline_s)
        except Spoilt as spoilt:
            logger.warning("{}: everything is learned anew", spoilt)
        except (TimeoutError, OSError, sqlite3.Error) as error:
            logger.warning("Can't read {}: everything is learned anew ({!r})", self._path, error)
        else:
            for key, one in figures.items():
                self._put(key, one)
        self._writing = asyncio.create_task(self._write_behind(), name="write down what is learned")

    async def aclose(self, deadline_s: float = DEADLINE_S) -> None:
        """Write down what is left, and let the file go; what can't be written in time is lost."""
        if self._writing is None or self._worker is None:
            return
        self._writing.cancel()
        await asyncio.wait({self._writing})
        await self._flush(self._worker, deadline_s)
        with suppress(TimeoutError, sqlite3.Error):
            await self._worker.call(self._database.close, deadline_s)
        self._worker.close()
        self._writing = self._worker = None

    # Figures

    def get(self, spec_hash: str, device: str) -> Figures | None:
        """What was learned of a replica of this shape on this model of GPU."""
        return self._figures.get((spec_hash, device))

    def over_all(self, spec_hash: str) -> Figures | None:
        """What was learned of a replica of this shape on any device."""
        return merged(self._figures[spec_hash, device] for device in self._devices.get(spec_hash, ()))

    def note(self, spec_hash: str, device: str, change: Callable[[Figures], Figures]) -> bool:
        """Take a new finding; written down soon.

        Args:
            spec_hash: Of what shapes the replica.
            device: The model of GPU that it runs on; empty if it needs none.
            change: Adds the finding to the figures.

        Returns:
            Whether it was news.
        """
        key = spec_hash, device
        known = self._figures.get(key, Figures())
        news = change(known)
        if news == known:
            return False
        self._put(key, news)
        self._dirty.add(key)
        self._noted.set()
        return True

    # Memos

    def memo(self, name: str) -> object | None:
        """What an earlier life has left under a name, as JSON gives it back; None if nothing."""
        return self._memos.get(name)

    def keep(self, name: str, source: Callable[[], object]) -> None:
        """Ask for a memo every few minutes and at the end; what it gives must be fit for JSON."""
        self._sources[name] = source

    def _put(self, key: Key, figures: Figures) -> None:
        self._figures.pop(key, None)
        self._figures[key] = figures
        self._devices.setdefault(key[0], {})[key[1]] = None
        self._forgotten.discard(key)
        while len(self._figures) > self._limit:
            self._forget(next(iter(self._figures)))

    def _forget(self, key: Key) -> None:
        spec_hash, device = key
        del self._figures[key]
        del self._devices[spec_hash][device]
        if not self._devices[spec_hash]:
            del self._devices[spec_hash]
        self._dirty.discard(key)
        self._forgotten.add(key)

    async def _write_behind(self) -> None:
        while self._worker is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._memo_every_s):
                    await self._noted.wait()
            await asyncio.sleep(self._gather_s)
            await self._flush(self._worker, DEADLINE_S)
            if self._is_failing:
                await asyncio.sleep(self._memo_every_s)

    async def _flush(self, worker: Worker, deadline_s: float) -> None:
        """Write what the file does not hold yet; what could not be written stays to be written."""
        self._noted.clear()
        try:
            memos = {name: source() for name, source in self._sources.items()}
            try:
                await self._save(worker, memos, deadline_s)
            except Spoilt as spoilt:
                logger.warning("{}: all that is known is written anew", spoilt)
                self._dirty.update(self._figures)
                await self._save(worker, memos, deadline_s)
        except Exception as error:  # noqa: BLE001  # a disk's fault or a memo's: serving goes on, and so does learning
            if not self._is_failing:
                logger.warning("Can't write {}: what is learned lasts as long as this process: {!r}", self._path, error)
            self._is_failing = True
        else:
            self._is_failing = False

    async def _save(self, worker: Worker, memos: Mapping[str, object], deadline_s: float) -> None:
        dirty, forgotten = self._dirty, self._forgotten
        if not (dirty or forgotten or memos):
            return
        self._dirty, self._forgotten = set(), set()
        # In the order of noting, which is the order of the file.
        figures = {key: one for key, one in self._figures.items() if key in dirty}
        try:
            await worker.call(partial(self._database.save, figures, forgotten, memos), deadline_s)
        except BaseException:
            self._dirty |= dirty & self._figures.keys()
            self._forgotten |= forgotten - self._figures.keys()
            raise
