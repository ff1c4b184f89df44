"""Process replicas, on real processes: what they are given, how they end, and that nothing of them is left."""

import asyncio
import json
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from ai_proxy.devices import Device, Placement
from ai_proxy.errors import StartFailed
from ai_proxy.runtimes.base import Exit, Instance
from ai_proxy.runtimes.process.ports import free_port
from ai_proxy.runtimes.process.runtime import ProcessRuntime
from tests.conftest import missing
from tests.fakes.engine import argv
from tests.fixtures.docker import until
from tests.runtimes.harness import engine_spec, ignore, spec_of

pytestmark = pytest.mark.slow

GUARD_S = 10


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    made = ProcessRuntime(tmp_path, {**os.environ, "FROM_THE_PROXY": "yes"})
    async with asyncio.timeout(60):
        yield made
        await made.aclose()


async def line_of(runtime: ProcessRuntime, instance: Instance, start: str) -> str:
    """The first line that starts so, without that start; waits for it."""
    async with asyncio.timeout(GUARD_S), aclosing(runtime.logs(instance, follow=True)) as lines:
        async for line in lines:
            if line.startswith(start):
                return line.removeprefix(start)
    raise AssertionError(f"it ended and never said {start!r}")


async def listening(runtime: ProcessRuntime, instance: Instance) -> None:
    await line_of(runtime, instance, "listening on ")


