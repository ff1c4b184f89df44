"""The file of what was learned: a small SQLite database, every call of which blocks.

It owns the file and its schema. A file that can't be used is moved aside, never deleted: what it held can be learned
again, and somebody may want to see what became of it. Must not know when or by which thread it is called, except
that this is always the same one.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from ai_proxy.scheduler.figures import RECENT, Figures

VERSION = 1
BUSY_S = 2.0

type Key = tuple[str, str]
"""Spec hash of a service, and the model of the GPU that it ran on; the latter is empty for one that needs none."""

_SCHEMA = """
CREATE TABLE figures (
    spec_hash TEXT NOT NULL, device TEXT NOT NULL, figures TEXT NOT NULL, PRIMARY KEY (spec_hash, device)
);
CREATE TABLE memos (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
# The last is what a table or a column that is missing comes as.
_USELESS = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})


def peek(path: Path) -> dict[Key, Figures]:
    """All figures of a file that belongs to somebody who may be writing to it: it is neither changed nor made.

    Raises:
        sqlite3.Error: It can't be read.
        ValueError: It is no database of ours.
    """
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as db:
        rows = db.execute("SELECT spec_hash, device, figures FROM figures ORDER BY rowid").fetchall()
    try:
        return {(spec_hash, device): _figures(text) for spec_hash, device, text in rows}
    except (TypeError, KeyError, AttributeError) as fault:
        raise ValueError(f"not figures as this version keeps them: {fault!r}") from fault


class Spoilt(Exception):
    """The file is no database of ours; it was moved aside, and the next call makes an empty one."""


class Database:
    """A database that is opened by the first call that needs it.

    Args:
        path: Its file; made if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def __repr__(self) -> str:
        return f"<Database {self._path}{'' if self._db else ', closed'}>"

    def load(self) -> tuple[dict[Key, Figures], dict[str, object]]:
        """All figures, those noted last coming last, and all memos.

        Raises:
            Spoilt: The file could not be used.
            sqlite3.Error: It can't be read now.
        """
        with self._at_work() as db:
            rows = db.execute("SELECT spec_hash, device, figures FROM figures ORDER BY rowid").fetchall()
            memos = db.execute("SELECT name, value FROM memos").fetchall()
            figures = {(spec_hash, device): _figures(text) for spec_hash, device, text in rows}
            return figures, {name: json.loads(value) for name, value in memos}

    def save(self, figures: Mapping[Key, Figures], forgotten: Iterable[Key], memos: Mapping[str, object]) -> None:
        """Write down figures and memos, and drop the figures of some keys; all or nothing.

        Raises:
            Spoilt: The file could not be used.
            sqlite3.Error: It can't be written now.
        """
        rows = [(*key, _text(one)) for key, one in figures.items()]
        texts = [(name, json.dumps(value)) for name, value in memos.items()]
        with self._at_work() as db, db:
            db.executemany("INSERT OR REPLACE INTO figures VALUES (?, ?, ?)", rows)
            db.executemany("DELETE FROM figures WHERE spec_hash = ? AND device = ?", list(forgotten))
            db.executemany("INSERT OR REPLACE INTO memos VALUES (?, ?)", texts)

    def close(self) -> None:
        """Close it; idempotent."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    @contextmanager
    def _at_work(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection; tell a file that can't be used from a trouble of the moment."""
        try:
            self._db = self._db or _open(self._path)
            yield self._db
        except (sqlite3.DatabaseError, _Foreign, ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, sqlite3.DatabaseError) and _code(error) not in _USELESS:
                raise
            self.close()
            aside = _move_aside(self._path)
            raise Spoilt(f"{self._path} can't be used ({error}); it was moved to {aside}") from error


class _Foreign(Exception):
    """A database of another version."""


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in {0, VERSION}:
            raise _Foreign(f"it is of version {version}, this proxy's is {VERSION}")
        if version == 0:
            db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def _move_aside(path: Path) -> Path:
    """Rename the file and what belongs to it; an older one that was moved aside is replaced."""
    aside = path.with_name(f"{path.name}.spoilt")
    for tail in ("", "-wal", "-shm"):
        part = path.with_name(path.name + tail)
        if part.exists():
            part.replace(aside.with_name(aside.name + tail))
    return aside


def _code(error: sqlite3.DatabaseError) -> int:
    """SQLite's primary code; the extended ones have more in the higher bits."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _text(figures: Figures) -> str:
    return json.dumps(
        {
            "peak_vram_mb": figures.peak_vram_mb,
            "loads_s": figures.loads_s,
            "stops_s": figures.stops_s,
            "wakes_s": {str(level): wakes_s for level, wakes_s in figures.wakes_s.items()},
        }
    )


def _figures(text: str) -> Figures:
    said = json.loads(text)
    peak = said["peak_vram_mb"]
    return Figures(
        None if peak is None else int(peak),
        _durations(said["loads_s"]),
        _durations(said["stops_s"]),
        {int(level): _durations(wakes_s) for level, wakes_s in said["wakes_s"].items()},
    )


def _durations(said: Iterable[object]) -> tuple[float, ...]:
    return tuple(float(str(seconds)) for seconds in said)[-RECENT:]
