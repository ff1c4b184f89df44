"""What every runtime promises, asked of the fake, processes, containers and, where it applies, external services."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from ai_proxy.errors import StartFailed
from ai_proxy.runtimes.base import Exit
from tests.fixtures.docker import MakeRuntime, until
from tests.fixtures.dockerd import DockerHost
from tests.runtimes.harness import DockerHarness, ExternalHarness, FakeHarness, Harness, ProcessHarness, ignore

STARTS_THEM = [
    "fake",
    pytest.param("process", marks=pytest.mark.slow),
    pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.slow]),
]
ALL = [*STARTS_THEM, "external"]
GUARD_S = 10


@pytest.fixture
async def fake_harness() -> FakeHarness:
    return FakeHarness()


@pytest.fixture
async def process_harness(tmp_path: Path) -> AsyncIterator[ProcessHarness]:
    made = ProcessHarness(tmp_path)
    yield made
    await made.runtime.aclose()


@pytest.fixture
def docker_harness(docker_engine: DockerHost, make_docker_runtime: MakeRuntime) -> DockerHarness:
    name = f"c{uuid.uuid4().hex[:8]}"
    return DockerHarness(make_docker_runtime(docker_engine, name), docker_engine, f"ai-proxy.name={name}")


@pytest.fixture
async def external_harness() -> ExternalHarness:
    return ExternalHarness()


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> Harness:
    made: Harness = request.getfixturevalue(f"{request.param}_harness")
    return made


@pytest.mark.parametrize("harness", ALL, indirect=True)
async def test_an_instance_carries_what_its_spec_said(harness: Harness) -> None:
    spec = harness.spec()
    instance = await harness.runtime.start(spec, ignore)
    carried = (instance.service, instance.replica, instance.spec_hash, instance.placement)
    assert carried == (spec.service, spec.replica, spec.spec_hash, spec.placement)
    assert instance.port > 0
    await harness.runtime.stop(instance, 0)


@pytest.mark.parametrize("harness", ALL, indirect=True)
async def test_a_start_says_what_it_does(harness: Harness) -> None:
    said: list[str] = []
    instance = await harness.runtime.start(harness.spec(), said.append)
    assert said
    await harness.runtime.stop(instance, 0)


@pytest.mark.parametrize("harness", ALL, indirect=True)
async def test_wait_returns_once_it_is_stopped(harness: Harness) -> None:
    instance = await harness.runtime.start(harness.spec(), ignore)
    waiting = asyncio.create_task(harness.runtime.wait(instance))
    await harness.runtime.stop(instance, 5)
    async with asyncio.timeout(GUARD_S):
        assert isinstance(await waiting, Exit)
    assert harness.running() == 0


@pytest.mark.parametrize("harness", ALL, indirect=True)
async def test_stopping_twice_is_stopping_once(harness: Harness) -> None:
    instance = await harness.runtime.start(harness.spec(), ignore)
    await asyncio.gather(harness.runtime.stop(instance, 5), harness.runtime.stop(instance, 5))
    await harness.runtime.stop(instance, 5)
    assert harness.running() == 0


@pytest.mark.parametrize("harness", ALL, indirect=True)
async def test_a_start_that_fails_says_why_and_leaves_nothing(harness: Harness) -> None:
    with pytest.raises(StartFailed) as failure:
        await harness.runtime.start(harness.broken(), ignore)
    assert failure.value.message
    assert harness.running() == 0


@pytest.mark.parametrize("harness", STARTS_THEM[1:], indirect=True)
async def test_l22_an_instance_tells_at_any_time_whether_it_lives(harness: Harness) -> None:
    instance = await harness.runtime.start(harness.spec(), ignore)
    assert instance.is_alive is not None
    assert instance.is_alive()
    await harness.runtime.stop(instance, 5)
    assert not instance.is_alive()


@pytest.mark.parametrize("harness", ALL, indirect=True)
async def test_nothing_is_adopted_where_nothing_was_left(harness: Harness) -> None:
    assert list(await harness.runtime.adopt()) == []


@pytest.mark.parametrize("harness", ALL, indirect=True)
async def test_a_wait_that_is_cancelled_changes_nothing(harness: Harness) -> None:
    instance = await harness.runtime.start(harness.spec(), ignore)
    first, second = (asyncio.create_task(harness.runtime.wait(instance)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    assert not second.done()
    await harness.runtime.stop(instance, 5)
    assert isinstance(await second, Exit)


@pytest.mark.parametrize("harness", STARTS_THEM, indirect=True)
async def test_wait_tells_everyone_how_it_ended_by_itself(harness: Harness) -> None:
    instance = await harness.runtime.start(harness.spec(), ignore)
    waiting = [asyncio.create_task(harness.runtime.wait(instance)) for _ in range(2)]
    await harness.end(instance)
    async with asyncio.timeout(GUARD_S):
        outcomes = await asyncio.gather(*waiting)
    assert [outcome.cause for outcome in outcomes] == ["exited with code 3"] * 2
    await harness.runtime.stop(instance, 5)


@pytest.mark.parametrize("harness", STARTS_THEM, indirect=True)
async def test_following_the_log_ends_with_the_replica(harness: Harness) -> None:
    instance = await harness.runtime.start(harness.spec(), ignore)

    async def follow() -> list[str]:
        return [line async for line in harness.runtime.logs(instance, follow=True)]

    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    await harness.end(instance)
    async with asyncio.timeout(GUARD_S):
        assert await following == ["last words"]


@pytest.mark.parametrize("harness", STARTS_THEM, indirect=True)
async def test_replicas_of_a_service_live_side_by_side_and_end_apart(harness: Harness) -> None:
    specs = [replace(harness.spec(), replica=number) for number in range(3)]
    instances = await asyncio.gather(*(harness.runtime.start(spec, ignore) for spec in specs))
    assert [instance.key for instance in instances] == ["small", "small#1", "small#2"]
    assert len({instance.id for instance in instances}) == 3
    await until(lambda: harness.running() == 3)
    await harness.runtime.stop(instances[1], 5)
    assert harness.running() == 2
    again = await harness.runtime.start(specs[1], ignore)
    assert (again.key, again.id in {instance.id for instance in instances}) == ("small#1", False)
    await until(lambda: harness.running() == 3)
    await asyncio.gather(*(harness.runtime.stop(instance, 5) for instance in (instances[0], again, instances[2])))
    assert harness.running() == 0


@pytest.mark.parametrize("harness", ALL, indirect=True)
async def test_a_preparation_starts_nothing(harness: Harness) -> None:
    await harness.runtime.prepare(harness.spec().config, ignore)
    assert harness.running() == 0


@pytest.mark.parametrize("harness", STARTS_THEM, indirect=True)
async def test_a_stopped_service_starts_again_as_another_instance(harness: Harness) -> None:
    first = await harness.runtime.start(harness.spec(), ignore)
    await harness.runtime.stop(first, 5)
    second = await harness.runtime.start(harness.spec(), ignore)
    assert second.id != first.id
    await until(lambda: harness.running() == 1)
    await harness.runtime.stop(first, 5)
    assert harness.running() == 1
    await harness.runtime.stop(second, 5)


@pytest.mark.parametrize("harness", STARTS_THEM, indirect=True)
async def test_a_start_that_is_cancelled_leaves_nothing(harness: Harness) -> None:
    for turns in (1, 2, 5, 20):
        starting = asyncio.create_task(harness.runtime.start(harness.spec(), ignore))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        (done,), _ = await asyncio.wait([starting])
        if not done.cancelled():
            await harness.runtime.stop(done.result(), 5)
        await until(lambda: harness.running() == 0)
