"""Which processes a replica is, asked of the runtimes that can tell."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ai_proxy.runtimes.base import Instance, Runtime, TellsPids
from ai_proxy.runtimes.docker.runtime import DockerRuntime
from ai_proxy.runtimes.external import ExternalRuntime
from ai_proxy.runtimes.process.runtime import ProcessRuntime
from tests.fakes.listening import stop_listening
from tests.fixtures.docker import MakeRuntime, tiny_spec
from tests.fixtures.dockerd import DockerHost
from tests.runtimes.harness import ignore, spec_of

GUARD_S = 20
FAMILY = "sleep 1000 & (sleep 1001 & wait) & wait"
"""Three generations: two shells that wait, and what they wait for."""

pytestmark = pytest.mark.slow


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    runtime = ProcessRuntime(tmp_path, {"PATH": "/usr/bin:/bin"})
    yield runtime
    await runtime.aclose()


async def names(runtime: TellsPids, instance: Instance, count: int) -> list[str]:
    """What the processes of a replica are called, once there are so many and none is about to become another."""
    async with asyncio.timeout(GUARD_S):
        while True:
            pids = await runtime.pids(instance) or ()
            found = sorted(Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids)
            if len(found) == count and found.count("sleep") == FAMILY.count("sleep"):
                return found
            await asyncio.sleep(0.02)


async def test_a_process_is_all_its_descendants(processes: ProcessRuntime) -> None:
    spec = spec_of("small", command=["/bin/bash", "-c", FAMILY, "{port}"], stop_grace_period=1)
    instance = await processes.start(spec, ignore)
    assert await names(processes, instance, 4) == ["bash", "bash", "sleep", "sleep"]
    await processes.stop(instance, 1)
    assert await processes.pids(instance) == frozenset()


@pytest.mark.docker
async def test_a_container_is_all_its_processes_as_the_host_numbers_them(docker_runtime: DockerRuntime) -> None:
    instance = await docker_runtime.start(tiny_spec(command=["sh", "-c", FAMILY]), ignore)
    assert await names(docker_runtime, instance, 4) == ["sh", "sh", "sleep", "sleep"]
    await docker_runtime.stop(instance, 1)
    assert await docker_runtime.pids(instance) == frozenset()


@pytest.mark.docker
async def test_an_engine_behind_a_network_has_no_processes_of_this_host(
    docker_engine: DockerHost, make_docker_runtime: MakeRuntime
) -> None:
    path = docker_engine.host.removeprefix("unix://")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_unix_connection(path)
        await asyncio.wait(
            [asyncio.create_task(_pipe(reader, upstream[1])), asyncio.create_task(_pipe(upstream[0], writer))]
        )

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    runtime = make_docker_runtime(docker_engine, docker_host=f"tcp://127.0.0.1:{port}")
    instance = await runtime.start(tiny_spec(), ignore)
    assert await runtime.pids(instance) is None
    await runtime.stop(instance, 1)
    await runtime.aclose()
    await stop_listening(server)
    await server.wait_closed()


async def test_a_service_that_runs_elsewhere_is_no_process_here() -> None:
    runtime: Runtime = ExternalRuntime()
    assert not isinstance(runtime, TellsPids)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
