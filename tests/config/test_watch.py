"""The watcher sees every way in which a file is changed, and nothing else."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from ai_proxy.config.watch import Watcher

pytestmark = pytest.mark.slow

GUARD_S = 20.0
TRIES = 40


class Seen:
    """Turns of a watcher, counted by a task of its own."""

    def __init__(self, path: Path, look_every_s: float, patterns: Sequence[str], files: Sequence[Path]) -> None:
        # Made here, not in the task: what the test changes next is to be a change.
        watcher = Watcher(path, look_every_s, patterns=lambda: patterns, files=lambda: files)
        self._turns: asyncio.Queue[None] = asyncio.Queue()
        self._task = asyncio.create_task(self._follow(watcher))

    async def _follow(self, watcher: Watcher) -> None:
        generator: AsyncGenerator[None] = watcher.__aiter__()
        async with aclosing(generator) as changes:
            async for _ in changes:
                self._turns.put_nowait(None)

    async def one(self, within_s: float = GUARD_S) -> None:
        """A turn has to come."""
        assert await self.comes(within_s), f"no change was seen within {within_s:g} s"

    async def comes(self, within_s: float) -> bool:
        """Whether there is a turn in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._turns.get()
                return True
        return False

    @property
    def more(self) -> int:
        return self._turns.qsize()

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


type Follow = Callable[..., Seen]


@pytest.fixture
async def seen() -> AsyncGenerator[Follow]:
    started: list[Seen] = []

    def follow(path: Path, look_every_s: float = 0.1, patterns: Sequence[str] = (), files: Sequence[Path] = ()) -> Seen:
        started.append(Seen(path, look_every_s, patterns, files))
        return started[-1]

    yield follow
    for one in started:
        await one.aclose()


async def edit(path: Path) -> None:
    path.write_text(path.read_text() + "\n# more")


async def replace(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_text(path.read_text() + "\n# more")
    new.rename(path)


async def remove_and_write(path: Path) -> None:
    text = path.read_text()
    path.unlink()
    path.write_text(text + "\n# more")


@pytest.mark.parametrize("change", [edit, replace, remove_and_write])
async def test_sees_a_changed_file(tmp_path: Path, seen: Follow, change: Callable[[Path], Awaitable[None]]) -> None:
    path = tmp_path / "ai-proxy.yaml"
    path.write_text("services: {}")
    turns = seen(path)
    for _ in range(2):
        await change(path)
        await turns.one()


async def test_sees_the_swap_of_a_kubernetes_mount(tmp_path: Path, seen: Follow) -> None:
    def version(number: int) -> None:
        directory = tmp_path / f"..{number}"
        directory.mkdir()
        (directory / "ai-proxy.yaml").write_text(f"# {number}")
        (tmp_path / "..tmp").symlink_to(directory.name)
        (tmp_path / "..tmp").rename(tmp_path / "..data")

    version(1)
    path = tmp_path / "ai-proxy.yaml"
    path.symlink_to(Path("..data") / "ai-proxy.yaml")
    turns = seen(path)
    for number in (2, 3):
        version(number)
        await turns.one()


async def test_sees_a_directory_above_being_swapped(tmp_path: Path, seen: Follow) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"v{number}").mkdir()
        (tmp_path / f"v{number}" / "ai-proxy.yaml").write_text(f"# {number}")
    current = tmp_path / "current"
    current.symlink_to("v1")
    turns = seen(current / "ai-proxy.yaml")
    for number in (2, 3):
        (tmp_path / "next").symlink_to(f"v{number}")
        (tmp_path / "next").rename(current)
        await turns.one()
    (tmp_path / "v3" / "ai-proxy.yaml").write_text("# edited")
    await turns.one()


async def test_an_event_is_enough(tmp_path: Path, seen: Follow) -> None:
    path = tmp_path / "ai-proxy.yaml"
    path.write_text("services: {}")
    turns = seen(path, look_every_s=600)
    # An edit before the watch stands gives no event, so edit until one is seen.
    for _ in range(TRIES):
        await edit(path)
        if await turns.comes(within_s=0.5):
            return
    pytest.fail("no event was seen")


async def test_a_touch_or_another_file_is_no_change(tmp_path: Path, seen: Follow) -> None:
    path = tmp_path / "ai-proxy.yaml"
    path.write_text("services: {}")
    turns = seen(path)
    os.utime(path)
    (tmp_path / "other.yaml").write_text("x")
    same = tmp_path / "same"
    same.write_text("services: {}")
    same.rename(path)
    await replace(path)  # in one step, as before: a file that is being written is another one meanwhile
    await turns.one()
    assert turns.more == 0


async def test_a_change_between_making_and_following_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "ai-proxy.yaml"
    path.write_text("a")
    watcher = Watcher(path, look_every_s=0.1)
    path.write_text("b")
    async with asyncio.timeout(GUARD_S), aclosing(watcher.__aiter__()) as changes:
        async for _ in changes:
            break


async def test_sees_model_files_come_and_go_once_each(tmp_path: Path, seen: Follow) -> None:
    path = tmp_path / "ai-proxy.yaml"
    path.touch()
    models = tmp_path / "srv" / "models"
    turns = seen(path, patterns=[f"{models}/*.gguf"])
    models.mkdir(parents=True)
    (models / "a.gguf").touch()
    await turns.one()
    (models / "a.gguf").write_text("longer")
    (models / "a.gguf").unlink()
    await turns.one()
    assert turns.more == 0


async def test_hears_of_a_model_file_without_looking(tmp_path: Path, seen: Follow) -> None:
    path = tmp_path / "ai-proxy.yaml"
    path.touch()
    models = tmp_path / "models"
    models.mkdir()
    turns = seen(path, look_every_s=600, patterns=[f"{models}/*.gguf"])
    for number in range(TRIES):  # there is a moment before the watch stands
        (models / f"{number}.gguf").touch()
        if await turns.comes(within_s=0.5):
            return
    pytest.fail("no event was seen")


@pytest.mark.parametrize("change", [edit, replace])
async def test_sees_a_changed_certificate_and_the_config_though_one_is_gone(
    tmp_path: Path, seen: Follow, change: Callable[[Path], Awaitable[None]]
) -> None:
    path, certificate = tmp_path / "ai-proxy.yaml", tmp_path / "live" / "cert.pem"
    path.touch()
    certificate.parent.mkdir()
    certificate.write_text("a certificate")
    turns = seen(path, files=[certificate])
    await change(certificate)
    await turns.one()
    certificate.unlink()
    await turns.one()
    await change(path)
    await turns.one()
