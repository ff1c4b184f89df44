"""Whether the process behind a replica still lives: one small read of `/proc`, exact to the step of its end.

Asked before a new connection is used, so that nobody who takes over the address of a replica that has ended hears a
request. It knows pids and nothing of what runs as them; whose pid it is, its runtime says.
"""

from dataclasses import dataclass

from ai_proxy.runtimes.process.guard import Stat


@dataclass(frozen=True, slots=True)
class Living:
    """Tells, when called, whether a process lives.

    Two things make it exact. A pid that was given to another process is not taken for ours, by its start time. And a
    process counts as dead from the first step of its end: only then does it close its files, its ports among them, and
    only after that do its parent hear and a pidfd tell of it, for an engine with many files a tenth of a second later.

    Attributes:
        pid: Its pid.
        started: When it began, in clock ticks since boot.
    """

    pid: int
    started: int

    def __call__(self) -> bool:
        """Ask; whoever can't be seen is dead."""
        try:
            now = Stat(self.pid)
        except (OSError, IndexError):
            return False
        return now.started == self.started and not now.is_ending


def living(pid: int) -> Living | None:
    """Tell of a process that lives now; None if it does not, or can't be seen from here."""
    try:
        return Living(pid, Stat(pid).started)
    except (OSError, IndexError):
        return None
