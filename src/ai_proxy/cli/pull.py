"""Fetches images with a line of progress for each."""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn

from ai_proxy.cli.failure import Failure
from ai_proxy.config.models import Config, ServiceConfig
from ai_proxy.config.paths import proxy_name
from ai_proxy.errors import CannotServe
from ai_proxy.runtimes.docker.runtime import DockerRuntime


def pull_images(path: Path, settings: Config, services: Mapping[str, ServiceConfig]) -> None:
    """Fetch the images of these services, one after the other.

    Raises:
        Failure: Some could not be fetched; the others were.
    """
    console = Console(stderr=True)
    if not services:
        console.print("No service of the config runs in a container: nothing to fetch.")
        return
    failed = asyncio.run(_pull_all(proxy_name(path, settings), services, console))
    if failed:
        raise Failure("\n".join(failed))


async def _pull_all(name: str, services: Mapping[str, ServiceConfig], console: Console) -> list[str]:
    runtime = DockerRuntime(name, docker_host=os.environ.get("DOCKER_HOST"))
    failed = []
    try:
        with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console) as progress:
            for service, config in services.items():
                tell = _teller(progress, service)
                try:
                    await runtime.pull(config, tell)
                except CannotServe as error:
                    failed.append(f"{service}: {error.message}")
                    tell("failed")
                else:
                    tell(f"{config.image} is here")
    finally:
        await runtime.aclose()
    return failed


def _teller(progress: Progress, service: str) -> Callable[[str], None]:
    """A line of progress, and what writes it anew."""
    task = progress.add_task(service, total=None)
    return lambda text: progress.update(task, description=escape(f"{service}: {text}"))
