"""What the machine has, asked of a stub of NVML's library in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from ai_proxy.config.models import Config
from ai_proxy.devices import Device
from ai_proxy.inventory import detect
from tests.conftest import missing

STUB = Path(__file__).parent / "assets" / "nvml" / "stub.c"
SCRIPT = (
    "import dataclasses, json\n"
    "from ai_proxy.config.models import Config\n"
    "from ai_proxy.inventory import detect\n"
    "print(json.dumps(dataclasses.asdict(detect(Config(services={'a': {'command': 'x'}})))))"
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
    found = detect(config(devices=declared))
    assert found.devices == (Device("0", "0", 24576, "big"), Device("1", "GPU-b", 8192))


def test_memory_is_the_hosts_unless_declared() -> None:
    found = [detect(config(devices=[], memory_mb=declared)).memory_mb for declared in (None, 1000)]
    assert found == [psutil.virtual_memory().total // 1024**2, 1000]


def test_a_machine_without_nvidias_library_has_no_devices_and_no_problem() -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has NVIDIA's library")
    found = detect(config())
    assert (found.devices, found.problems) == ((), ())
