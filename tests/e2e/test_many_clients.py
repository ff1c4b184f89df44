"""More clients than there are file descriptors for: those inside are served, also by what is yet to be started."""

import socket
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import Serve
from tests.e2e.harness import GUARD_S, Proxy, process, until

pytestmark = pytest.mark.slow

FILES = 256


def connect(proxy: Proxy, clients: ExitStack) -> socket.socket:
    return clients.enter_context(socket.create_connection(("127.0.0.1", proxy.port), GUARD_S))


def ask(client: socket.socket, path: str) -> None:
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


def is_answered(client: socket.socket) -> bool:
    answer = b""
    while b'"ok"' not in answer and (piece := client.recv(4096)):
        answer += piece
    return answer.startswith(b"HTTP/1.1 200 ")


def cpu_s_in_half_a_second(proxy: Proxy) -> float:
    """What the proxy's process takes of the processor while nobody wants anything; a loop that spins takes it all."""
    of = psutil.Process(proxy.pid)
    before = of.cpu_times()
    time.sleep(0.5)
    after = of.cpu_times()
    return after.user + after.system - before.user - before.system


def test_l18_clients_beyond_the_limit_of_files_wait_and_leave_enough_for_engines(serve: Serve) -> None:
    proxy = serve({"services": {"cold": process()}}, under=("prlimit", f"--nofile={FILES}:{FILES}"))
    files = Path(f"/proc/{proxy.pid}/fd")
    with ExitStack() as clients:
        inside = connect(proxy, clients)
        with ExitStack() as idle:
            for _ in range(300):
                connect(proxy, idle)
            until(lambda: "Further clients have to wait" in proxy.log, proxy)
            outside = connect(proxy, clients)
            ask(outside, "/cold/health")

            # Nothing is there to run it on but what was kept back.
            ask(inside, "/cold/health")
            assert is_answered(inside)
            assert len(list(files.iterdir())) < FILES
            outside.setblocking(False)
            with pytest.raises(BlockingIOError):
                outside.recv(1)
            # What is still to be done after a start comes to an end; spinning does not.
            until(lambda: cpu_s_in_half_a_second(proxy) < 0.25, "at rest")
        outside.settimeout(GUARD_S)
        assert is_answered(outside)
    assert proxy.log.count("Further clients have to wait") == 1
