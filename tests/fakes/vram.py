"""What the fake engine holds on its GPUs, as the NVML stub shows it, and how it sleeps, as vLLM does.

Standard library only: it is imported by a program that runs without anything else. The stub's GPUs are the lines of
the file $NVML_STUB (see `tests/assets/nvml/stub.c`); several engines may change it at once.
"""

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

USED, PROCESSES = 3, 7
"""Fields of a GPU's line."""
TAGS = frozenset({"weights", "kv_cache"})


def show(stub: Path, pid: int, held_mb: Mapping[str, int]) -> None:
    """Have a process hold so much of each GPU, by UUID, and nothing of the others."""
    with stub.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = [_line(line, pid, held_mb) for line in stub.read_text().splitlines()]
        fresh = stub.with_suffix(f".{pid}")
        fresh.write_text("".join(f"{line}\n" for line in lines))
        fresh.replace(stub)


def _line(line: str, pid: int, held_mb: Mapping[str, int]) -> str:
    fields = line.split("|")
    if len(fields) < PROCESSES:
        return line
    processes = {
        one: mb
        for one, _, mb in (it.partition(":") for it in "".join(fields[PROCESSES:]).split(","))
        if one not in {"", "-"}
    }
    held_before = int(processes.pop(str(pid), 0))
    if held := held_mb.get(fields[0], 0):
        processes[str(pid)] = str(held)
    used = int(fields[USED]) - held_before + held
    shown = ",".join(f"{one}:{mb}" for one, mb in processes.items())
    return "|".join([*fields[:USED], str(used), *fields[USED + 1 : PROCESSES], shown])


@dataclass
class Vram:
    """The VRAM of one engine.

    Attributes:
        held_mb: What it holds awake, by the GPU's UUID.
        keeps_mb: What stays on each GPU asleep.
        can_sleep: It was started so that it can.
        stays_awake: It says yes to a call to sleep and does not.
        asleep: Tags of the memory that it gave back.
        has_weights: What its weights' memory holds are its weights.
        calls: The calls to sleep and wake, in order.
    """

    held_mb: Mapping[str, int]
    keeps_mb: int = 0
    can_sleep: bool = False
    stays_awake: bool = False
    asleep: set[str] = field(default_factory=set)
    has_weights: bool = True
    calls: list[str] = field(default_factory=list)

    def tell(self) -> None:
        """Have the stub show what is held now."""
        held = dict.fromkeys(self.held_mb, self.keeps_mb) if self.asleep else self.held_mb
        self._show(held)

    def leave(self) -> None:
        """Have the stub show that nothing is held any more."""
        self._show({})

    def sleep(self, level: int) -> bool:
        """Give the memory back; False: it was not started for that."""
        if self.can_sleep and not self.stays_awake:
            self.asleep = set(TAGS)
            self.has_weights = level == 1
            self.tell()
        return self.can_sleep

    def wake(self, tags: list[str]) -> None:
        """Take the memory again, all of it or some."""
        self.asleep -= set(tags) or TAGS
        self.tell()

    def reload(self) -> bool:
        """Read the weights again, which needs their memory; False: there is none."""
        if "weights" in self.asleep:
            return False
        self.has_weights = True
        return True

    def _show(self, held_mb: Mapping[str, int]) -> None:
        stub = os.environ.get("NVML_STUB")
        if stub and self.held_mb:
            show(Path(stub), os.getpid(), held_mb)
