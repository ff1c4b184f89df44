"""Sockets that were passed, and what the service manager is told."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ai_proxy.cli.failure import Failure
from ai_proxy.cli.systemd import Notifier, Passed, take_sockets

PID = 4711


def variables(count: int, names: str = "", pid: int = PID) -> dict[str, str]:
    """What a service manager sets."""
    return {"LISTEN_PID": str(pid), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names, "OTHER": "1"}


@pytest.fixture
def passed_fds() -> Iterator[list[int]]:
    """Two listening sockets on descriptors that follow each other."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        first = fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 700)
        fds = [first, os.dup2(other.fileno(), first + 1)]
    yield fds
    for fd in fds:
        with suppress(OSError):
            os.close(fd)


def port_of(fd: int) -> int:
    """Where a descriptor listens."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        port: int = sock.getsockname()[1]
        return port


def ports(passed: Passed) -> list[int]:
    """The ports of what was taken, which is given back."""
    found = []
    for sock in (passed.main, passed.management):
        found.append(sock.getsockname()[1] if sock is not None else 0)
        if sock is not None:
            sock.close()
    return found


def test_a_socket_that_was_passed_is_for_requests_whatever_it_is_called(passed_fds: list[int]) -> None:
    port = port_of(passed_fds[0])

    assert ports(take_sockets(variables(1, "ai-proxy.socket"), PID, passed_fds[0])) == [port, 0]


def test_one_that_is_called_management_is_for_that_alone(passed_fds: list[int]) -> None:
    first, second = map(port_of, passed_fds)

    assert ports(take_sockets(variables(2, "management:web"), PID, passed_fds[0])) == [second, first]


def test_a_child_does_not_take_them_for_its_own(passed_fds: list[int]) -> None:
    environ = variables(1)
    os.set_inheritable(passed_fds[0], True)
    passed = take_sockets(environ, PID, passed_fds[0])

    assert not os.get_inheritable(passed_fds[0])
    assert environ == {"OTHER": "1"}
    ports(passed)


@pytest.mark.parametrize(
    "environ",
    [{}, variables(1, pid=PID + 1), {"LISTEN_PID": str(PID), "LISTEN_FDS": "x"}],
    ids=["none", "other", "bad"],
)
def test_what_was_not_passed_to_this_process_is_left_alone(environ: dict[str, str]) -> None:
    assert take_sockets(environ, PID) == Passed()


def test_two_sockets_for_requests_are_refused(passed_fds: list[int]) -> None:
    with pytest.raises(Failure, match="2 sockets were passed for requests"):
        take_sockets(variables(2), PID, passed_fds[0])


def test_what_does_not_listen_is_refused(passed_fds: list[int]) -> None:
    with socket.socket() as sock:
        os.dup2(sock.fileno(), passed_fds[0])
    with pytest.raises(Failure, match="no listening TCP socket"):
        take_sockets(variables(1), PID, passed_fds[0])


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(Failure, match="file descriptor 900, which was passed as web, is no"):
        take_sockets(variables(1, "web"), PID, 900)


def test_the_service_manager_is_told_and_its_address_is_not_inherited(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        Notifier(environ).tell("READY=1")

        assert manager.recv(100) == b"READY=1"
        assert environ == {}


def test_an_abstract_address_is_known_by_its_sign() -> None:
    name = f"ai-proxy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).tell("STOPPING=1")

        assert manager.recv(100) == b"STOPPING=1"


def test_nobody_is_told_where_nobody_listens(tmp_path: Path) -> None:
    Notifier({}).tell("READY=1")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).tell("READY=1")
