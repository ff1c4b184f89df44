"""Accepts clients on a listening socket, as many as there are file descriptors for.

Where clients could take every descriptor of the process, nothing would be left to reach an engine with, or Docker. So
there is a bound; the clients beyond it wait in the kernel's queue, where they cost nothing, until others have left.
It knows sockets and the loop, and nothing of what is said on them.
"""

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import Callable, Sized
from typing import Any

from loguru import logger

KEPT_FOR_US = 128
MOST_FILES = 65_536
AT_ONCE = 64
LOOK_AGAIN_S = 0.1
TELL_AGAIN_S = 60.0
HANDSHAKE_S = 15.0
FOREVER_S = 3600.0

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def allow_many_files() -> int:
    """Raise the limit of open files of this process as far as it may, within reason; the limit that then holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MOST_FILES if soft == resource.RLIM_INFINITY else soft


def most_clients(files: int) -> int:
    """How many clients so many files bear: each may need a connection to an engine as well.

    Example:
        >>> most_clients(1024), most_clients(100)
        (448, 16)
    """
    return max(16, (files - KEPT_FOR_US) // 2)


class Intake:
    """Accepts on one listening socket; uvicorn takes it for one of its servers.

    Args:
        listener: The socket; it is its owner's to close.
        make: Makes the protocol of a connection.
        connected: The connections that there are, on all listeners.
        most: How many there may be.
        tls: Spoken with clients, if any is.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], asyncio.Protocol],
        *,
        connected: Sized,
        most: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._make = make
        self._connected = connected
        self._most = most
        self._handshake: dict[str, Any] = {}
        if tls is not None:
            # The end of a connection waits for what was written: how long is its protocol's to say.
            self._handshake = {"ssl": tls, "ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": FOREVER_S}
        self._beginning: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._told_at = -TELL_AGAIN_S
        listener.setblocking(False)
        self._fd = listener.fileno()
        self._loop.add_reader(self._fd, self._accept)

    def __repr__(self) -> str:
        state = "full" if self._pause is not None else "open"
        return f"<Intake {self._fd}: {state}, {len(self._connected)} of {self._most}>"

    def close(self) -> None:
        """Accept no more. Idempotent."""
        if self._fd != -1:
            self._loop.remove_reader(self._fd)
            self._fd = -1
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    async def wait_closed(self) -> None:
        """Wait until what was accepted is connected."""
        if self._beginning:
            await asyncio.wait(self._beginning)

    def _accept(self) -> None:
        """Accept whoever waits; the loop comes back for the rest."""
        for _ in range(AT_ONCE):
            if len(self._connected) + len(self._beginning) >= self._most:
                self._rest(f"{self._most} clients are connected, as many as the limit of open files bears")
                return
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(f"no client can be accepted: {error}")
                    return
                continue  # what became of one that waited
            task = self._loop.create_task(self._begin(client))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _begin(self, client: socket.socket) -> None:
        client.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(self._make, client, **self._handshake)
        except OSError as error:
            client.close()
            logger.debug("A client left before it was connected: {}", error)

    def _rest(self, why: str) -> None:
        """Accept nobody for a moment."""
        self._loop.remove_reader(self._fd)
        self._pause = self._loop.call_later(LOOK_AGAIN_S, self._go_on)
        if (now := self._loop.time()) >= self._told_at + TELL_AGAIN_S:
            self._told_at = now
            logger.warning("Further clients have to wait: {}; a higher LimitNOFILE or ulimit -n lets in more", why)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._fd, self._accept)
