"""Ports for replicas that run on this machine.

A port is chosen, released, and bound by the engine only seconds later; so it is taken from below the kernel's range
for outgoing connections, where none of our own upstream connections can land on it meanwhile.
"""

import errno
import random
import socket
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

_LOWEST = 20_000
_TRIES = 50


def is_free(port: int) -> bool:
    """Whether a server could bind the port now, on any address."""
    with socket.socket() as probe:
        # As servers do: connections of the former one that linger (TIME_WAIT, a minute) are in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def free_port(avoid: Container[int]) -> int:
    """Choose a free port that is not in `avoid`."""
    below = _first_outgoing_port()
    for _ in range(_TRIES if below > _LOWEST else 0):
        port = random.randrange(_LOWEST, below)  # noqa: S311 - spreads, keeps no secret
        if port not in avoid and is_free(port):
            return port
    with socket.socket() as any_free:
        any_free.bind(("", 0))
        return int(any_free.getsockname()[1])


def _first_outgoing_port() -> int:
    with suppress(OSError, ValueError):
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    return 0
