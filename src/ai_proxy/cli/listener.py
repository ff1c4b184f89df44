"""Listening sockets, opened before anything that takes long to import."""

import os
import socket

from ai_proxy.cli.failure import Failure

BACKLOG = 2048


def listen(host: str, port: int, advice: str) -> socket.socket:
    """Open a listening socket; clients may connect from now on and wait to be accepted.

    Args:
        host: Address or name.
        port: Port; 0: any free one.
        advice: What to do if that fails.

    Raises:
        Failure: The address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        # For some errors Python's own text repeats the address; a resolver's have no errno of the system's.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise Failure(f"can't listen on {host}:{port}: {reason}; {advice}") from None
