"""Finds and ends what a process replica left behind when its guard was killed too.

Every replica has a record in the state directory and a random token in its environment. A process is ours if it
carries the token, or if it is in the session whose leader has the recorded pid *and* start time; a pid alone is never
believed, for it may have been given to a stranger since.
"""

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from loguru import logger

from ai_proxy.runtimes.process.guard import Stat, processes

TOKEN_VARIABLE = "AI_PROXY_REPLICA"  # noqa: S105 - a name, not a secret
_GONE_WITHIN_S = 10.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Record:
    """What identifies a replica's processes.

    Attributes:
        token: Value of `AI_PROXY_REPLICA` in its environment, unlike any other.
        pid: The engine's process, which leads its session; 0 before it is known.
        started: When that process began, in clock ticks since boot; 0 where unknown.
        boot: The kernel's id for this boot; ticks and pids mean nothing in another.
    """

    token: str
    pid: int = 0
    started: int = 0
    boot: str = ""


def record_of(token: str, pid: int) -> Record:
    """Describe a process that was just started."""
    with suppress(OSError):
        return Record(token, pid, Stat(pid).started, _boot_id())
    return Record(token, pid)


def survivors(record: Record, *, orphaned_now: bool = False) -> list[int]:
    """List the processes that belong to a record and still run.

    Args:
        record: Of the replica.
        orphaned_now: Its guard died this moment, so no other session can have its number yet.
    """
    running = [process for process in processes() if process.is_running]
    leader = next((process for process in running if process.pid == record.pid), None)
    is_same = orphaned_now if leader is None else leader.started == record.started and record.boot == _boot_id()
    session = record.pid if is_same and record.pid else None
    return [process.pid for process in running if process.session == session or _carries(process.pid, record.token)]


def kill(record: Record, *, orphaned_now: bool = False) -> list[int]:
    """Kill all survivors at once; returns their pids, which may take a moment to vanish."""
    found = survivors(record, orphaned_now=orphaned_now)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


class Records:
    """The records in a state directory, one small file a replica. Losing them is no fault, only a lost chance."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __repr__(self) -> str:
        return f"Records({str(self._directory)!r})"

    def write(self, record: Record) -> None:
        """Keep a record; a disk that refuses is logged, since serving goes on without."""
        path = self._path(record.token)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            new.write_text(json.dumps(asdict(record)), encoding="utf-8")
            new.replace(path)
        except OSError as error:
            logger.warning("no record of a replica could be kept in {}: {}", self._directory, error)

    def remove(self, token: str) -> None:
        """Forget a replica that has ended."""
        with suppress(OSError):
            self._path(token).unlink()

    def clean(self) -> list[int]:
        """Kill what former lives left running, wait until it is gone and forget it; returns the pids. Blocks."""
        killed = []
        for path in sorted(self._directory.glob("*.json")):
            record = _read(path)
            if record is not None:
                killed += _end(record)
            with suppress(OSError):
                path.unlink()
        return killed

    def _path(self, token: str) -> Path:
        return self._directory / f"{token}.json"


def _read(path: Path) -> Record | None:
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        logger.warning("{} can't be read, so what it recorded is not cleaned up: {}", path, error)
        return None


def _end(record: Record) -> list[int]:
    killed = kill(record)
    deadline = time.monotonic() + _GONE_WITHIN_S
    while kill(record):
        if time.monotonic() > deadline:
            logger.error("processes {} of a former life do not die", survivors(record))
            break
        time.sleep(_POLL_S)
    return killed


def _carries(pid: int, token: str) -> bool:
    with suppress(OSError):
        return f"{TOKEN_VARIABLE}={token}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def _boot_id() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
