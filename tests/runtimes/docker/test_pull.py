"""Images fetched from a real registry by a real engine."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ai_proxy.config.models import PullPolicy, ServiceConfig
from ai_proxy.errors import RuntimeUnavailable, StartFailed
from ai_proxy.runtimes.docker.engine import Deadlines
from ai_proxy.runtimes.docker.pull import Layers
from ai_proxy.runtimes.docker.runtime import DockerRuntime
from tests.fakes.docker_relay import DockerRelay, Spoil, docker_relay
from tests.fixtures.docker import GUARD_S, MakeRuntime, ignore, tiny_spec, until
from tests.fixtures.dockerd import DockerHost
from tests.fixtures.registry import Registry, registry

pytestmark = [pytest.mark.docker, pytest.mark.slow]

PULL = r"POST .*/images/create"
CREATE = r"POST .*/containers/create"


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("public"), private=False) as running:
        yield running


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("private"), private=True) as running:
        yield running


@pytest.fixture
async def relay(docker_engine: DockerHost, tmp_path: Path) -> AsyncIterator[DockerRelay]:
    async with docker_relay(Path(docker_engine.host.removeprefix("unix://")), tmp_path / "relay.sock") as relay:
        yield relay


@pytest.fixture
def runtime(docker_engine: DockerHost, relay: DockerRelay, make_docker_runtime: MakeRuntime) -> DockerRuntime:
    return make_docker_runtime(docker_engine, "pulls", docker_host=relay.host)


@pytest.fixture
def impatient(docker_engine: DockerHost, relay: DockerRelay, make_docker_runtime: MakeRuntime) -> DockerRuntime:
    """For pulls that do not go on; what has to succeed is given the time that a busy machine takes."""
    return make_docker_runtime(docker_engine, "pulls", docker_host=relay.host, deadlines=Deadlines(stall_s=1))


def service(image: str, policy: PullPolicy = PullPolicy.MISSING) -> ServiceConfig:
    return ServiceConfig(image=image, pull_policy=policy)


async def test_an_image_is_pulled_once_for_all_who_wait_and_all_see_its_progress(
    runtime: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost, public: Registry
) -> None:
    image = public.publish(docker_engine, "shared:1")
    told: list[list[str]] = [[], [], []]
    await asyncio.gather(*(runtime.pull(service(image), words.append) for words in told))
    assert relay.count(PULL) == 1
    for words in told:
        assert words[0] == f"pulling {image}: waiting for the registry"
        assert any(re.search(r"\d+ % of \d+ MiB|extracting", line) for line in words)
    assert image in docker_engine.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout


async def test_a_start_pulls_what_is_missing_and_then_fails_for_its_own_reason(
    runtime: DockerRuntime, docker_engine: DockerHost, public: Registry
) -> None:
    """The pulled image holds nothing that could run."""
    image = public.publish(docker_engine, "missing:1", size_mb=1)
    said: list[str] = []
    with pytest.raises(StartFailed, match="sh"):
        await runtime.start(tiny_spec(image=image, pull_policy="missing", command=["sh"]), said.append)
    assert said[0] == f"pulling {image}: waiting for the registry"
    assert said[-2:] == ["creating container", "starting container"]


async def test_a_start_joins_the_preparation_that_is_under_way_and_goes_on_when_that_is_called_off(
    runtime: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost, public: Registry
) -> None:
    """What waits for the image to create a container ahead is too late by then."""
    spec = tiny_spec(image=public.publish(docker_engine, "ahead:1"), pull_policy="missing", command=["sh"])
    told, said = asyncio.Event(), list[str]()
    preparing = asyncio.create_task(runtime.prepare(spec.config, lambda _: told.set()))
    await told.wait()
    creating = asyncio.create_task(runtime.create_ahead(spec))
    starting = asyncio.create_task(runtime.start(spec, said.append))
    await until(lambda: bool(said))
    preparing.cancel()
    with pytest.raises(StartFailed, match="sh"):
        await starting
    await creating
    assert (relay.count(PULL), relay.count(CREATE), said[-1]) == (1, 1, "starting container")


async def test_what_was_prepared_is_not_pulled_again(
    runtime: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost, public: Registry
) -> None:
    spec = tiny_spec(image=public.publish(docker_engine, "ready:1"), pull_policy="missing", command=["sh"])
    await runtime.prepare(spec.config, ignore)
    with pytest.raises(StartFailed, match="sh"):
        await runtime.start(spec, ignore)
    assert relay.count(PULL) == 1
    assert docker_engine.docker("ps", "-aq", "--filter", "label=ai-proxy.name=pulls").stdout == ""


async def test_always_pulls_what_is_here_and_never_pulls_nothing(
    runtime: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost, public: Registry
) -> None:
    image = public.publish(docker_engine, "policy:1", size_mb=1)
    with pytest.raises(StartFailed, match="pull_policy is never"):
        await runtime.start(tiny_spec(image=image, pull_policy="never"), ignore)
    assert relay.count(PULL) == 0
    for times in (1, 2):
        with pytest.raises(StartFailed):
            await runtime.start(tiny_spec(image=image, pull_policy="always", command=["sh"]), ignore)
        assert relay.count(PULL) == times


async def test_l08_a_pull_that_can_not_succeed_gives_its_cause_to_all(
    runtime: DockerRuntime, public: Registry, private: Registry
) -> None:
    for image, cause in {
        f"{public.address}/nothing:1": "manifest|not found",
        f"{private.address}/secret:1": "no basic auth credentials",
        "127.0.0.1:1/unreachable:1": "connection refused",
        "NOT AN IMAGE": "invalid|parse",
    }.items():
        pulls = [runtime.pull(service(image), ignore) for _ in range(3)]
        async with asyncio.timeout(GUARD_S):
            failures = await asyncio.gather(*pulls, return_exceptions=True)
        for failure in failures:
            assert isinstance(failure, StartFailed)
            assert failure.message.startswith(f"image {image} can't be pulled: ")
            assert re.search(cause, failure.message)


async def test_logs_in_as_docker_would(
    runtime: DockerRuntime, docker_engine: DockerHost, private: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = private.publish(docker_engine, "secret:1", size_mb=1)
    monkeypatch.setenv("DOCKER_CONFIG", str(private.config))
    await runtime.pull(service(image), ignore)
    assert docker_engine.docker("image", "inspect", "--format", "{{.RepoTags}}", image).stdout.strip() == f"[{image}]"


async def test_l08_a_pull_without_progress_is_given_up(
    impatient: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost, public: Registry
) -> None:
    image = public.publish(docker_engine, "stalls:1", size_mb=1)
    relay.spoil(PULL, Spoil.STALL, times=1)
    with pytest.raises(StartFailed, match="no progress for 1 s"):
        await impatient.pull(service(image), ignore)
    impatient._engine.deadlines = Deadlines()
    await impatient.pull(service(image), ignore)


@pytest.mark.parametrize("spoil", [Spoil.HANG, Spoil.CUT_LATER, Spoil.GARBAGE])
async def test_an_engine_that_fails_in_a_pull_is_unavailable(
    impatient: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost, public: Registry, spoil: Spoil
) -> None:
    image = public.publish(docker_engine, f"{spoil.replace('_', '-')}:1", size_mb=1)
    relay.spoil(PULL, spoil)
    with pytest.raises(RuntimeUnavailable):
        await impatient.pull(service(image), ignore)


async def test_whoever_leaves_a_pull_does_not_end_it_but_the_last_does(
    runtime: DockerRuntime, relay: DockerRelay, docker_engine: DockerHost, public: Registry
) -> None:
    image = public.publish(docker_engine, "left:1", size_mb=1)
    hangs = relay.spoil(PULL, Spoil.HANG)
    first, second = (asyncio.create_task(runtime.pull(service(image), ignore)) for _ in range(2))
    await hangs.hit.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not second.done()
    assert image in repr(runtime._images)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert repr(runtime._images) == "Images(pulling=[])"
    await until(lambda: not runtime._images._tasks)


def test_progress_adds_up_the_layers() -> None:
    layers = Layers()
    assert layers.words == "waiting for the registry"
    for layer, current in (("a", 1 << 20), ("b", 3 << 20)):
        detail = {"current": current, "total": 4 << 20}
        assert layers.take({"id": layer, "status": "Downloading", "progressDetail": detail})
    assert layers.words == "50 % of 8 MiB"
    assert not layers.take({"id": layer, "status": "Downloading", "progressDetail": detail})
    assert layers.take({"id": "b", "status": "Extracting", "progressDetail": {"current": 1, "total": 4 << 20}})
    assert layers.words == "extracting 8 MiB"
