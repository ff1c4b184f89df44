"""Reading files into the page cache before somebody needs them. Blocking; runs in a thread."""

import os
import threading
from collections.abc import Iterable
from pathlib import Path

CHUNK_BYTES = 8 * 1024 * 1024
SHARE = 0.8
"""Of the memory that is available: more would drive out what was read first."""


def read_ahead(paths: Iterable[Path], stop: threading.Event, limit_bytes: int | None = None) -> int:
    """Have the kernel read files, from their beginnings on, as far as memory goes.

    Args:
        paths: The files, the first to be needed first.
        stop: Set, it ends the reading within one chunk.
        limit_bytes: How much to read in all; by default a share of the memory that is available now.

    Returns:
        How much was read, in MiB.

    Raises:
        OSError: A file can't be read.
    """
    left = limit = int(available_bytes() * SHARE) if limit_bytes is None else limit_bytes
    for path in paths:
        if left <= 0 or stop.is_set():
            break
        left -= _read_one(path, stop, left)
    return (limit - left) // (1024 * 1024)


def _read_one(path: Path, stop: threading.Event, limit_bytes: int) -> int:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        end = min(os.fstat(file).st_size, limit_bytes)
        done = 0
        while done < end and not stop.is_set():
            size = min(CHUNK_BYTES, end - done)
            os.posix_fadvise(file, done, size, os.POSIX_FADV_WILLNEED)
            # One byte of the chunk before waits for it: the disk sets the pace, and a stop finds little under way.
            os.pread(file, 1, max(done - 1, 0))
            done += size
        return done
    finally:
        os.close(file)


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that can be had without swapping, page cache that would be dropped included; 0 where nobody tells.

    Example:
        >>> available_bytes(Path("/nowhere"))
        0
    """
    try:
        lines = meminfo.read_text("ascii").splitlines()
    except OSError:
        return 0
    figures = (line.split() for line in lines if line.startswith("MemAvailable:"))
    return next((int(words[1]) * 1024 for words in figures), 0)
