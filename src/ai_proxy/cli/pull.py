"""Fetches images with a line of progress for each."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from ai_proxy.cli.failure import Failure
from ai_proxy.config.models import Config, ServiceConfig
from ai_proxy.config.paths import proxy_name
from ai_proxy.errors import CannotServe
from ai_proxy.runtimes.docker import DockerRuntime


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
                task = progress.add_task(f"{service}: {config.image}", total=None)

                def tell(text: str, task=task, service=service) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
                    progress.update(task, description=f"{service}: {text}")

                try:
                    await runtime.pull(config, tell)
                    progress.update(task, description=f"{service}: {config.image} is here", total=1, completed=1)
                except CannotServe as error:
                    failed.append(f"{service}: {error.message}")
                    progress.update(task, description=f"{service}: failed", total=1, completed=1)
    finally:
        await runtime.aclose()
    return failed
