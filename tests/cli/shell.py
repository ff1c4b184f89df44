"""The command line: what a command said, run here; or as a user runs it, in a process of its own.

Most commands need no process of their own to be judged, and starting Python anew costs more than they do. Those that
do need one start others, follow signals, serve, or write where only a descriptor reaches.
"""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from ai_proxy.cli import main

GUARD_S = 40
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
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with _as_a_process_would(home, ("ai-proxy", *words), environ(home, **more)):
        status = 0
        try:
            with redirect_stdout(out), redirect_stderr(err):
                main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Said(status, *(stream.buffer.getvalue().decode() for stream in (out, err)))


@contextmanager
def _as_a_process_would(home: Path, argv: tuple[str, ...], environ: dict[str, str]) -> Iterator[None]:
    """Give this process another directory, other words and another environment, for a while."""
    former_argv, former_environ = sys.argv, dict(os.environ)
    with chdir(home):
        try:
            sys.argv = list(argv)
            _replace_environ(environ)
            yield
        finally:
            sys.argv = former_argv
            _replace_environ(former_environ)


def _replace_environ(environ: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environ)


def run_apart(home: Path, *words: str, **more: str) -> Said:
    """Run a command to its end as `run` does, in a process of its own."""
    command = [*AI_PROXY, *words]
    done = subprocess.run(
        command, check=False, cwd=home, env=environ(home, **more), capture_output=True, text=True, timeout=GUARD_S
    )
    return Said(done.returncode, done.stdout, done.stderr)


@contextmanager
def running(home: Path, *words: str, **more: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a command in a process of its own until the block ends."""
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
