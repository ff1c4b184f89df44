"""Verbs that work on this machine without a running proxy: serve, check, schema, demo, pull, version."""

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ai_proxy import __version__
from ai_proxy.cli.failure import CONFIG_FAULT, Failure
from ai_proxy.config.faults import ConfigError
from ai_proxy.config.load import Loaded, inspect
from ai_proxy.config.models import Config, RuntimeKind
from ai_proxy.config.paths import find_config
from ai_proxy.config.server import OnExit

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Config file; else $AI_PROXY_CONFIG, else ai-proxy.yaml.", show_default=False),
]


def read_config(config: Path | None) -> tuple[Path, Config]:
    """Find the config file and read it.

    Raises:
        Failure: It is missing or at fault.
    """
    path, loaded = _inspected(config)
    return path, loaded.config


def _inspected(config: Path | None) -> tuple[Path, Loaded]:
    try:
        path = find_config(config, os.environ, Path.cwd())
        return path, inspect(path, os.environ)
    except ConfigError as error:
        raise Failure(str(error), CONFIG_FAULT) from None


def serve(
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on, in place of the file's.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on, in place of the file's.")
    ] = None,
) -> None:
    """Run the proxy."""
    path, settings = read_config(config)
    raise typer.Exit(run_server(path, settings, host=host, port=port))


def run_server(
    path: Path,
    settings: Config,
    *,
    host: str | None = None,
    port: int | None = None,
    announce: Callable[[Callable[[], None]], None] | None = None,
) -> int:
    """Listen, unless sockets were passed to listen on, then serve until told to end.

    Args:
        path: The config file.
        settings: What it says.
        host: Address in place of the file's.
        port: Port in place of the file's.
        announce: Is given what ends the server, callable from any thread.

    Returns:
        The exit status.

    Raises:
        Failure: It can't listen, or another proxy of the same name lives.
    """
    from ai_proxy.cli.listener import listen  # noqa: PLC0415
    from ai_proxy.cli.systemd import Notifier, take_sockets  # noqa: PLC0415

    notifier, passed = Notifier(os.environ), take_sockets(os.environ, os.getpid())
    host = settings.server.host if host is None else host
    port = settings.server.port if port is None else port
    listener = passed.main or listen(host, port, "choose another with --host or --port")
    management, address = passed.management, settings.management.address
    if management is None and address is not None:
        management = listen(*address, "choose another under `management`")
    # Whatever takes long to import comes after the socket listens: clients wait instead of being refused.
    from ai_proxy.control.lock import AlreadyRunning  # noqa: PLC0415
    from ai_proxy.run import serve as serve_until_told  # noqa: PLC0415

    try:
        return serve_until_told(path, settings, listener, management=management, announce=announce, tell=notifier.tell)
    except AlreadyRunning as error:
        raise Failure(str(error)) from None


def check(
    file: Annotated[Path | None, typer.Argument(help="Config file.", show_default=False)] = None,
    against: Annotated[Path | None, typer.Option(help="Show what would change from this file.")] = None,
) -> None:
    """Check a config file: every fault with its line and its fix."""
    path, loaded = _inspected(file)
    settings = loaded.config
    count = len(settings.services)
    typer.echo(f"{path}: fine, {count} service{'s' * (count != 1)}")
    for service, model in loaded.discovered.items():
        typer.echo(f"discovered: {service} from {model}")
    for note in loaded.notes:
        typer.echo(f"note: {note}")
    processes = [id_ for id_, service in settings.services.items() if service.kind is RuntimeKind.PROCESS]
    if settings.server.on_exit is OnExit.KEEP and processes:
        typer.echo(f"note: on_exit: keep holds for containers only; these end with the proxy: {', '.join(processes)}")
    if against is not None:
        _show_change(read_config(against)[1], settings)


def _show_change(old: Config, new: Config) -> None:
    from ai_proxy.config.diff import diff  # noqa: PLC0415

    change = diff(old, new)
    for label, ids in (
        ("new services", change.added),
        ("removed, drain and stop", change.removed),
        ("restart", change.restarts),
        ("change without a restart", change.live),
        ("other keys", change.settings),
        ("of these, only at the next start", change.deferred),
    ):
        if ids:
            typer.echo(f"{label}: {', '.join(ids)}")
    if not change:
        typer.echo("nothing changes")


def schema() -> None:
    """Print the JSON schema of the config file."""
    from ai_proxy.config.reference import json_schema  # noqa: PLC0415

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def demo(
    *, once: Annotated[bool, typer.Option("--once", help="End after the first answer; status 0 if it came.")] = False
) -> None:
    """Serve a real small model on this machine, with no Docker and no GPU, and ask it something."""
    from ai_proxy.cli import demo as show  # noqa: PLC0415

    ends: list[Callable[[], None]] = []

    def run(path: Path) -> int:
        return run_server(path, read_config(path)[1], announce=ends.append)

    def stop() -> None:
        for end in ends:
            end()

    raise typer.Exit(show.run(run, stop, once=once))


def pull(
    services: Annotated[list[str] | None, typer.Argument(help="Services; all if none is named.")] = None,
    config: ConfigFile = None,
) -> None:
    """Fetch the images of services ahead of their first start."""
    from ai_proxy.cli.pull import pull_images  # noqa: PLC0415

    path, settings = read_config(config)
    if unknown := [service for service in services or () if service not in settings.services]:
        raise Failure(f"not in {path}: {', '.join(unknown)}; it has {', '.join(settings.services)}")
    wanted = {id_: settings.services[id_] for id_ in services or settings.services}
    pull_images(path, settings, {id_: it for id_, it in wanted.items() if it.kind is RuntimeKind.DOCKER})


def version() -> None:
    """Print the versions of ai-proxy and Python."""
    typer.echo(f"ai-proxy {__version__} (Python {platform.python_version()})")
