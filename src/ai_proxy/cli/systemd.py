"""What systemd, or whoever keeps its simple protocol, does for a service: pass listening sockets, hear how it fares.

A socket that is passed outlives the process: while the proxy is restarted, clients wait in its queue. Knows environment
variables and file descriptors, and nothing of what is served.
"""

import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

from loguru import logger

from ai_proxy.cli.failure import Failure

FIRST_FD = 3
MANAGEMENT = "management"
"""The name of the socket for the management API; every other one is for the data plane."""

_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6})


@dataclass(frozen=True, slots=True)
class Passed:
    """Listening sockets that were passed.

    Attributes:
        main: For the data plane; None if there is none.
        management: For the management API alone; None if there is none.
    """

    main: socket.socket | None = None
    management: socket.socket | None = None


def take_sockets(environ: MutableMapping[str, str], pid: int, first_fd: int = FIRST_FD) -> Passed:
    """Take the sockets that were passed to this process, and their variables: no child is to take them for its own.

    Args:
        environ: The environment; `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` are removed.
        pid: This process.
        first_fd: The first descriptor that may have been passed.

    Raises:
        Failure: They are not what this program can listen on.
    """
    whose, count, names = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if whose != str(pid) or not count.isdecimal():
        return Passed()
    given = dict(enumerate(names.split(":")))
    called = {first_fd + index: given.get(index, "") for index in range(int(count))}
    found = {}
    for is_management in (False, True):
        fds = [fd for fd, name in called.items() if (name == MANAGEMENT) is is_management]
        if len(fds) > 1:
            raise Failure(f"{len(fds)} sockets were passed for {MANAGEMENT if is_management else 'requests'}: pass one")
        found[is_management] = _listening(fds[0], called[fds[0]]) if fds else None
    return Passed(found[False], found[True])


class Notifier:
    """Tells the service manager how this process fares; says nothing where nobody asked.

    Args:
        environ: The environment; `NOTIFY_SOCKET` is removed, for it is not meant for children.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def __repr__(self) -> str:
        return f"<Notifier of {self._address!r}>"

    def tell(self, state: str) -> None:
        """Send one assignment, `READY=1` for one; a manager that can't be reached is no reason to fail."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(state.encode(), self._address)
        except OSError as error:
            logger.warning("The service manager can't be told {}: {}", state, error)


def _listening(fd: int, name: str) -> socket.socket:
    fault = f"file descriptor {fd}, which was passed as {name or 'one to listen on'}, is no listening TCP socket"
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        raise Failure(fault) from None
    if sock.family not in _FAMILIES or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise Failure(fault)
    sock.set_inheritable(False)
    return sock
