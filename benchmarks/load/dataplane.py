"""The data plane alone on a socket: a gate that always grants, so that what is measured is the relay."""

import argparse
from dataclasses import dataclass
from typing import Any

import uvicorn

from ai_proxy.config.models import Config
from ai_proxy.gate import RequestInfo
from ai_proxy.logging import setup
from ai_proxy.metrics import Metrics
from ai_proxy.proxy.app import ProxyApp
from ai_proxy.proxy.protocol import ProxyProtocol
from ai_proxy.routing.table import RouteTable
from ai_proxy.transport.origin import Origin
from ai_proxy.transport.pool import Pool


@dataclass(slots=True)
class OpenGate:
    """Grants at once, and counts."""

    origin: Origin
    base_path: bytes = b""
    count: int = 0

    def try_admit(self, _request: RequestInfo) -> "OpenGate":
        self.count += 1
        return self

    async def admit(self, _request: RequestInfo) -> "OpenGate":
        raise AssertionError

    def close(self) -> None:
        self.count -= 1


def data_plane(upstream_port: int, services: int = 1, *, access: bool = True) -> ProxyApp:
    """Build the app for so many services, of which `chat` is asked."""
    extra = {f"s{n}": {"image": "i"} for n in range(services - 1)}
    config = Config.model_validate({"services": {**extra, "chat": {"image": "i"}}})
    return ProxyApp(
        config,
        RouteTable(config),
        gate=OpenGate(Origin("http", "127.0.0.1", upstream_port)),
        pool=Pool(),
        metrics=Metrics(config.services),
        access=setup("INFO", "text", access=access).access,
        states=str,
    )


def options(port: int) -> dict[str, Any]:
    """How uvicorn is run."""
    return {
        "host": "127.0.0.1",
        "port": port,
        "http": ProxyProtocol,
        "ws": "none",
        "loop": "uvloop",
        "lifespan": "off",
        "interface": "asgi3",
        "proxy_headers": False,
        "server_header": False,
        "date_header": False,
        "access_log": False,
        "log_config": None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", type=int, required=True)
    parser.add_argument("--services", type=int, default=1)
    parser.add_argument("--quiet", action="store_true", help="without access lines")
    parser.add_argument("--profile", help="write cProfile's figures here at the end")
    arguments = parser.parse_args()
    app = data_plane(arguments.upstream, arguments.services, access=not arguments.quiet)
    if not arguments.profile:
        uvicorn.run(app, **options(arguments.port))
        return
    import cProfile  # noqa: PLC0415 (only where it is asked for)

    profile = cProfile.Profile()
    try:
        profile.runcall(uvicorn.run, app, **options(arguments.port))
    finally:
        profile.dump_stats(arguments.profile)


if __name__ == "__main__":
    main()
