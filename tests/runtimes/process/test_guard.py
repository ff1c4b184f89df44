"""The guard as a program: what it is told on its descriptors, and what it answers."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ai_proxy.runtimes.process import guard

pytestmark = pytest.mark.slow

WAITS = ("/bin/sh", "-c", "trap 'exit 5' TERM; echo up >&2; while :; do sleep 0.02; done")
DEAF = ("/bin/sh", "-c", "trap '' TERM; echo up >&2; while :; do sleep 0.02; done")


@contextmanager
def guarded(*command: str, grace_s: float = 5) -> Iterator["subprocess.Popen[str]"]:
    pipe = subprocess.PIPE
    argv = (sys.executable, "-I", "-S", guard.__file__, str(grace_s), *command)
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        yield process


def said(process: "subprocess.Popen[str]") -> list[str]:
    """What it reports up to its end, the engine's pid left out."""
    assert process.stdout is not None
    return [line if not line.startswith("started") else "started" for line in process.stdout.read().splitlines()]


def up(process: "subprocess.Popen[str]") -> None:
    assert process.stderr is not None
    assert process.stderr.readline() == "up\n"


@pytest.mark.parametrize(
    ("command", "report", "status"),
    [
        (("/bin/sh", "-c", "exit 7"), "exited 7", 7),
        (("/bin/sh", "-c", "kill -SEGV $$"), "signaled 11", 139),
        (("/bin/true",), "exited 0", 0),
    ],
)
def test_passes_on_how_the_engine_ended(command: tuple[str, ...], report: str, status: int) -> None:
    with guarded(*command) as process:
        assert said(process) == ["started", report]
    assert process.returncode == status


def test_tells_why_the_engine_cannot_run() -> None:
    with guarded("/no/such") as process:
        assert said(process) == ["failed 2"]
    assert process.returncode == 127


def test_the_end_of_the_lifeline_ends_the_engine() -> None:
    with guarded(*WAITS) as process:
        up(process)
        assert process.stdin is not None
        process.stdin.close()
        assert said(process) == ["started", "exited 5"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_guard_ends_the_engine(number: signal.Signals) -> None:
    with guarded(*WAITS) as process:
        up(process)
        process.send_signal(number)
        assert said(process) == ["started", "exited 5"]


def test_an_order_sets_the_grace() -> None:
    with guarded(*DEAF, grace_s=3600) as process:
        up(process)
        assert process.stdin is not None
        process.stdin.write("0.05\n")
        process.stdin.flush()
        assert said(process) == ["started", "signaled 9"]


def test_the_engine_inherits_no_descriptor_and_no_ignored_signal() -> None:
    script = "ls /proc/self/fd | wc -l >&2; grep SigIgn /proc/self/status >&2"
    with guarded("/bin/sh", "-c", script) as process:
        assert process.stderr is not None
        descriptors, ignored = process.stderr.read().splitlines()
    assert int(descriptors) == 4  # three, and the one by which `ls` reads
    # glibc keeps signals 32 and 33 for itself, and may leave them ignored in what it spawns.
    assert int(ignored.split()[1], 16) & ~(0b11 << 31) == 0


def test_the_engine_leads_a_session_of_its_own() -> None:
    with guarded(*WAITS) as process:
        up(process)
        assert process.stdout is not None
        engine = int(process.stdout.readline().split()[1])
        assert (os.getsid(engine), os.getpgid(engine)) == (engine, engine)
        process.terminate()
