"""Whether a process still lives, asked of processes that end in different ways."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ai_proxy.runtimes.living import Living, living

LISTENS_LAST = """
import socket, time
held = [socket.socket() for _ in range(900)]
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    time.sleep(1000)
"""
"""What was opened last is closed first: its port is free while the system still closes the rest."""


@contextmanager
def running(*command: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_lives_until_it_is_killed_and_does_not_when_nobody_has_heard_of_that_yet() -> None:
    with running("sleep", "1000") as process:
        is_alive = living(process.pid)
        assert is_alive is not None
        assert is_alive()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert "State:\tZ" in Path(f"/proc/{process.pid}/status").read_text()
        assert not is_alive()
        process.wait()
        assert not is_alive()
        assert living(process.pid) is None


def test_another_process_of_the_same_pid_is_not_it() -> None:
    itself = living(os.getpid())
    assert itself == living(os.getpid())
    assert itself is not None
    assert not Living(itself.pid, itself.started - 1)()


def test_l22_once_its_port_can_be_taken_over_it_is_dead_though_it_has_not_ended() -> None:
    with running(sys.executable, "-c", LISTENS_LAST) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        is_alive = living(process.pid)
        assert is_alive is not None
        process.kill()
        with taken_over(port):
            assert not is_alive()


def taken_over(port: int) -> socket.socket:
    """Listen in another's place from the first moment on in which that can be done."""
    while True:
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            continue
