"""Runs the root app under uvicorn with our protocol, from listening sockets to a clean end.

It knows sockets, signals and uvicorn's settings, and nothing of what the app does.
"""

import asyncio
import contextlib
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from types import FrameType
from typing import cast

import uvicorn
from loguru import logger

from ai_proxy.config.models import Config
from ai_proxy.config.paths import state_dir
from ai_proxy.control.lock import InstanceLock
from ai_proxy.logging import Logs, setup
from ai_proxy.proxy.intake import Intake, allow_many_files, most_clients
from ai_proxy.proxy.limits import ConnectionLimits
from ai_proxy.proxy.listener_tls import ListenerTls
from ai_proxy.proxy.listeners import url_of, warn_of_strangers
from ai_proxy.proxy.protocol import ProxyProtocol
from ai_proxy.server import App, RootApp

FORCE_CHECK_S = 0.1


def serve(
    path: Path,
    config: Config,
    listener: socket.socket,
    *,
    management: socket.socket | None = None,
    announce: Callable[[Callable[[], None]], None] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> int:
    """Run the proxy until it is told to end.

    Args:
        path: The config file.
        config: What it says.
        listener: The listening socket; closed at the end, as is the next. One that somebody else holds as well goes on
            to listen, for whoever comes next.
        management: The socket that management has for itself, if it has one.
        announce: Is given what ends the server, callable from any thread.
        tell: Is told `READY=1` and `STOPPING=1` at their time.

    Returns:
        The exit status: 0 after a clean end.

    Raises:
        AlreadyRunning: Another proxy of the same name lives.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the app handles it: the default would end the proxy
    with InstanceLock(state_dir(path, config, os.environ)):
        logs = setup(config.log.level, config.log.format, access=config.log.access)
        tls = ListenerTls(config.server.tls) if config.server.tls is not None else None
        root = RootApp(path, config, os.environ, logs, tls=tls, management_apart=management is not None)
        further = [] if management is None else [(management, root.manage)]
        server = Server(_uvicorn_config(root, config, tls), root, logs, further, tell)
        if announce is not None:
            announce(server.stop)
        if management is not None:
            logger.info("Management listens on {}", url_of(management, config.server))
        logger.info("Listening on {}, {} services", url_of(listener, config.server), len(config.services))
        warn_of_strangers(config, listener)
        server.run(sockets=[listener])
        logs.close()
    return 0 if server.started else 1


class Server(uvicorn.Server):
    """uvicorn's server, which here ends with status 0 after a clean drain, and at once at the second signal.

    Args:
        config: How it serves.
        root: The app of the main listener, which owns the rest.
        logs: Closed where nothing else is.
        further: Sockets beside the main one, each with an app of its own; they live and drain with it.
        tell: Is told where the server is in its life, in systemd's words.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        root: RootApp,
        logs: Logs,
        further: Sequence[tuple[socket.socket, App]],
        tell: Callable[[str], None],
    ) -> None:
        super().__init__(config)
        self._root = root
        self._logs = logs
        self._further = further
        self._tell = tell
        self._most = 0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM while serving; unlike the base, don't raise them again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the base's signature
        """Begin to drain; a second signal ends that."""
        self.force_exit = self.should_exit
        self.should_exit = True

    def stop(self) -> None:
        """Begin to drain, as a signal would; callable from any thread."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, on every listener."""
        await super().startup([])  # it would accept more than there are file descriptors for
        self._most = most_clients(allow_many_files())
        for sock in sockets or ():
            self._accept(sock, self._root)
        for sock, app in self._further:
            self._accept(sock, app)
        self._root.open_ports(self._accept)
        self._tell("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, drain, then end everything; at once when that is forced."""
        self._tell("STOPPING=1")
        logger.info(
            "Ending; open requests: {}, which have {} s to be done; a second signal ends at once",
            len(self.server_state.tasks),
            self.config.timeout_graceful_shutdown,
        )
        self._root.begin_shutdown()
        ending = asyncio.create_task(super().shutdown(sockets), name="shut down")
        while not ending.done() and not self.force_exit:
            await asyncio.wait({ending}, timeout=FORCE_CHECK_S)
            # One that was being accepted when the base went through them is only here now.
            for connection in list(self.server_state.connections):
                connection.shutdown()
        if self.force_exit:
            logger.warning("Ending at once; processes end with the proxy, the next start finds containers")
            self._logs.close()
            os._exit(1)  # as a crash would: guards end the processes, and nothing here can hold that up
        await ending

    def _accept(self, sock: socket.socket, app: App) -> Callable[[], None]:
        """Accept on a socket whose requests are an app's, until what is returned is called."""
        config = copy(self.config)
        config.loaded_app = app
        protocol = cast("Callable[..., asyncio.Protocol]", config.http_protocol_class)
        make = partial(protocol, config, self.server_state, self.lifespan.state)
        connected = self.server_state.connections
        intake = cast("asyncio.Server", Intake(sock, make, connected=connected, most=self._most, tls=config.ssl))
        self.servers.append(intake)

        def stop() -> None:
            intake.close()
            self.servers.remove(intake)

        return stop


def _uvicorn_config(root: RootApp, config: Config, tls: ListenerTls | None = None) -> uvicorn.Config:
    limits = ConnectionLimits(
        head_s=config.server.head_timeout_s,
        body_idle_s=config.server.body_idle_timeout_s,
        keep_alive_s=config.server.keep_alive_s,
    )
    return uvicorn.Config(
        root,
        http=ProxyProtocol.with_limits(limits),
        ws="none",
        loop="uvloop",
        lifespan="on",
        interface="asgi3",
        proxy_headers=False,
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        ssl_context_factory=None if tls is None else lambda *_: tls.context,
        timeout_graceful_shutdown=math.ceil(config.server.drain_timeout_s),
    )
