"""Containers that the kernel takes memory from."""

import asyncio

import pytest

from ai_proxy.runtimes.base import Exit
from ai_proxy.runtimes.docker.runtime import DockerRuntime
from tests.fixtures.docker import GUARD_S, ignore, tiny_spec

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.oom]


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("sleep 0.5; exec tail /dev/zero", id="its first process"),
        pytest.param("sleep 0.5; tail /dev/zero; exit 1", id="a child of it"),
    ],
)
async def test_l04_an_end_for_want_of_memory_is_called_that(docker_runtime: DockerRuntime, script: str) -> None:
    spec = tiny_spec(command=["sh", "-c", script], mem_limit="16m")
    instance = await docker_runtime.start(spec, ignore)
    async with asyncio.timeout(2 * GUARD_S):
        end = await docker_runtime.wait(instance)
    assert end.oom_killed
    assert end.cause == Exit(oom_killed=True).cause
