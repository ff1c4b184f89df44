"""The app that the server runs: it alone answers `lifespan`, and sends each request to its plane.

`RootApp` starts and ends the `System`; management paths go to the management plane, which is imported when nobody waits
for it, everything else to the data plane. `run.py` runs it under uvicorn with our protocol; `create_app` is for whoever
brings a server of their own.
"""

import asyncio
import gc
import json
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from pathlib import Path
from secrets import token_hex

from loguru import logger
from starlette.types import Receive, Scope, Send

from ai_proxy.config.load import load
from ai_proxy.config.models import Config
from ai_proxy.config.paths import find_config, state_dir
from ai_proxy.control.lock import InstanceLock
from ai_proxy.errors import UnknownPath
from ai_proxy.inventory.look import look_around, monitor_of
from ai_proxy.logging import Logs, setup
from ai_proxy.metrics import Fleet, Metrics
from ai_proxy.proxy.listener_tls import ListenerTls
from ai_proxy.proxy.own_ports import Accept
from ai_proxy.proxy.replies import reply
from ai_proxy.routing.endpoints import dialect_of
from ai_proxy.system import System

type App = Callable[[Scope, Receive, Send], Awaitable[None]]
type Headers = list[tuple[bytes, bytes]]

MANAGEMENT = ("/api/v1", "/ui", "/health", "/metrics", "/running", "/unload", "/api/models/unload")
LIVENESS = "/health"
GC_THRESHOLD = 50_000


class RootApp:
    """The whole proxy as one ASGI app.

    Args:
        path: The config file.
        config: What it says.
        environ: The environment.
        logs: Where access lines go.
        tls: How the listeners prove who they are, if they speak https.
        management_apart: Management has a listener of its own, whose app is `manage`.
    """

    def __init__(
        self,
        path: Path,
        config: Config,
        environ: Mapping[str, str],
        logs: Logs,
        *,
        tls: ListenerTls | None = None,
        management_apart: bool = False,
    ) -> None:
        self._path = path
        self._config = config
        self._environ = environ
        self._logs = logs
        self._tls = tls
        self._apart = management_apart

        self._system: System | None = None
        self._management: App | None = None
        self._importing: asyncio.Task[object] | None = None

    def __repr__(self) -> str:
        return f"<RootApp: {self._system or 'not started'!r}>"

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request, or the lifespan. Not a coroutine itself: the data plane's is enough."""
        if scope["type"] == "lifespan":
            return self._lifespan(receive, send)
        path: str = scope["path"]
        if path.startswith(MANAGEMENT) and _is_management(path):
            if self._apart and path != LIVENESS:
                return _answer(send, *_not_here("management has a listener of its own: management.port says where"))
            return self._manage(scope, receive, send)
        system = self._system
        return _not_started(scope, receive, send) if system is None else system.data_plane(scope, receive, send)

    async def manage(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request on the listener that management has for itself."""
        if _is_management(scope["path"]):
            await self._manage(scope, receive, send)
        else:
            error = UnknownPath("this listener serves management alone; server.port says where the models are")
            await _answer(send, *reply(error, token_hex(8), dialect_of(scope["raw_path"])))

    def open_ports(self, accept: Accept) -> None:
        """Have services listen on the ports of their own; for a server that accepts as it is told."""
        if self._system is not None:
            self._system.ports.begin(accept, self._system.plane.config)

    def begin_shutdown(self) -> None:
        """Have endless answers of the management plane end, and no further port opened."""
        if self._system is not None:
            self._system.ports.close()
            self._system.closing.set()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._start()
        except Exception as error:  # noqa: BLE001  # whatever it is, the server must hear of it
            logger.exception("The proxy could not start")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        monitor = monitor_of(self._config)
        inventory = await look_around(self._config, monitor)
        self._system = System(
            self._path,
            self._config,
            environ=self._environ,
            logs=self._logs,
            inventory=inventory,
            monitor=monitor,
            tls=self._tls,
        )
        await self._system.learned.open()  # before the services come to life: their demands may follow from it
        self._system.start()
        _calm_collector()
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._system.reload_soon)
        # FastAPI takes a third of a second to import: nobody waits for that before the first request is served.
        self._importing = asyncio.create_task(asyncio.to_thread(import_module, "ai_proxy.api.app"))

    async def _stop(self) -> None:
        if self._importing is not None:
            await asyncio.wait({self._importing})
        if self._system is not None:
            await self._system.aclose()

    async def _manage(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._management is None:
            if self._importing is not None:
                await asyncio.shield(self._importing)  # a client that leaves must not end it for the others
            self._management = self._create_management()
        await self._management(scope, receive, send)

    def _create_management(self) -> App:
        from ai_proxy.api.app import create_api  # noqa: PLC0415  # see _start
        from ai_proxy.api.dependencies import Context  # noqa: PLC0415

        system = self._system
        if system is None:
            return _not_started

        async def scrape() -> bytes:
            # In a thread, as a thousand services take long.
            return await asyncio.to_thread(_exposition, system.metrics, system.fleet())

        return create_api(Context(system.plane, system.clock, scrape, system.closing))


def create_app() -> App:
    """Make the app from the config file that is found, for `uvicorn --factory ai_proxy.server:create_app`.

    Raises:
        AlreadyRunning: Another proxy of the same name lives; a second worker of the same server is one.
    """
    path = find_config(None, os.environ, Path.cwd())
    config = load(path, os.environ)
    InstanceLock(state_dir(path, config, os.environ))  # held until the process ends
    root = RootApp(path, config, os.environ, setup(config.log.level, config.log.format, access=config.log.access))
    if config.management.address is not None:
        logger.warning("management.port is without effect under another server; management shares its listener")
    if config.server.tls is not None:
        logger.warning("server.tls is without effect under another server, which has its own settings")
    if apart := [service for service, it in config.services.items() if it.listen is not None]:
        logger.warning("listen is without effect under another server: {}", ", ".join(apart))

    # uvicorn takes what is no coroutine function for an app of ASGI 2.
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await root(scope, receive, send)

    return app


def _exposition(metrics: Metrics, fleet: Fleet) -> bytes:
    # prometheus_client brings an HTTP server of its own along: nobody waits for that before the first scrape.
    from ai_proxy.api.exposition import exposition  # noqa: PLC0415

    return exposition(metrics, fleet)


def _is_management(path: str) -> bool:
    """Whether a path is one of the management plane's, or below one.

    Example:
        >>> _is_management("/api/v1/services"), _is_management("/health"), _is_management("/healthy")
        (True, True, False)
    """
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in MANAGEMENT)


def _not_here(detail: str) -> tuple[int, Headers, bytes]:
    """An error in the management plane's words, which is not asked: it may not be imported yet."""
    request_id = token_hex(8)
    body = json.dumps({"detail": detail, "code": UnknownPath.code, "request_id": request_id}).encode()
    return 404, [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode())], body


async def _answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _calm_collector() -> None:
    """Leave what lives as long as the process out of garbage collection, and look for garbage less often.

    A request leaves no cycles behind, so collections mostly walk live objects: at the default threshold they took a
    tenth of the data plane's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 100)


async def _not_started(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise RuntimeError("the app was used before its lifespan began")
