"""No process outlives a proxy that was killed, nor one whose guard was killed with it; strangers are left alone."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ai_proxy.runtimes.process import orphans
from ai_proxy.runtimes.process.orphans import Record, Records, record_of, survivors
from ai_proxy.runtimes.process.runtime import ProcessRuntime
from tests.fakes.engine import argv
from tests.fixtures.docker import until
from tests.runtimes.process.test_process import GUARD_S, parent_of, runs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


@dataclass
class Life:
    """A proxy of its own process, its replica's guard, and all that the replica started."""

    proxy: asyncio.subprocess.Process
    guard: int
    replica: Sequence[int]

    @property
    def left(self) -> list[int]:
        return [pid for pid in (self.guard, *self.replica) if runs(pid)]


@asynccontextmanager
async def life(state_dir: Path, *flags: str) -> AsyncIterator[Life]:
    """A proxy that has started a replica with a child and a daemon of its own."""
    command = (
        "-m",
        "tests.fakes.proxy",
        str(state_dir),
        *argv("--port", "{port}", "--spawn", "--spawn-daemon", *flags),
    )
    proxy = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdout=subprocess.PIPE)
    assert proxy.stdout is not None
    pids = []
    async with asyncio.timeout(GUARD_S):
        while not (line := await proxy.stdout.readline()).startswith(b"listening"):
            assert line, "the proxy ended"
            pids.append(int(line.split()[1]))
    this = Life(proxy, parent_of(pids[0]), pids)
    try:
        yield this
    finally:
        for pid in this.left:
            os.kill(pid, signal.SIGKILL)
        await proxy.wait()


@pytest.mark.parametrize("flags", [(), ("--ignore-sigterm", "--child-ignores-sigterm")])
async def test_l10_nothing_outlives_a_proxy_that_was_killed(tmp_path: Path, flags: tuple[str, ...]) -> None:
    async with life(tmp_path, *flags) as killed:
        killed.proxy.kill()
        await until(lambda: killed.left == [])


async def test_l10_nothing_outlives_a_proxy_that_was_killed_while_it_started_something(tmp_path: Path) -> None:
    command = ("-m", "tests.fakes.proxy", str(tmp_path), *argv("--port", "{port}", "--listen-after", "60"))
    proxy = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT)
    await until(lambda: list(tmp_path.glob("processes/*.json")) != [])
    proxy.kill()
    await proxy.wait()
    (record,) = tmp_path.glob("processes/*.json")
    await until(lambda: survivors(Record(record.stem)) == [])


async def test_the_engine_may_end_in_peace_when_the_proxy_was_killed(tmp_path: Path) -> None:
    farewell = tmp_path / "farewell"
    # Nobody reads its errors any more once the proxy is gone: to write one would end it at once.
    script = "exec 2>/dev/null; trap 'touch $0; exit' TERM; echo listening; while :; do sleep 0.05; done"
    command = ("-m", "tests.fakes.proxy", str(tmp_path), "/bin/sh", "-c", script, str(farewell), "{port}")
    proxy = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdout=subprocess.PIPE)
    assert proxy.stdout is not None
    while await proxy.stdout.readline() != b"listening\n":
        pass
    proxy.kill()
    await proxy.wait()
    await until(farewell.exists)


async def test_the_next_boot_kills_what_a_killed_guard_left(tmp_path: Path) -> None:
    async with life(tmp_path) as killed:
        os.kill(killed.proxy.pid, signal.SIGSTOP)  # so that it can't clean up when its guard dies
        os.kill(killed.guard, signal.SIGKILL)
        killed.proxy.kill()
        await killed.proxy.wait()
        assert len(killed.left) >= 2
        assert await ProcessRuntime(tmp_path, os.environ).adopt() == ()
        assert killed.left == []
    assert list((tmp_path / "processes").iterdir()) == []


async def test_a_boot_after_a_boot_kills_nothing(tmp_path: Path) -> None:
    async with life(tmp_path) as killed:
        killed.proxy.kill()
        await ProcessRuntime(tmp_path, os.environ).adopt()
    assert Records(tmp_path / "processes").clean() == []


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a session, as replicas do, and is none."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


def test_a_stranger_that_was_given_the_pid_is_left_alone(tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    records = Records(tmp_path)
    same = record_of("token", stranger.pid)
    records.write(Record("token", stranger.pid, same.started - 1, same.boot))
    assert records.clean() == []
    assert stranger.poll() is None


def test_a_pid_of_another_boot_means_nothing(stranger: subprocess.Popen[bytes]) -> None:
    same = record_of("token", stranger.pid)
    assert survivors(Record("token", stranger.pid, same.started, "another boot")) == []


def test_a_session_is_known_by_its_leader(stranger: subprocess.Popen[bytes]) -> None:
    assert survivors(record_of("token", stranger.pid)) == [stranger.pid]


def test_a_process_in_a_session_of_its_own_is_known_by_its_token() -> None:
    environ = {orphans.TOKEN_VARIABLE: "small.0.feed"}
    with subprocess.Popen(["sleep", "60"], start_new_session=True, env=environ) as process:
        found = survivors(Record("small.0.feed")), survivors(Record("small.0.fee"))
        process.kill()
    assert found == ([process.pid], [])


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"pid": 1})])
def test_a_record_that_cannot_be_read_is_forgotten(tmp_path: Path, content: str) -> None:
    (tmp_path / "small.0.feed.json").write_text(content)
    assert Records(tmp_path).clean() == []
    assert list(tmp_path.iterdir()) == []