def runs(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


async def test_a_process_answers_on_the_port_it_was_given_and_then_is_gone(runtime: ProcessRuntime) -> None:
    instance = await runtime.start(engine_spec(), ignore)
    await listening(runtime, instance)
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{instance.host}:{instance.port}/health")
    assert answer.json() == {"status": "ok"}
    await runtime.stop(instance, 5)
    assert not exists(int(instance.id))
    with pytest.raises(ConnectionRefusedError), socket.socket() as client_socket:
        client_socket.connect((instance.host, instance.port))


async def test_the_placement_names_and_variables_reach_the_process(runtime: ProcessRuntime) -> None:
    gpus = Placement((Device("1", "GPU-b", 24576), Device("3", "GPU-d", 24576)), vram_mb=9000)
    command = argv("--port", "{port}", "--print-env", "--model", "{file}", "--say", "{id} {gpu_count} {vram_fraction}")
    spec = spec_of(
        "small",
        placement=gpus,
        command=command,
        vars={"file": "x.gguf"},
        environment={"PORT": "{port}", "JSON": '{"a": 1}'},
    )
    instance = await runtime.start(spec, ignore)
    assert await line_of(runtime, instance, "small ") == "2 0.36"
    env = json.loads(await line_of(runtime, instance, "env "))
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-b,GPU-d"
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert env["PORT"] == str(instance.port)
    assert env["JSON"] == '{"a": 1}'
    assert env["FROM_THE_PROXY"] == "yes"


async def test_a_service_without_gpus_sees_none(runtime: ProcessRuntime) -> None:
    instance = await runtime.start(engine_spec("--print-env"), ignore)
    env = json.loads(await line_of(runtime, instance, "env "))
    hidden = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
    assert [env[name] for name in hidden] == ["", "", ""]


async def test_two_replicas_never_share_a_port(runtime: ProcessRuntime) -> None:
    specs = [engine_spec("--listen-after", "60", service=f"s{number}") for number in range(4)]
    instances = await asyncio.gather(*(runtime.start(spec, ignore) for spec in specs))
    assert len({instance.port for instance in instances}) == 4


async def test_the_working_directory_is_the_configured_one(runtime: ProcessRuntime, tmp_path: Path) -> None:
    spec = spec_of("small", command=["/bin/sh", "-c", "pwd; sleep 60", "{port}"], working_dir=str(tmp_path))
    instance = await runtime.start(spec, ignore)
    assert await line_of(runtime, instance, "/") == str(tmp_path.resolve()).removeprefix("/")


async def test_a_missing_program_is_named(runtime: ProcessRuntime) -> None:
    with pytest.raises(StartFailed, match="'no-such-server' was not found: install it"):
        await runtime.start(spec_of("small", command="no-such-server --port {port}"), ignore)


async def test_a_file_that_is_not_executable_is_named(runtime: ProcessRuntime, tmp_path: Path) -> None:
    script = tmp_path / "server"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(StartFailed, match="server' is not executable"):
        await runtime.start(spec_of("small", command=[str(script), "{port}"]), ignore)


async def test_a_file_that_is_no_program_is_named(runtime: ProcessRuntime, tmp_path: Path) -> None:
    script = tmp_path / "server"
    script.write_text("neither this nor that\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(StartFailed, match="neither a program for this machine nor a script"):
        await runtime.start(spec_of("small", command=[str(script), "{port}"]), ignore)


async def test_a_command_that_is_too_long_is_told(runtime: ProcessRuntime) -> None:
    with pytest.raises(StartFailed, match="Argument list too long"):
        await runtime.start(spec_of("small", command=["/bin/echo", "{port}", "x" * 3_000_000]), ignore)


async def test_a_stranger_is_not_ours_to_stop_or_to_wait_for(runtime: ProcessRuntime) -> None:
    stranger = Instance(str(os.getppid()), "small", "127.0.0.1", 1)
    await runtime.stop(stranger, 0)
    assert await runtime.wait(stranger) == Exit()
    assert [line async for line in runtime.logs(stranger, follow=True)] == []


async def test_a_missing_working_directory_is_named(runtime: ProcessRuntime) -> None:
    with pytest.raises(StartFailed, match="working_dir '/no/such' is not a directory"):
        await runtime.start(engine_spec(working_dir="/no/such"), ignore)


async def test_l07_a_fixed_port_that_is_taken_is_named(runtime: ProcessRuntime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartFailed, match=f"port {port} is in use by another program"):
            await runtime.start(spec_of("small", command="sleep 60", port=port), ignore)


async def test_a_second_replica_needs_a_port_of_its_own_though_the_first_does_not_listen_yet(
    runtime: ProcessRuntime,
) -> None:
    first = spec_of("small", command="sleep 60", port=free_port(avoid=()))
    await runtime.start(first, ignore)
    with pytest.raises(StartFailed, match=r"in use by another replica; write \{port\}"):
        await runtime.start(replace(first, replica=1), ignore)


async def test_l07_a_port_that_was_taken_meanwhile_is_told_with_the_end(
    runtime: ProcessRuntime, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = "until [ -e $0 ]; do sleep 0.02; done; exec " + " ".join(argv("--port", "{port}"))
    instance = await runtime.start(spec_of("small", command=["/bin/sh", "-c", script, str(go)]), ignore)
    with socket.create_server(("127.0.0.1", instance.port)):
        go.touch()
        async with asyncio.timeout(GUARD_S):
            outcome = await runtime.wait(instance)
    assert outcome.code == 1
    assert outcome.log_tail[-1] == f"port {instance.port} is in use by another program"


async def test_l05_an_engine_that_exits_at_once_gives_its_code_and_last_lines(runtime: ProcessRuntime) -> None:
    flags = ("--say", "loading", "--say", "out of VRAM", "--exit-after", "0", "--exit-code", "7")
    instance = await runtime.start(engine_spec(*flags), ignore)
    async with asyncio.timeout(GUARD_S):
        assert await runtime.wait(instance) == Exit(code=7, log_tail=("loading", "out of VRAM"))
    assert [line async for line in runtime.logs(instance, follow=False)] == ["loading", "out of VRAM"]


async def test_an_engine_that_is_killed_tells_the_signal(runtime: ProcessRuntime) -> None:
    instance = await runtime.start(engine_spec(), ignore)
    await listening(runtime, instance)
    os.kill(int(instance.id), signal.SIGSEGV)
    async with asyncio.timeout(GUARD_S):
        assert (await runtime.wait(instance)).cause == "killed by signal 11"


@pytest.fixture
def little_memory(tmp_path: Path) -> Iterator[Path]:
    """A memory control group of 32 MiB: the file to which a process writes its pid to be in it."""
    group = Path("/sys/fs/cgroup/memory") / f"ai-proxy-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(32 * 1024**2))
    except OSError as error:
        missing(f"no memory control group can be made here: {error}")
    yield group / "cgroup.procs"
    group.rmdir()


@pytest.mark.oom
async def test_l04_an_engine_that_the_kernel_kills_for_want_of_memory_is_said_to_be(
    runtime: ProcessRuntime, little_memory: Path
) -> None:
    script = 'echo $$ > "$0" && exec python3 -I -S -c "x = bytearray(200 * 2**20)"'
    instance = await runtime.start(
        spec_of("small", command=["/bin/sh", "-c", script, str(little_memory), "{port}"]), ignore
    )
    async with asyncio.timeout(GUARD_S):
        assert (await runtime.wait(instance)).cause == "killed by the kernel: out of memory"


async def test_an_engine_that_somebody_kills_is_not_out_of_memory(runtime: ProcessRuntime) -> None:
    instance = await runtime.start(engine_spec(), ignore)
    await listening(runtime, instance)
    os.kill(int(instance.id), signal.SIGKILL)
    async with asyncio.timeout(GUARD_S):
        assert (await runtime.wait(instance)).cause == "killed by signal 9"


async def test_l15_an_engine_that_ignores_sigterm_is_killed_after_the_grace(runtime: ProcessRuntime) -> None:
    instance = await runtime.start(engine_spec("--ignore-sigterm"), ignore)
    await listening(runtime, instance)
    await runtime.stop(instance, 0.1)
    assert not exists(int(instance.id))
    assert (await runtime.wait(instance)).cause == "killed by signal 9"


async def test_a_second_stop_can_shorten_the_grace(runtime: ProcessRuntime) -> None:
    instance = await runtime.start(engine_spec("--ignore-sigterm"), ignore)
    await listening(runtime, instance)
    patient = asyncio.create_task(runtime.stop(instance, 3600))
    await asyncio.sleep(0)
    async with asyncio.timeout(GUARD_S):
        await runtime.stop(instance, 0)
        await patient
    assert not exists(int(instance.id))


async def test_a_stop_that_is_cancelled_still_takes_effect(runtime: ProcessRuntime) -> None:
    instance = await runtime.start(engine_spec(), ignore)
    await listening(runtime, instance)
    stopping = asyncio.create_task(runtime.stop(instance, 5))
    await asyncio.sleep(0)
    stopping.cancel()
    async with asyncio.timeout(GUARD_S):
        assert await runtime.wait(instance) == Exit(code=0, log_tail=(f"listening on 127.0.0.1:{instance.port}",))


@pytest.mark.parametrize("kind", ["--spawn", "--spawn-daemon"])
@pytest.mark.parametrize("stubborn", [(), ("--child-ignores-sigterm",)])
async def test_grandchildren_are_gone_when_stop_returns(
    runtime: ProcessRuntime, kind: str, stubborn: tuple[str, ...]
) -> None:
    instance = await runtime.start(engine_spec(kind, *stubborn), ignore)
    child = int(await line_of(runtime, instance, "child "))
    await runtime.stop(instance, 0.1)
    assert not exists(child)


@pytest.mark.parametrize("kind", ["--spawn", "--spawn-daemon"])
async def test_grandchildren_go_with_an_engine_that_ends_by_itself(runtime: ProcessRuntime, kind: str) -> None:
    instance = await runtime.start(engine_spec(kind), ignore)
    child = int(await line_of(runtime, instance, "child "))
    os.kill(int(instance.id), signal.SIGKILL)
    async with asyncio.timeout(GUARD_S):
        await runtime.wait(instance)
    assert not exists(child)


async def test_closing_the_runtime_stops_all(runtime: ProcessRuntime) -> None:
    instances = [await runtime.start(engine_spec(service=f"s{number}"), ignore) for number in range(2)]
    await runtime.aclose()
    assert [exists(int(instance.id)) for instance in instances] == [False, False]
    with pytest.raises(StartFailed, match="the proxy is ending"):
        await runtime.start(engine_spec(), ignore)


async def test_l19_a_flood_of_output_stays_bounded_and_stops_nobody(runtime: ProcessRuntime) -> None:
    instance = await runtime.start(engine_spec("--flood"), ignore)
    await line_of(runtime, instance, "0002047 ")
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{instance.host}:{instance.port}/health")
    assert answer.status_code == 200
    kept = [line async for line in runtime.logs(instance, follow=False)]
    assert sum(len(line) + 1 for line in kept) <= 256 * 1024
    async with asyncio.timeout(GUARD_S):
        await runtime.stop(instance, 5)


async def test_the_guard_killed_takes_all_with_it(runtime: ProcessRuntime) -> None:
    instance = await runtime.start(engine_spec("--spawn", "--spawn-daemon"), ignore)
    await listening(runtime, instance)
    children = [int(line.split()[1]) async for line in runtime.logs(instance, follow=False) if "child" in line]
    os.kill(parent_of(int(instance.id)), signal.SIGKILL)
    async with asyncio.timeout(GUARD_S):
        assert (await runtime.wait(instance)).cause == "killed by signal 9"
    assert len(children) == 2
    await until(lambda: not any(runs(pid) for pid in [int(instance.id), *children]))


async def test_a_guard_that_hangs_does_not_keep_an_engine_alive(tmp_path: Path) -> None:
    runtime = ProcessRuntime(tmp_path, os.environ, margin_s=0.2)
    instance = await runtime.start(engine_spec(), ignore)
    os.kill(parent_of(int(instance.id)), signal.SIGSTOP)
    await runtime.stop(instance, 0.1)
    await until(lambda: not runs(int(instance.id)))


async def test_l16_a_disk_that_takes_no_records_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "processes").write_text("a file where the directory should be")
    runtime = ProcessRuntime(tmp_path, os.environ)
    instance = await runtime.start(engine_spec(), ignore)
    await listening(runtime, instance)
    await runtime.aclose()
    assert not exists(int(instance.id))
