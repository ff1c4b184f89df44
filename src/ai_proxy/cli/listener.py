"""The listening socket, opened before anything that takes long to import."""

import socket

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket; clients may connect from now on and wait to be accepted.

    Raises:
        OSError: The address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)
