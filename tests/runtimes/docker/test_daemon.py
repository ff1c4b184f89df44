"""The engine's own daemon restarted, killed or frozen under running containers."""

import asyncio

import pytest

from ai_proxy.errors import RuntimeUnavailable
from ai_proxy.runtimes.docker.engine import Deadlines
from ai_proxy.runtimes.docker.reach import Reach
from tests.fixtures.docker import GUARD_S, MakeDockerd, MakeRuntime, answer_of, ignore, tiny_spec
from tests.fixtures.dockerd import Dockerd

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(scope="module")
def live_restore(make_dockerd: MakeDockerd) -> Dockerd:
    """An engine whose containers outlive its daemon."""
    return make_dockerd("--live-restore")


async def test_l01_containers_serve_while_the_daemon_is_dead_and_are_waited_for_after_its_return(
    live_restore: Dockerd, make_docker_runtime: MakeRuntime
) -> None:
    runtime = make_docker_runtime(live_restore, reach=Reach.ADDRESS)
    instance = await runtime.start(tiny_spec(), ignore)
    assert await answer_of(instance) == "ok"
    wait = asyncio.create_task(runtime.wait(instance))
    live_restore.kill()
    assert await answer_of(instance) == "ok"
    with pytest.raises(RuntimeUnavailable, match="can't be reached"):
        await runtime.start(tiny_spec("other"), ignore)
    with pytest.raises(RuntimeUnavailable, match="can't be reached"):
        await runtime.stop(instance, 1)

    live_restore.start()
    assert await runtime.adopt() == [instance]
    assert not wait.done()
    live_restore.docker("kill", instance.id)
    async with asyncio.timeout(GUARD_S):
        assert (await wait).signal == 9


async def test_l01_a_daemon_that_takes_its_containers_along_ends_the_wait(
    make_dockerd: MakeDockerd, make_docker_runtime: MakeRuntime
) -> None:
    engine = make_dockerd()
    runtime = make_docker_runtime(engine)
    instance = await runtime.start(tiny_spec(), ignore)
    wait = asyncio.create_task(runtime.wait(instance))
    engine.restart()
    async with asyncio.timeout(GUARD_S):
        assert (await wait).code == 0
    again = await runtime.start(tiny_spec(), ignore)
    assert await answer_of(again) == "ok"


async def test_l03_a_frozen_daemon_holds_nobody_past_a_deadline(
    live_restore: Dockerd, make_docker_runtime: MakeRuntime
) -> None:
    deadlines = Deadlines(call_s=0.3, create_s=0.3, start_s=0.3, stop_s=0.3)
    runtime = make_docker_runtime(live_restore, deadlines=deadlines)
    patient = make_docker_runtime(live_restore, runtime._name)
    instance = await patient.start(tiny_spec(), ignore)
    wait = asyncio.create_task(runtime.wait(instance))
    live_restore.freeze()
    try:
        async with asyncio.timeout(GUARD_S):
            for call in (runtime.adopt(), runtime.stop(instance, 0), runtime.start(tiny_spec("b"), ignore)):
                with pytest.raises(RuntimeUnavailable, match="did not answer in time"):
                    await call
        assert await answer_of(instance) == "ok"
    finally:
        live_restore.thaw()
    async with asyncio.timeout(GUARD_S):
        await patient.stop(instance, 0)
        await wait
