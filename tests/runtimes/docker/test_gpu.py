"""GPUs by UUID, as the hook that NVIDIA's toolkit would run sees them."""

import json
from pathlib import Path

import pytest

from ai_proxy.devices import Device, Placement
from ai_proxy.errors import StartFailed
from ai_proxy.runtimes.docker.runtime import DockerRuntime
from tests.fixtures.docker import GPUS, HOOK, MakeDockerd, MakeRuntime, ignore, tiny_spec
from tests.fixtures.dockerd import Dockerd, DockerHost

pytestmark = [pytest.mark.docker, pytest.mark.slow]

FIRST, SECOND = (Device(index, uuid, 24576) for index, uuid in GPUS.items())
NO_SUCH = Device("7", "GPU-cccccccc-0000-0000-0000-000000000007", 24576)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hook")


@pytest.fixture(scope="module")
def gpu_engine(make_dockerd: MakeDockerd, records: Path) -> Dockerd:
    """An engine that believes in two NVIDIA GPUs."""
    known = ",".join(f"{index}={uuid}" for index, uuid in GPUS.items())
    return make_dockerd(environment={"PATH": str(HOOK), "STUB_GPU_DIR": str(records), "STUB_GPUS": known})


@pytest.fixture
def runtime(gpu_engine: Dockerd, make_docker_runtime: MakeRuntime) -> DockerRuntime:
    return make_docker_runtime(gpu_engine)


@pytest.mark.parametrize("devices", [(SECOND,), (FIRST, SECOND)])
async def test_a_container_sees_the_gpus_of_its_placement_and_no_others(
    runtime: DockerRuntime, records: Path, devices: tuple[Device, ...]
) -> None:
    instance = await runtime.start(tiny_spec(placement=Placement(devices, vram_mb=9000)), ignore)
    record = json.loads((records / f"{instance.id}.json").read_text())
    assert record["visible"] == [device.uuid for device in devices]
    assert instance.placement.devices == devices
    assert await runtime.adopt() == [instance]


async def test_a_container_without_gpus_asks_for_none(runtime: DockerRuntime, records: Path) -> None:
    instance = await runtime.start(tiny_spec(), ignore)
    assert not (records / f"{instance.id}.json").exists()


async def test_a_gpu_that_the_engine_does_not_know_is_named_and_leaves_nothing(
    runtime: DockerRuntime, gpu_engine: Dockerd
) -> None:
    with pytest.raises(StartFailed, match=r"does not know a device.*GPU-cccccccc.*unknown device"):
        await runtime.start(tiny_spec(placement=Placement((NO_SUCH,))), ignore)
    assert gpu_engine.labelled(runtime._label) == []


async def test_an_engine_without_gpu_support_says_what_to_install(
    docker_engine: DockerHost, make_docker_runtime: MakeRuntime
) -> None:
    runtime = make_docker_runtime(docker_engine)
    with pytest.raises(StartFailed, match="install the NVIDIA container toolkit"):
        await runtime.start(tiny_spec(placement=Placement((FIRST,))), ignore)
    assert docker_engine.labelled(runtime._label) == []
