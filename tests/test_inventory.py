"""What the machine has, asked of a stub of NVML's library in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from ai_proxy.config.models import Config
from ai_proxy.devices import Device
from ai_proxy.inventory import Inventory, detect_now, look_around
from tests.conftest import missing

STUB = Path(__file__).parent / "assets" / "nvml" / "stub.c"
SCRIPT = (
    "import dataclasses, json\n"
    "from ai_proxy.config.models import Config\n"
    "from ai_proxy.inventory import detect_now\n"
    "print(json.dumps(dataclasses.asdict(detect_now(Config(services={'a': {'command': 'x'}})))))"
)

DetectWith = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def detect_with(tmp_path_factory: pytest.TempPathFactory) -> DetectWith:
    """Detect on a machine whose NVML says this."""
    gcc = shutil.which("gcc")
    if gcc is None:
        missing("no gcc to build the stub of NVML's library")
    directory = tmp_path_factory.mktemp("nvml")
    flags = ["-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o", str(directory / "libnvidia-ml.so.1")]
    subprocess.run([gcc, *flags, str(STUB)], check=True)

    def run(stub: str) -> dict[str, Any]:
        environ = {**os.environ, "NVML_STUB": stub, "LD_LIBRARY_PATH": str(directory)}
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=environ, stdout=subprocess.PIPE, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def config(**keys: Any) -> Config:
    return Config(services={"a": {"command": "x"}}, **keys)


@pytest.mark.slow
def test_finds_gpus_by_index_and_uuid(detect_with: DetectWith) -> None:
    found = detect_with("GPU-a,RTX 4090,24564;GPU-b,RTX 3060,12288")
    assert found["devices"] == [
        {"id": "0", "uuid": "GPU-a", "vram_mb": 24564, "name": "RTX 4090"},
        {"id": "1", "uuid": "GPU-b", "vram_mb": 12288, "name": "RTX 3060"},
    ]
    assert found["problems"] == []


@pytest.mark.slow
def test_a_lost_gpu_is_named_and_the_others_keep_their_indices(detect_with: DetectWith) -> None:
    found = detect_with("GPU-a,RTX 4090,lost;GPU-b,RTX 3060,12288")
    assert [device["id"] for device in found["devices"]] == ["1"]
    assert found["problems"] == ["GPU 0 can't be used: GPU is lost"]


@pytest.mark.slow
def test_a_driver_that_is_not_loaded_is_told(detect_with: DetectWith) -> None:
    found = detect_with("init 9")
    assert found["devices"] == []
    assert found["problems"] == ["NVIDIA's driver can't be asked for GPUs: Driver Not Loaded"]


def test_declared_devices_are_believed() -> None:
    declared = [{"id": "0", "vram_mb": 24576, "name": "big"}, {"id": "1", "vram_mb": 8192, "uuid": "GPU-b"}]
    found = detect_now(config(devices=declared))
    assert found.devices == (Device("0", "0", 24576, "big"), Device("1", "GPU-b", 8192))


def test_memory_is_the_hosts_unless_declared() -> None:
    found = [detect_now(config(devices=[], memory_mb=declared)).memory_mb for declared in (None, 1000)]
    assert found == [psutil.virtual_memory().total // 1024**2, 1000]


def test_a_machine_without_nvidias_library_has_no_devices_and_no_problem() -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has NVIDIA's library")
    found = detect_now(config())
    assert (found.devices, found.problems) == ((), ())


async def test_a_driver_that_hangs_is_not_waited_for_and_the_machine_counts_as_one_without_gpus() -> None:
    hangs, is_daemon = threading.Event(), []

    def detect(_: Config) -> Inventory:
        is_daemon.append(threading.current_thread().daemon)
        hangs.wait(5)
        return Inventory((), 1)

    found = await look_around(config(memory_mb=1000), deadline_s=0.05, detect=detect)
    hangs.set()

    assert (found.devices, found.memory_mb, is_daemon) == ((), 1000, [True])
    assert "did not answer within 0.05 s" in found.problems[0]


async def test_what_goes_wrong_while_looking_is_raised_where_it_is_awaited() -> None:
    def detect(_: Config) -> Inventory:
        raise OSError("no such thing")

    with pytest.raises(OSError, match="no such thing"):
        await look_around(config(), detect=detect)
