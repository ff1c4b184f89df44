"""What the kernel says of this machine: its memory, and what a process is called."""

from dataclasses import dataclass
from pathlib import Path

import psutil

from ai_proxy.inventory.reading import MIB

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class HostMemory:
    """The machine's memory, in MiB.

    Attributes:
        total_mb: What it has.
        used_mb: What a new process could not get without swapping; caches count as free.
    """

    total_mb: int
    used_mb: int


def memory() -> HostMemory:
    """Read the machine's memory; blocks, for some tens of microseconds."""
    read = psutil.virtual_memory()
    return HostMemory(read.total // MIB, (read.total - read.available) // MIB)


def process_name(pid: int, proc: Path = PROC) -> str:
    """What a process is called; empty where none of that number is visible from here.

    Example:
        >>> process_name(0)
        ''
    """
    try:
        return (proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
