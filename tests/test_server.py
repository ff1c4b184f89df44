"""The wired whole in one process: what it owns, and what it bears."""

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_proxy.config.load import load
from ai_proxy.config.models import Config
from ai_proxy.config.paths import state_dir
from ai_proxy.control.lock import AlreadyRunning, InstanceLock
from ai_proxy.inventory.look import Inventory
from ai_proxy.inventory.monitor import Monitor
from ai_proxy.logging import Logs
from ai_proxy.run import _uvicorn_config
from ai_proxy.server import RootApp, create_app
from ai_proxy.system import System

GUARD_S = 20


@pytest.fixture
def logs() -> Iterator[Logs]:
    with Path(os.devnull).open("wb") as nowhere:
        logs = Logs(nowhere.fileno())
        yield logs
        logs.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A config file."""
    path = tmp_path / "ai-proxy.yaml"
    services = {"away": {"url": "http://127.0.0.1:1"}}
    path.write_text(yaml.safe_dump({"state_dir": str(tmp_path / "state"), "devices": [], "services": services}))
    return path


@pytest.fixture
async def system(path: Path, logs: Logs) -> AsyncIterator[System]:
    system = System(path, load(path, {}), environ={}, logs=logs, inventory=Inventory((), 1000), monitor=Monitor(()))
    system.start()
    yield system
    await system.aclose()


def others() -> set[asyncio.Task[Any]]:
    """All tasks but this one."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def test_a_reload_under_way_ends_with_the_whole(system: System) -> None:
    system.reload_soon()
    system.reload_soon()
    await system.aclose()
    assert others() == set()


async def test_nothing_is_reloaded_once_the_end_has_begun(system: System) -> None:
    system.closing.set()
    before = others()
    system.reload_soon()
    assert others() == before


async def test_pages_of_other_origins_are_let_in_by_a_reload_and_until_then_nothing_stands_before_the_proxy(
    system: System, path: Path
) -> None:
    assert system.data_plane is system.proxy

    path.write_text(path.read_text() + "server: {cors: {allow_origins: 'https://chat.example'}}")
    await system.plane.reload()

    assert repr(system.data_plane).startswith("<Cors for https://chat.example: <ProxyApp")


async def test_a_state_directory_that_takes_no_note_does_not_keep_containers_from_being_run(
    path: Path, logs: Logs
) -> None:
    config = Config.model_validate({**load(path, {}).model_dump(), "services": {"chat": {"image": "x"}}})
    environ = {"DOCKER_HOST": f"unix://{path.parent}/no.sock"}
    system = System(path, config, environ=environ, logs=logs, inventory=Inventory((), 1000), monitor=Monitor(()))
    assert not (path.parent / "state").exists()
    system.start()
    assert system.plane.view("chat").state.held
    await system.aclose()


@pytest.fixture
async def root(path: Path, logs: Logs) -> AsyncIterator[RootApp]:
    """The app between its startup and its shutdown."""
    root = RootApp(path, load(path, {}), {}, logs)
    started, end = asyncio.Event(), asyncio.Event()
    orders = iter([None, end])

    async def receive() -> dict[str, str]:
        order = next(orders)
        if order is not None:
            await order.wait()
        return {"type": "lifespan"}

    async def send(message: Any) -> None:
        assert message["type"].endswith(".complete")
        started.set()

    threshold = gc.get_threshold()
    lifespan = asyncio.ensure_future(root({"type": "lifespan"}, receive, send))
    async with asyncio.timeout(GUARD_S):
        await started.wait()
    yield root
    end.set()
    await lifespan
    gc.unfreeze()
    gc.set_threshold(*threshold)


async def get(root: RootApp, path: str) -> int:
    """The status that a path answers."""
    statuses = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    headers = [(b"host", b"localhost")]
    async with asyncio.timeout(GUARD_S):
        await root({**scope, "headers": headers, "http_version": "1.1", "client": ("::1", 1)}, receive, send)
    return int(statuses[0])


async def test_a_client_that_leaves_before_the_management_plane_is_there_does_not_end_it_for_others(
    root: RootApp,
) -> None:
    first = asyncio.create_task(get(root, "/health"))
    await asyncio.sleep(0)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    assert await get(root, "/health") == 200


def test_a_second_proxy_of_the_name_does_not_start_under_another_server_either(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_PROXY_CONFIG", str(path))
    with InstanceLock(state_dir(path, load(path, {}), {})), pytest.raises(AlreadyRunning):
        create_app()


@pytest.mark.parametrize(("configured", "used"), [(0.4, 1), (2, 2)])
def test_a_drain_is_never_shorter_than_configured(path: Path, logs: Logs, configured: float, used: int) -> None:
    config = load(path, {})
    server = config.server.model_copy(update={"drain_timeout_s": configured})
    config = config.model_copy(update={"server": server})
    assert _uvicorn_config(RootApp(path, config, {}, logs), config).timeout_graceful_shutdown == used
