"""One live proxy per name: a lock on the state directory, held for as long as the process lives.

The kernel drops the lock with the process, however it ends, so a stale one can't exist.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class AlreadyRunning(Exception):
    """Another proxy of the same name lives.

    Attributes:
        pid: Its process, if it could be read.
    """

    def __init__(self, directory: Path, pid: int | None) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"{who} is a proxy of the same name: stop it, or give this one its own `name` ({directory})")
        self.pid = pid


class InstanceLock:
    """Holds `<state_dir>/lock`; the file names the holder's pid.

    Args:
        directory: The state directory; made if it is missing, for its owner only.

    Raises:
        AlreadyRunning: Somebody else holds it.
        OSError: The directory can't be made or written.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory = directory
        self._fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(self._fd, 32).decode("ascii", "ignore").strip()
            os.close(self._fd)
            raise AlreadyRunning(directory, int(pid) if pid.isdigit() else None) from None
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())

    def __repr__(self) -> str:
        return f"<InstanceLock on {self.directory}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let the lock go; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
