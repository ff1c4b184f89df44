"""The listeners that services have for themselves (`listen:`): opened and closed as the config says.

What comes in there is the data plane's like all else, with its service given; management answers on none of them. How
connections are accepted is the server's business.
"""

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from loguru import logger

from ai_proxy.config.listening import listen_address
from ai_proxy.config.models import Config
from ai_proxy.proxy.listeners import url_of, warn_of_strangers

type App = Callable[..., Awaitable[None]]
type Accept = Callable[[socket.socket, App], Callable[[], None]]
"""Has what connects to a socket served by an app, until what it returns is called. The socket stays its owner's."""

SERVICE: Final = "ai_proxy.service"
"""Where a scope says whose port a request came to."""
BACKLOG: Final = 2048


class OwnPorts:
    """The listeners of one process that belong to services.

    Args:
        data_plane: Tells what answers requests now.
    """

    def __init__(self, data_plane: Callable[[], App]) -> None:
        self._data_plane = data_plane
        # From the server's start on
        self._accept: Accept | None = None
        # By service and address as the config has it, what closes it
        self._open: dict[tuple[str, str], Callable[[], None]] = {}

    def __repr__(self) -> str:
        return f"<OwnPorts {sorted(self._open)}>"

    def begin(self, accept: Accept, config: Config) -> None:
        """Listen, now that the server accepts."""
        self._accept = accept
        self.follow(config)

    def follow(self, config: Config) -> None:
        """Open what a config adds and close what it no longer has; connections that are open stay.

        An address that can't be had is told, and tried again with the next config: the service has its other paths.
        """
        if self._accept is None:
            return
        wanted = [(service, it.listen) for service, it in config.services.items() if it.listen is not None]
        for gone in self._open.keys() - set(wanted):
            self._open.pop(gone)()
        for service, address in wanted:
            if (service, address) in self._open:
                continue
            try:
                listener = _listener(address)
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else error
                logger.error("{} has no port of its own: can't listen on {}: {}", service, address, reason)
                continue
            self._open[service, address] = self._serve(service, listener, self._accept)
            logger.info("{} listens on {}", service, url_of(listener, config.server))
            warn_of_strangers(config, listener)

    def close(self) -> None:
        """Close them all; none is opened any more. Idempotent."""
        self._accept = None
        while self._open:
            self._open.popitem()[1]()

    def _serve(self, service: str, listener: socket.socket, accept: Accept) -> Callable[[], None]:
        def app(scope: dict[str, Any], receive: object, send: object) -> Awaitable[None]:
            scope[SERVICE] = service
            return self._data_plane()(scope, receive, send)

        stop = accept(listener, app)

        def close() -> None:
            stop()
            listener.close()

        return close


def _listener(address: str) -> socket.socket:
    host, port = listen_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)
