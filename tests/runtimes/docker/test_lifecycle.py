"""A container's life through the runtime, on a real engine."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from ai_proxy.devices import Device, Placement
from ai_proxy.errors import StartFailed
from ai_proxy.runtimes.base import Exit, InstanceSpec
from ai_proxy.runtimes.docker.reach import Reach
from ai_proxy.runtimes.docker.runtime import DockerRuntime
from tests.fixtures.docker import GUARD_S, MakeRuntime, answer_of, ignore, tiny_spec, until
from tests.fixtures.dockerd import DockerHost

pytestmark = [pytest.mark.docker, pytest.mark.slow]

NAME = "lifecycle"
LABEL = f"ai-proxy.name={NAME}"
FOREVER = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"]
DEAF = ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"]


@pytest.fixture
def runtime(docker_engine: DockerHost, make_docker_runtime: MakeRuntime) -> DockerRuntime:
    return make_docker_runtime(docker_engine, NAME)


async def end_of(runtime: DockerRuntime, spec: InstanceSpec) -> tuple[str, tuple[str, ...]]:
    """Start what ends by itself; whether the start still saw it alive is a race that the engine decides."""
    try:
        instance = await runtime.start(spec, ignore)
    except StartFailed as failure:
        return failure.message, failure.log_tail
    async with asyncio.timeout(GUARD_S):
        end = await runtime.wait(instance)
    return end.cause, end.log_tail


@pytest.mark.parametrize("reach", [Reach.ADDRESS, Reach.PUBLISHED, Reach.AUTO])
async def test_starts_a_container_that_answers_and_stops_it(
    docker_engine: DockerHost, make_docker_runtime: MakeRuntime, reach: Reach
) -> None:
    runtime = make_docker_runtime(docker_engine, NAME, reach=reach)
    said: list[str] = []
    instance = await runtime.start(tiny_spec(), said.append)
    assert await answer_of(instance) == "ok"
    assert said == ["creating container", "starting container"]
    await runtime.stop(instance, 2)
    assert docker_engine.labelled(LABEL) == []
    assert await runtime.wait(instance) == Exit(code=0)


async def test_publishes_on_loopback_only_and_only_when_it_must(
    docker_engine: DockerHost, make_docker_runtime: MakeRuntime
) -> None:
    published = await make_docker_runtime(docker_engine, NAME, reach=Reach.PUBLISHED).start(tiny_spec("a"), ignore)
    direct = await make_docker_runtime(docker_engine, NAME, reach=Reach.ADDRESS).start(tiny_spec("b"), ignore)
    bindings = docker_engine.inspect(published.id)["NetworkSettings"]["Ports"]["8080/tcp"]
    assert bindings == [{"HostIp": "127.0.0.1", "HostPort": str(published.port)}]
    assert not docker_engine.inspect(direct.id)["HostConfig"]["PortBindings"]
    assert direct.port == 8080


async def test_a_container_that_ends_by_itself_gives_its_exit_code_and_last_lines(
    runtime: DockerRuntime, docker_engine: DockerHost
) -> None:
    spec = tiny_spec(command=["sh", "-c", "for i in $(seq 50); do echo line $i; done; echo broken; exit 3"])
    cause, tail = await end_of(runtime, spec)
    assert "exited with code 3" in cause
    assert tail == (*(f"line {number}" for number in range(32, 51)), "broken")
    await until(lambda: docker_engine.labelled(LABEL) == [])


async def test_l15_a_container_that_ignores_sigterm_is_killed_after_the_grace(
    runtime: DockerRuntime, docker_engine: DockerHost
) -> None:
    instance = await runtime.start(tiny_spec(command=DEAF), ignore)
    await until(lambda: "deaf" in docker_engine.docker("logs", instance.id).stdout)
    ended = asyncio.create_task(runtime.wait(instance))
    await runtime.stop(instance, 1)
    assert await ended == Exit(code=137, signal=9, log_tail=("deaf",))
    assert docker_engine.labelled(LABEL) == []


async def test_stops_what_was_stopped_killed_paused_or_removed_already(
    runtime: DockerRuntime, docker_engine: DockerHost
) -> None:
    for command in (["kill"], ["pause"], ["rm", "-f"]):
        instance = await runtime.start(tiny_spec(), ignore)
        docker_engine.docker(*command, instance.id)
        await asyncio.gather(runtime.stop(instance, 1), runtime.stop(instance, 1))
        await runtime.stop(instance, 1)
        assert docker_engine.labelled(LABEL) == []


async def test_waits_for_a_container_that_somebody_else_removed(
    runtime: DockerRuntime, docker_engine: DockerHost
) -> None:
    instance = await runtime.start(tiny_spec(), ignore)
    ended = asyncio.create_task(runtime.wait(instance))
    docker_engine.docker("rm", "-f", instance.id)
    async with asyncio.timeout(GUARD_S):
        end = await ended
    assert end.code in {None, 137}


async def test_l10_another_life_of_the_proxy_adopts_what_runs_and_removes_what_ended(
    runtime: DockerRuntime, docker_engine: DockerHost, make_docker_runtime: MakeRuntime
) -> None:
    placement = Placement((Device("0", "GPU-a", 24576, "RTX"),), vram_mb=9000, memory_mb=100)
    no_gpu = Placement(vram_mb=placement.vram_mb, memory_mb=placement.memory_mb)
    running = await runtime.start(tiny_spec("runs", placement=no_gpu), ignore)
    ended = await runtime.start(tiny_spec("ended"), ignore)
    other = await make_docker_runtime(docker_engine).start(tiny_spec("runs"), ignore)
    await runtime.aclose()
    docker_engine.docker("kill", ended.id)

    successor = make_docker_runtime(docker_engine, NAME)
    assert await successor.adopt() == [running]
    await until(lambda: docker_engine.labelled(LABEL) == [running.id])
    assert docker_engine.inspect(other.id)["State"]["Running"]
    assert await answer_of(running) == "ok"
    await successor.stop(running, 2)
    assert docker_engine.labelled(LABEL) == []


async def test_each_replica_is_adopted_as_the_number_that_it_was(
    runtime: DockerRuntime, docker_engine: DockerHost, make_docker_runtime: MakeRuntime
) -> None:
    started = [await runtime.start(replace(tiny_spec(), replica=number), ignore) for number in (0, 1)]
    names = [docker_engine.inspect(instance.id)["Name"] for instance in started]
    assert names == [f"/ai-proxy-{NAME}-tiny-{number}" for number in (0, 1)]
    await runtime.aclose()
    successor = make_docker_runtime(docker_engine, NAME)
    adopted = {instance.key: instance for instance in await successor.adopt()}
    assert adopted == {"tiny": started[0], "tiny#1": started[1]}
    fresh = await successor.start(replace(tiny_spec(), replica=1), ignore)
    assert sorted(docker_engine.labelled(LABEL)) == sorted([started[0].id, fresh.id])
    for instance in (started[0], fresh):
        await successor.stop(instance, 2)


async def test_l08_a_leftover_of_the_same_replica_makes_way(
    runtime: DockerRuntime, docker_engine: DockerHost, make_docker_runtime: MakeRuntime
) -> None:
    leftover = await runtime.start(tiny_spec(), ignore)
    await runtime.aclose()
    fresh = await make_docker_runtime(docker_engine, NAME).start(tiny_spec(), ignore)
    assert fresh.id != leftover.id
    assert docker_engine.labelled(LABEL) == [fresh.id]


async def test_l08_a_foreign_container_of_our_name_is_an_error_that_names_it(
    runtime: DockerRuntime, docker_engine: DockerHost
) -> None:
    taken = f"ai-proxy-{NAME}-tiny-0"
    docker_engine.docker("create", "--name", taken, "ai-proxy-test/tiny:1")
    try:
        with pytest.raises(StartFailed, match=f"{taken} exists and is not this proxy's"):
            await runtime.start(tiny_spec(), ignore)
        assert docker_engine.inspect(taken)["State"]["Status"] == "created"
    finally:
        docker_engine.docker("rm", taken)


async def test_follows_the_output_until_the_container_ends_and_keeps_its_last_lines(runtime: DockerRuntime) -> None:
    spec = tiny_spec(command=["sh", "-c", "trap 'echo bye; exit 0' TERM; echo one; echo two >&2; sleep 60 & wait"])
    instance = await runtime.start(spec, ignore)
    seen: list[str] = []
    async with asyncio.timeout(GUARD_S), aclosing(runtime.logs(instance, follow=True)) as lines:
        async for line in lines:
            seen.append(line)
            if len(seen) == 2:
                stopping = asyncio.create_task(runtime.stop(instance, 5))
    await stopping
    assert sorted(seen) == ["bye", "one", "two"]
    assert sorted([line async for line in runtime.logs(instance, follow=False)]) == sorted(seen)


async def test_l19_log_readers_that_leave_early_never_starve_the_engine(runtime: DockerRuntime) -> None:
    instance = await runtime.start(tiny_spec(command=["sh", "-c", "echo one; sleep 60"]), ignore)
    async with asyncio.timeout(3 * GUARD_S):
        for _ in range(120):
            lines = runtime.logs(instance, follow=True)
            assert await anext(lines) == "one"
            await lines.aclose()
        assert await runtime.adopt() == [instance]


async def test_a_missing_mount_source_names_the_key_and_the_path(
    runtime: DockerRuntime, docker_engine: DockerHost
) -> None:
    with pytest.raises(StartFailed, match="volumes: /nowhere/models does not exist on the host"):
        await runtime.start(tiny_spec(volumes=["/nowhere/models:/models:ro"]), ignore)
    assert docker_engine.labelled(LABEL) == []


async def test_a_command_that_can_not_be_run_leaves_nothing_behind(
    runtime: DockerRuntime, docker_engine: DockerHost
) -> None:
    with pytest.raises(StartFailed, match="no-such-program"):
        await runtime.start(tiny_spec(command=["no-such-program"]), ignore)
    assert docker_engine.labelled(LABEL) == []


async def test_joins_its_networks_and_names_one_that_does_not_exist(
    runtime: DockerRuntime, docker_engine: DockerHost
) -> None:
    for network in ("ai-proxy-a", "ai-proxy-b"):
        docker_engine.docker("network", "create", network)
    try:
        instance = await runtime.start(tiny_spec(networks=["ai-proxy-a", "ai-proxy-b"]), ignore)
        assert await answer_of(instance) == "ok"
        joined = docker_engine.inspect(instance.id)["NetworkSettings"]["Networks"]
        assert set(joined) == {"ai-proxy-a", "ai-proxy-b"}
        await runtime.stop(instance, 1)
        with pytest.raises(StartFailed, match=r"networks: .*nowhere"):
            await runtime.start(tiny_spec(networks=["nowhere"]), ignore)
        with pytest.raises(StartFailed, match=r"networks: .*nowhere"):
            await runtime.start(tiny_spec(networks=["ai-proxy-a", "nowhere"]), ignore)
        assert docker_engine.labelled(LABEL) == []
    finally:
        docker_engine.docker("network", "rm", "ai-proxy-a", "ai-proxy-b")


async def test_container_keys_reach_the_process(runtime: DockerRuntime, docker_engine: DockerHost) -> None:
    docker_engine.docker("volume", "create", "ai-proxy-volume")
    script = "echo $GREETING; id -u; pwd; ulimit -n; touch /ro/x 2>&1 || echo read-only; cat /etc/hosts; df -m /dev/shm"
    spec = tiny_spec(
        command=["sh", "-c", script],
        environment={"GREETING": "{id} on {port}"},
        user="1000",
        working_dir="/tmp",
        ulimits={"nofile": {"soft": 512, "hard": 1024}},
        volumes=["ai-proxy-volume:/data", "/etc:/ro:ro"],
        extra_hosts=["db:10.0.0.5"],
        shm_size="32m",
        mem_limit="64m",
        cpus=0.5,
    )
    _, tail = await end_of(runtime, spec)
    text = "\n".join(tail)
    assert tail[:4] == ("tiny on 8080", "1000", "/tmp", "512")
    assert "read-only" in text
    assert "10.0.0.5\tdb" in text
    assert " 32 " in text
    await until(lambda: docker_engine.labelled(LABEL) == [])
    docker_engine.docker("volume", "rm", "-f", "ai-proxy-volume")


async def test_cancelled_starts_leave_nothing_behind(runtime: DockerRuntime, docker_engine: DockerHost) -> None:
    """Cut off at many points, from before the first request to after the last."""
    spec = tiny_spec()
    for delay_ms in (0, 5, 10, 20, 40, 80, 160):
        start = asyncio.create_task(runtime.start(spec, ignore))
        done, _ = await asyncio.wait({start}, timeout=delay_ms / 1000)
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        if done:
            await runtime.stop(start.result(), 1)
        await until(lambda: docker_engine.labelled(LABEL) == [])
