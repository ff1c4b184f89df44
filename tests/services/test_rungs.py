"""What is held asleep, by engine and by config."""

from typing import Any

import pytest

from ai_proxy.config.models import ServiceConfig
from ai_proxy.devices import Device, Placement
from ai_proxy.services.rungs import rungs_of

AWAKE = Placement((Device("0", "GPU-a", 24_000),), vram_mb=20_000, memory_mb=500)
INLINE = "sh -c 'VLLM_SERVER_DEV_MODE=1 vllm serve m --enable-sleep-mode'"
DEV_MODE = {"environment": {"VLLM_SERVER_DEV_MODE": "1"}}


def rungs(placement: Placement = AWAKE, **keys: Any) -> list[tuple[int, int, int]]:
    """Level, VRAM and host memory kept."""
    config = ServiceConfig.model_validate({"image": "x", **keys})
    found = rungs_of(config, placement)
    assert all(keeps.devices == placement.devices for _, keeps in found)
    return [(level, keeps.vram_mb, keeps.memory_mb) for level, keeps in found]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"type": "vllm", "args": "--enable-sleep-mode", **DEV_MODE}, [(1, 2560, 20_500)]),
        ({"type": "vllm", "command": INLINE}, [(1, 2560, 20_500)]),
        ({"type": "vllm", "args": "--enable-sleep-mode"}, []),
        ({"type": "vllm", "args": "--enable-sleep-mode", "environment": {"VLLM_SERVER_DEV_MODE": "0"}}, []),
        ({"type": "vllm", **DEV_MODE}, []),
        ({"type": "vllm", "sleep": [1, 2]}, [(1, 2560, 20_500), (2, 2560, 500)]),
        ({"type": "vllm", "sleep": [2]}, [(2, 2560, 500)]),
        ({"type": "vllm", "args": "--enable-sleep-mode", **DEV_MODE, "sleep": "off"}, []),
        ({"type": "ollama"}, [(1, 0, 500)]),
        ({"type": "comfyui"}, [(1, 512, 500)]),
        ({"type": "comfyui", "sleep": "off"}, []),
        ({"type": "llama-cpp-server", "command": "-m a.gguf --sleep-idle-seconds 60"}, []),
        ({"type": "llama-cpp-server", "command": "--models-dir /models"}, [(1, 0, 500)]),
        ({"type": "generic", "sleep": [1]}, []),
    ],
)  # fmt: skip
def test_an_engine_keeps_asleep_what_its_profile_says_where_the_service_can_sleep(
    keys: dict[str, Any], expected: list[tuple[int, int, int]]
) -> None:
    assert rungs(**keys) == expected


def test_each_device_keeps_its_part_and_all_of_them_move_to_the_host() -> None:
    two = Placement((Device("0", "GPU-a", 24_000), Device("1", "GPU-b", 24_000)), vram_mb=20_000)
    assert rungs(two, type="vllm", sleep=[1]) == [(1, 2560, 40_000)]


def test_a_sleep_that_would_free_nothing_is_no_rung() -> None:
    small = Placement((Device("0", "GPU-a", 24_000),), vram_mb=500)
    assert rungs(small, type="comfyui") == []
    assert rungs(Placement(), type="ollama") == []
