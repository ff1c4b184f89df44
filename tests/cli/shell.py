"""The command line as a user runs it: a process of its own, and what it said."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

GUARD_S = 20
AI_PROXY = (sys.executable, "-m", "ai_proxy")


@dataclass(frozen=True, slots=True)
class Said:
    """What a command left behind."""

    status: int
    out: str
    err: str


def environ(home: Path, **more: str) -> dict[str, str]:
    """An environment in which no config of this machine is found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AI_PROXY", "XDG_"))}
    return {**kept, "HOME": str(home), "COLUMNS": "120", **more}


def run(home: Path, *words: str, **more: str) -> Said:
    """Run a command in a directory, which is its home too, to its end."""
    command = [*AI_PROXY, *words]
    done = subprocess.run(
        command, check=False, cwd=home, env=environ(home, **more), capture_output=True, text=True, timeout=GUARD_S
    )
    return Said(done.returncode, done.stdout, done.stderr)


@contextmanager
def running(home: Path, *words: str, **more: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a command until the block ends."""
    command = subprocess.Popen(
        [*AI_PROXY, *words],
        cwd=home,
        env=environ(home, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with command:
        try:
            yield command
        finally:
            command.kill()


def interrupt(command: "subprocess.Popen[str]") -> Said:
    """Press Ctrl-C."""
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=GUARD_S)
    return Said(command.returncode, out, err)
