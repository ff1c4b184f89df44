"""NVIDIA's GPUs through the real bindings, over a stub of the library that says what the test says."""

from typing import Any

import pytest

from tests.fixtures.nvml import NvmlStub

READ = """
import dataclasses, json
from ai_proxy.inventory.nvidia import Nvml
nvml = Nvml(name_of=lambda pid: f"p{pid}")
print(json.dumps([dataclasses.asdict(nvml.read()) for _ in range(2)][-1]))
"""
GPU = "GPU-a|RTX 4090|24564|1300|35|61|220500|41:900,g42:300,43:?,g41:900"

pytestmark = pytest.mark.slow


def read(nvml: NvmlStub, *lines: str) -> dict[str, Any]:
    """What a second reading finds: the first has opened the library."""
    nvml.show(*lines)
    found: dict[str, Any] = nvml.run(READ)
    return found


def test_reads_all_that_the_driver_tells_of_a_gpu(nvml: NvmlStub) -> None:
    (gpu,) = read(nvml, GPU)["devices"]
    assert gpu["device"] == {"id": "0", "uuid": "GPU-a", "vram_mb": 24564, "name": "RTX 4090", "vendor": "nvidia"}
    assert (gpu["total_mb"], gpu["used_mb"]) == (24564, 1300)
    assert (gpu["utilisation_percent"], gpu["temperature_c"], gpu["power_w"]) == (35, 61, 220.5)


def test_a_process_that_computes_and_draws_is_counted_once_and_one_of_unknown_size_is_named(nvml: NvmlStub) -> None:
    (gpu,) = read(nvml, GPU)["devices"]
    assert gpu["processes"] == [
        {"pid": 41, "name": "p41", "used_mb": 900},
        {"pid": 43, "name": "p43", "used_mb": None},
        {"pid": 42, "name": "p42", "used_mb": 300},
    ]


def test_what_a_gpu_does_not_tell_is_unknown_and_the_rest_is_read(nvml: NvmlStub) -> None:
    (gpu,) = read(nvml, "GPU-a|Tegra|24564|900|-|-|-|-")["devices"]
    assert gpu["used_mb"] == 900
    names = "processes", "utilisation_percent", "temperature_c", "power_w"
    assert [gpu[name] for name in names] == [None] * 4


def test_nobody_on_a_gpu_is_something_else_than_nobody_knows(nvml: NvmlStub) -> None:
    (gpu,) = read(nvml, "GPU-a|RTX 4090|24564|0|0|30|20000")["devices"]
    assert gpu["processes"] == []


def test_a_gpu_in_mig_mode_is_shown_as_its_instances(nvml: NvmlStub) -> None:
    instances = [f"MIG-{name}|A100 MIG 1g.10gb|9728|{used}|-|-|-|4{used}:{used}" for name, used in (("x", 5), ("y", 6))]
    found = read(nvml, "GPU-a|A100|40960|0|0|40|90000|", *instances, GPU.replace("GPU-a", "GPU-b"))
    assert [(it["device"]["id"], it["device"]["uuid"]) for it in found["devices"]] == [
        ("0:0", "MIG-x"),
        ("0:1", "MIG-y"),
        ("1", "GPU-b"),
    ]
    second = found["devices"][1]
    assert (second["total_mb"], second["used_mb"], second["processes"][0]["pid"]) == (9728, 6, 46)
    assert (second["temperature_c"], second["power_w"], second["utilisation_percent"]) == (40, 90, None)


def test_a_lost_gpu_is_named_and_the_others_keep_their_indices(nvml: NvmlStub) -> None:
    found = read(nvml, "lost", GPU)
    assert [it["device"]["id"] for it in found["devices"]] == ["1"]
    assert found["problems"] == ["GPU 0 can't be used: GPU is lost"]
    assert not found["is_silent"]


def test_a_gpu_that_shares_the_hosts_memory_is_told_how_to_be_used(nvml: NvmlStub) -> None:
    found = read(nvml, "GPU-a|GB10|-|0|0|40|9000|", GPU)
    assert len(found["devices"]) == 1
    assert found["problems"] == ["GPU 0 does not tell how much memory it has: give its vram_mb under `devices`"]


@pytest.mark.parametrize(
    ("line", "problem"), [("init 9", "Driver Not Loaded"), ("count 18", "RM has detected an NVML/RM version mismatch.")]
)
def test_a_driver_that_can_not_be_asked_tells_nothing_not_even_that_gpus_left(
    nvml: NvmlStub, line: str, problem: str
) -> None:
    found = read(nvml, line, GPU)
    assert found == {
        "devices": [],
        "problems": [f"NVIDIA's driver can't be asked for GPUs: {problem}"],
        "is_silent": True,
    }


def test_a_driver_that_comes_back_is_asked_again(nvml: NvmlStub) -> None:
    nvml.show("init 9")
    script = """
import json, os, pathlib
from ai_proxy.inventory.nvidia import Nvml
nvml = Nvml()
before = nvml.read()
pathlib.Path(os.environ["NVML_STUB"]).write_text("GPU-a|RTX 4090|24564|900|0|0|0|\\n")
print(json.dumps([before.is_silent, len(nvml.read().devices)]))
"""
    assert nvml.run(script) == [True, 1]


def test_a_machine_without_the_library_has_no_gpus_no_problem_and_does_not_pay_for_the_bindings(
    nvml: NvmlStub,
) -> None:
    script = """
import json, sys
from ai_proxy.inventory import nvidia
nvidia.LIBRARY = "libno-such-thing.so.1"
found = nvidia.Nvml().read()
print(json.dumps([len(found.devices), found.problems, found.is_silent, "pynvml" in sys.modules]))
"""
    assert nvml.run(script) == [0, [], False, False]
