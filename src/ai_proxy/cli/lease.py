"""Runs a program that holds a lease for as long as it lives.

The program is shown the GPUs of the lease and no others, gets the signals that the command gets, and its exit status
is the command's. Heartbeats that fail never end it: it has its memory already.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from ai_proxy.cli.client import Client, Refusal
from ai_proxy.cli.failure import Failure

NOT_FOUND = 127
BEATS = 3
"""Heartbeats within a lease's time: two may get lost."""
ANSWER_S = 5.0
RETAKE_S = 1.0
MAX_PIDS = 1024
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_under_lease(client: Client, wish: Mapping[str, Any], command: Sequence[str]) -> int:
    """Take a lease, run a program, give the lease back.

    Args:
        client: The proxy.
        wish: What to hold, as the API takes it.
        command: The program and its arguments.

    Returns:
        The program's exit status; 128 and the signal's number if one ended it.

    Raises:
        Failure: There is no such program, or no room for it.
    """
    if shutil.which(command[0]) is None:
        raise Failure(f"there is no program {command[0]!r}", NOT_FOUND)
    heart = _Heart(client, wish)
    try:
        environment = {**os.environ, **heart.lease["environment"], "AI_PROXY_LEASE": heart.lease["id"]}
        with (
            subprocess.Popen(command, env=environment) as child,  # noqa: S603  # what its user has typed
            _passing_on_signals(child),
        ):
            while True:
                heart.beat(_family(child.pid))
                with suppress(subprocess.TimeoutExpired):
                    status = child.wait(wish["ttl_s"] / BEATS)
                    return status if status >= 0 else 128 - status
    finally:
        heart.stop()


class _Heart:
    """Keeps a lease alive; takes it anew where the proxy has forgotten it, being another one than it was.

    Attributes:
        lease: The lease as the API says it.
    """

    def __init__(self, client: Client, wish: Mapping[str, Any]) -> None:
        self._client = client
        self._wish = wish
        self._is_failing = False
        self.lease = client.take_lease(wish)
        _say(f"holds {self.lease['vram_mb']:,} MB on GPU {', '.join(self.lease['devices'])}")

    def beat(self, pids: Sequence[int]) -> None:
        """Renew it; what goes wrong is said once."""
        try:
            try:
                self._client.renew_lease(self.lease["id"], pids, ANSWER_S)
            except Refusal as refusal:
                if refusal.http_status != 404:
                    raise
                # The program is on its GPUs for good: the lease has to be for the same ones.
                there = {"device": self.lease["devices"], "gpus": 1, "wait_s": RETAKE_S, "pids": list(pids)}
                self.lease = self._client.take_lease({**self._wish, **there})
        except Failure as failure:
            if not self._is_failing:
                _say(f"its room is not held for now: {failure}")
            self._is_failing = True
        else:
            if self._is_failing:
                _say("its room is held again")
            self._is_failing = False

    def stop(self) -> None:
        """Give it back; if that can't be told, it ends by itself."""
        with suppress(Failure):
            self._client.end_lease(self.lease["id"])


@contextmanager
def _passing_on_signals(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Let the program have the signals that ask us to end; it is what decides."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGINT or not _is_in_foreground():
            child.send_signal(number)

    former = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _is_in_foreground() -> bool:
    """Whether Ctrl-C on the terminal reaches the program by itself, as it does all of this process group."""
    try:
        with Path("/dev/tty").open("rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _family(pid: int) -> list[int]:
    """A process and all its descendants."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))][:MAX_PIDS]
    except psutil.Error:
        return [pid]


def named(program: str) -> str:
    """A lease's name from its program's.

    Example:
        >>> named("/usr/bin/python3.12"), named("./my game"), named("…")
        ('python3.12', 'my-game', '')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(program).name).strip("._-")[:32]


def _say(text: str) -> None:
    print(f"ai-proxy lease: {text}", file=sys.stderr)  # noqa: T201  # the program's output is on stdout
