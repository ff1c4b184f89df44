"""Containers created ahead of their start: taken by the right one, and never left behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ai_proxy.devices import Placement
from ai_proxy.errors import RuntimeUnavailable, StartFailed
from ai_proxy.runtimes.base import CreatesAhead, InstanceSpec
from ai_proxy.runtimes.docker.engine import Deadlines
from ai_proxy.runtimes.docker.runtime import DockerRuntime
from tests.fakes.docker_relay import Spoil, docker_relay
from tests.fixtures.docker import GUARD_S, MakeRuntime, answer_of, ignore, tiny_spec, until
from tests.fixtures.dockerd import DockerHost

pytestmark = [pytest.mark.docker, pytest.mark.slow]

NAME = "ahead"
LABEL = f"ai-proxy.name={NAME}"
CREATE = r"POST .*/containers/create"
IMAGES = r"GET .*/images/"


@pytest.fixture
def runtime(docker_engine: DockerHost, make_docker_runtime: MakeRuntime) -> DockerRuntime:
    return make_docker_runtime(docker_engine, NAME)


@asynccontextmanager
async def created(
    runtime: DockerRuntime, engine: DockerHost, spec: InstanceSpec
) -> AsyncIterator[tuple[str, asyncio.Task[None]]]:
    """A container that was created ahead, and who holds it."""
    held = asyncio.create_task(runtime.create_ahead(spec))
    # An engine may go on listing for a moment what it has removed.
    await until(lambda: len(engine.labelled(LABEL, "created")) == 1)
    (container,) = engine.labelled(LABEL, "created")
    yield container, held
    held.cancel()
    await asyncio.wait({held})


async def test_a_start_from_the_same_spec_only_starts_it(runtime: DockerRuntime, docker_engine: DockerHost) -> None:
    assert isinstance(runtime, CreatesAhead)
    spec, said = tiny_spec(placement=Placement(vram_mb=900)), list[str]()
    async with created(runtime, docker_engine, spec) as (container, held):
        instance = await runtime.start(replace(spec, placement=Placement(vram_mb=900)), said.append)
        async with asyncio.timeout(GUARD_S):
            await held
    assert (instance.id, instance.placement, said) == (container, spec.placement, ["starting container"])
    assert await answer_of(instance) == "ok"
    assert docker_engine.labelled(LABEL) == [container]
    await runtime.stop(instance, 2)
    again = await runtime.start(spec, ignore)
    assert again.id != container


@pytest.mark.parametrize("spoilt", ["another placement", "other settings", "removed", "started by somebody"])
async def test_any_other_start_creates_its_own_and_leaves_no_second_one(
    runtime: DockerRuntime, docker_engine: DockerHost, spoilt: str
) -> None:
    spec = tiny_spec()
    async with created(runtime, docker_engine, spec) as (container, _):
        if spoilt == "another placement":
            spec = replace(spec, placement=Placement(vram_mb=1))
        elif spoilt == "other settings":
            spec = replace(spec, spec_hash="h2")
        else:
            docker_engine.docker("rm" if spoilt == "removed" else "start", container)
        instance = await runtime.start(spec, ignore)
        assert docker_engine.labelled(LABEL) == [instance.id] != [container]
    assert await answer_of(instance) == "ok"
    assert docker_engine.labelled(LABEL) == [instance.id]


async def test_a_replica_has_one_at_most_and_it_is_the_last_that_was_asked_for(
    runtime: DockerRuntime, docker_engine: DockerHost
) -> None:
    specs = [tiny_spec(placement=Placement(vram_mb=size)) for size in (1, 2, 3)]
    holding = [asyncio.create_task(runtime.create_ahead(spec)) for spec in specs]
    async with asyncio.timeout(GUARD_S):
        await asyncio.wait(holding[:2])
    instance = await runtime.start(specs[2], ignore)
    assert docker_engine.labelled(LABEL) == [instance.id]
    async with asyncio.timeout(GUARD_S):
        await asyncio.gather(*holding)


async def test_cancelled_at_any_point_it_leaves_nothing(runtime: DockerRuntime, docker_engine: DockerHost) -> None:
    for delay_ms in (0, 3, 6, 12, 25, 50, 100):
        held = asyncio.create_task(runtime.create_ahead(tiny_spec()))
        await asyncio.wait({held}, timeout=delay_ms / 1000)
        held.cancel()
        async with asyncio.timeout(GUARD_S):
            await asyncio.wait({held})
        assert docker_engine.labelled(LABEL) == []


async def test_a_start_that_takes_it_and_is_cancelled_leaves_nothing(
    runtime: DockerRuntime, docker_engine: DockerHost
) -> None:
    for delay_ms in (0, 3, 10, 30, 100):
        async with created(runtime, docker_engine, tiny_spec()):
            start = asyncio.create_task(runtime.start(tiny_spec(), ignore))
            done, _ = await asyncio.wait({start}, timeout=delay_ms / 1000)
            start.cancel()
            await asyncio.gather(start, return_exceptions=True)
            if done:
                await runtime.stop(start.result(), 1)
        await until(lambda: docker_engine.labelled(LABEL) == [])


async def test_another_life_of_the_proxy_removes_it(
    runtime: DockerRuntime, docker_engine: DockerHost, make_docker_runtime: MakeRuntime
) -> None:
    async with created(runtime, docker_engine, tiny_spec()):
        assert await make_docker_runtime(docker_engine, NAME).adopt() == []
        await until(lambda: docker_engine.labelled(LABEL) == [])


async def test_what_has_its_name_is_left_alone(runtime: DockerRuntime, docker_engine: DockerHost) -> None:
    running = await runtime.start(tiny_spec(), ignore)
    with pytest.raises(StartFailed, match=f"ai-proxy-{NAME}-tiny-0 exists already"):
        await runtime.create_ahead(tiny_spec())
    assert await answer_of(running) == "ok"
    assert docker_engine.labelled(LABEL) == [running.id]


async def test_what_can_not_be_created_is_the_starts_to_tell(runtime: DockerRuntime, docker_engine: DockerHost) -> None:
    broken = tiny_spec(networks=["bridge", "nowhere"])
    for attempt in (runtime.create_ahead(broken), runtime.start(broken, ignore)):
        with pytest.raises(StartFailed, match="nowhere"):
            await attempt
    assert docker_engine.labelled(LABEL) == []


@pytest.mark.parametrize(("hangs", "heals"), [(IMAGES, True), (CREATE, True), (CREATE, False)])
async def test_a_start_that_comes_while_it_is_made_has_no_rival(
    docker_engine: DockerHost, make_docker_runtime: MakeRuntime, tmp_path: Path, hangs: str, *, heals: bool
) -> None:
    """It takes what is being created, or creates its own where that has not begun or does not get anywhere."""
    async with docker_relay(Path(docker_engine.host.removeprefix("unix://")), tmp_path / "relay.sock") as relay:
        deadlines = Deadlines(call_s=GUARD_S, create_s=GUARD_S if heals else 0.3)
        runtime = make_docker_runtime(docker_engine, NAME, docker_host=relay.host, deadlines=deadlines)
        rule = relay.spoil(hangs, Spoil.HANG, times=1)
        held = asyncio.create_task(runtime.create_ahead(tiny_spec()))
        async with asyncio.timeout(GUARD_S):
            await rule.hit.wait()
            runtime._engine.deadlines = replace(deadlines, create_s=GUARD_S)
            start = asyncio.create_task(runtime.start(tiny_spec(), ignore))
            if heals:
                await asyncio.sleep(0)
                relay.cut()
            instance = await start
            await asyncio.wait({held})
        assert heals or isinstance(held.exception(), RuntimeUnavailable)
        assert docker_engine.labelled(LABEL) == [instance.id]
        await runtime.stop(instance, 2)
