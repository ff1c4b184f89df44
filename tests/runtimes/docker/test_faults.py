"""An engine that refuses, lies, hangs or is cut off, request by request, before a real one."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from ai_proxy.errors import RuntimeUnavailable, StartFailed
from ai_proxy.runtimes.base import Exit, Instance
from ai_proxy.runtimes.docker.engine import Deadlines
from ai_proxy.runtimes.docker.runtime import DockerRuntime
from tests.fakes.docker_relay import DockerRelay, Spoil, docker_relay
from tests.fixtures.docker import GUARD_S, MakeRuntime, answer_of, ignore, tiny_spec, until
from tests.fixtures.dockerd import DockerHost

pytestmark = [pytest.mark.docker, pytest.mark.slow]

NAME = "faults"
LABEL = f"ai-proxy.name={NAME}"
CREATE = r"POST .*/containers/create"
START = r"POST .*/containers/\w+/start"
STOP = r"POST .*/containers/\w+/stop"
INSPECT = r"GET .*/containers/[\w-]+/json"
LIST = r"GET .*/containers/json"
REMOVE = r"DELETE .*/containers/"
EVENTS = r"GET .*/events"
IMPATIENT = Deadlines(call_s=0.5, create_s=0.5, start_s=1, stop_s=2, stall_s=0.3)
"""For what hangs; what has to succeed is given the time that a busy machine takes."""


@pytest.fixture
async def relay(docker_engine: DockerHost, tmp_path: Path) -> AsyncIterator[DockerRelay]:
    async with docker_relay(Path(docker_engine.host.removeprefix("unix://")), tmp_path / "relay.sock") as relay:
        yield relay


@pytest.fixture
def runtime(docker_engine: DockerHost, relay: DockerRelay, make_docker_runtime: MakeRuntime) -> DockerRuntime:
    return make_docker_runtime(docker_engine, NAME, docker_host=relay.host)


@pytest.fixture
def impatient(docker_engine: DockerHost, relay: DockerRelay, make_docker_runtime: MakeRuntime) -> DockerRuntime:
    return make_docker_runtime(docker_engine, NAME, docker_host=relay.host, deadlines=IMPATIENT)


@pytest.mark.parametrize("request_line", [CREATE, START])
@pytest.mark.parametrize("spoil", [Spoil.LIE, Spoil.CUT])
async def test_l09_what_the_engine_did_counts_whatever_it_answered(
    runtime: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost, request_line: str, spoil: Spoil
) -> None:
    relay.spoil(request_line, spoil, times=1)
    instance = await runtime.start(tiny_spec(), ignore)
    assert await answer_of(instance) == "ok"
    assert docker_engine.labelled(LABEL) == [instance.id]
    assert relay.count(CREATE) == relay.count(START) == 1


@pytest.mark.parametrize("request_line", [CREATE, START])
async def test_a_start_that_the_engine_refuses_gives_its_words_and_leaves_nothing(
    runtime: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost, request_line: str
) -> None:
    relay.spoil(request_line, Spoil.REFUSE, words="driver failed: port is already allocated")
    with pytest.raises(StartFailed, match=r"a port is taken on the host: .*already allocated"):
        await runtime.start(tiny_spec(), ignore)
    assert docker_engine.labelled(LABEL) == []


async def test_a_name_that_comes_free_while_the_engine_refuses_it_is_taken(
    runtime: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost
) -> None:
    relay.spoil(CREATE, Spoil.REFUSE, times=1, status=409, words="Conflict. The name is already in use")
    instance = await runtime.start(tiny_spec(), ignore)
    assert docker_engine.labelled(LABEL) == [instance.id]
    assert relay.count(CREATE) == 2


@pytest.mark.parametrize("request_line", [CREATE, START, INSPECT, r"GET .*/images/", r"GET .*/networks/"])
@pytest.mark.parametrize("spoil", [Spoil.HANG, Spoil.GARBAGE])
async def test_a_start_on_an_engine_that_makes_no_sense_ends_and_leaves_nothing(
    impatient: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost, request_line: str, spoil: Spoil
) -> None:
    relay.spoil(request_line, spoil)
    async with asyncio.timeout(GUARD_S):
        with pytest.raises(RuntimeUnavailable, match="the Docker engine"):
            await impatient.start(tiny_spec(), ignore)
    relay.heal()
    await until(lambda: docker_engine.labelled(LABEL) == [])


async def test_l03_a_start_that_hangs_and_can_not_be_undone_yet_is_undone_when_the_engine_answers(
    docker_engine: DockerHost, relay: DockerRelay, make_docker_runtime: MakeRuntime
) -> None:
    deadlines = replace(IMPATIENT, call_s=GUARD_S, create_s=GUARD_S)
    impatient = make_docker_runtime(docker_engine, NAME, docker_host=relay.host, deadlines=deadlines)
    for request_line in (START, REMOVE):
        relay.spoil(request_line, Spoil.HANG)
    with pytest.raises(RuntimeUnavailable):
        await impatient.start(tiny_spec(), ignore)
    assert len(docker_engine.labelled(LABEL)) == 1
    relay.heal()
    await until(lambda: docker_engine.labelled(LABEL) == [])


async def test_l03_l09_a_creation_whose_end_is_unknown_is_undone_when_the_engine_answers(
    runtime: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost
) -> None:
    for request_line in (CREATE, INSPECT):
        relay.spoil(request_line, Spoil.CUT)
    with pytest.raises(RuntimeUnavailable):
        await runtime.start(tiny_spec(), ignore)
    assert len(docker_engine.labelled(LABEL)) == 1
    relay.heal()
    await until(lambda: docker_engine.labelled(LABEL) == [])


async def test_a_start_cancelled_while_the_engine_hangs_ends_soon_and_is_undone_later(
    docker_engine: DockerHost, relay: DockerRelay, make_docker_runtime: MakeRuntime
) -> None:
    deadlines = Deadlines(start_s=2, stop_s=0.5)
    runtime = make_docker_runtime(docker_engine, NAME, docker_host=relay.host, deadlines=deadlines)
    hangs = relay.spoil(START, Spoil.HANG)
    start = asyncio.create_task(runtime.start(tiny_spec(), ignore))
    async with asyncio.timeout(GUARD_S):
        await hangs.hit.wait()
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
    relay.heal()
    await until(lambda: docker_engine.labelled(LABEL) == [])


async def test_a_start_cancelled_while_the_engine_is_slow_ends_when_the_container_is_gone(
    docker_engine: DockerHost, relay: DockerRelay, make_docker_runtime: MakeRuntime
) -> None:
    """Its room is given to another then."""
    runtime = make_docker_runtime(docker_engine, NAME, docker_host=relay.host, deadlines=Deadlines(start_s=5.5))
    slow = relay.spoil(START, Spoil.HANG)
    start = asyncio.create_task(runtime.start(tiny_spec(), ignore))
    async with asyncio.timeout(2 * GUARD_S):
        await slow.hit.wait()
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
    assert docker_engine.labelled(LABEL) == []


async def test_l03_a_stop_that_hangs_or_is_refused_says_that_the_replica_may_still_run(
    runtime: DockerRuntime, impatient: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost
) -> None:
    instance = await runtime.start(tiny_spec(), ignore)
    relay.spoil(STOP, Spoil.HANG, times=1)
    with pytest.raises(RuntimeUnavailable, match="did not answer in time"):
        await impatient.stop(instance, 0)
    relay.spoil(STOP, Spoil.REFUSE)
    refuses_removal = relay.spoil(REMOVE, Spoil.REFUSE, words="device or resource busy")
    with pytest.raises(RuntimeUnavailable, match="device or resource busy"):
        await runtime.stop(instance, 0)
    refuses_removal.times = 0
    await runtime.stop(instance, 0)
    assert docker_engine.labelled(LABEL) == []


async def test_l01_a_leftover_that_the_engine_can_not_remove_gives_up_its_name(
    runtime: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost
) -> None:
    """An engine that was restarted in the middle of a start can be left with such a one."""
    leftover = await runtime.start(tiny_spec(), ignore)
    refuses = relay.spoil(REMOVE, Spoil.REFUSE, words="failed to remove root filesystem: device or resource busy")
    with pytest.raises(RuntimeUnavailable, match="device or resource busy"):
        await runtime.start(tiny_spec(), ignore)
    docker_engine.docker("kill", leftover.id)
    fresh = await runtime.start(tiny_spec(), ignore)
    assert await answer_of(fresh) == "ok"
    refuses.times = 0
    await until(lambda: docker_engine.labelled(LABEL) == [fresh.id])


async def test_a_removal_that_another_began_is_waited_for(
    runtime: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost
) -> None:
    instance = await runtime.start(tiny_spec(), ignore)
    relay.spoil(REMOVE, Spoil.LIE, status=409, words="removal of container is already in progress")
    await runtime.stop(instance, 1)
    assert docker_engine.labelled(LABEL) == []


async def test_a_removal_that_another_began_and_never_ends_is_reported(
    runtime: DockerRuntime, relay: DockerRelay
) -> None:
    instance = await runtime.start(tiny_spec(), ignore)
    relay.spoil(REMOVE, Spoil.REFUSE, status=409, words="removal of container is already in progress")
    runtime._engine.deadlines = replace(runtime._engine.deadlines, stop_s=1)
    with pytest.raises(RuntimeUnavailable, match="does not finish removing"):
        await runtime._containers.remove(instance.id)


async def test_l03_nothing_is_known_while_the_list_hangs(impatient: DockerRuntime, relay: DockerRelay) -> None:
    relay.spoil(LIST, Spoil.HANG)
    with pytest.raises(RuntimeUnavailable, match="did not answer in time"):
        await impatient.adopt()


async def ended(runtime: DockerRuntime, instance: Instance) -> Exit:
    async with asyncio.timeout(GUARD_S):
        return await runtime.wait(instance)


async def test_l21_a_wait_outlives_cut_streams_and_inspections_that_fail(
    runtime: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost
) -> None:
    instance = await runtime.start(tiny_spec(), ignore)
    wait = asyncio.create_task(ended(runtime, instance))
    await until(lambda: relay.count(INSPECT) > 1)
    seen = relay.count(EVENTS)
    relay.spoil(INSPECT, Spoil.CUT, times=6)  # aiohttp repeats a cut GET once by itself
    relay.spoil(EVENTS, Spoil.CUT_LATER, times=2)
    relay.cut()
    docker_engine.docker("kill", instance.id)
    assert (await wait).code == 137
    assert relay.count(EVENTS) > seen


async def test_l21_an_event_stream_that_says_nonsense_is_opened_again(
    runtime: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost
) -> None:
    nonsense = relay.spoil(EVENTS, Spoil.GARBAGE, times=4)
    instance = await runtime.start(tiny_spec(), ignore)
    wait = asyncio.create_task(ended(runtime, instance))
    await until(lambda: nonsense.times == 0)
    docker_engine.docker("kill", instance.id)
    assert (await wait).signal == 9


async def test_l19_a_log_stream_that_is_cut_is_not_a_clean_end(runtime: DockerRuntime, relay: DockerRelay) -> None:
    instance = await runtime.start(tiny_spec(command=["sh", "-c", "echo one; sleep 60"]), ignore)
    lines = runtime.logs(instance, follow=True)
    assert await anext(lines) == "one"
    relay.cut()
    with pytest.raises(RuntimeUnavailable, match="broke the connection"):
        await anext(lines)


async def test_an_end_is_told_though_the_log_can_not_be_read(
    runtime: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost
) -> None:
    instance = await runtime.start(tiny_spec(), ignore)
    relay.spoil(r"GET .*/logs", Spoil.REFUSE)
    docker_engine.docker("kill", instance.id)
    assert await ended(runtime, instance) == Exit(code=137, signal=9)


async def test_l02_no_engine_is_a_cause_and_not_a_crash(
    docker_engine: DockerHost, make_docker_runtime: MakeRuntime
) -> None:
    runtime = make_docker_runtime(docker_engine, docker_host="unix:///nowhere/docker.sock")
    with pytest.raises(RuntimeUnavailable, match="can't be reached"):
        await runtime.adopt()
    with pytest.raises(RuntimeUnavailable, match="can't be reached"):
        await runtime.start(tiny_spec(), ignore)
    nonsense = make_docker_runtime(docker_engine, docker_host="no-scheme")
    with pytest.raises(RuntimeUnavailable, match="no Docker engine found"):
        await nonsense.adopt()


async def test_a_closed_runtime_starts_nothing(runtime: DockerRuntime) -> None:
    await runtime.aclose()
    with pytest.raises(RuntimeUnavailable, match="closed"):
        await runtime.adopt()
