"""What a key that was left out means depends on the engine and on the machine."""

from typing import Any

import pytest

from ai_proxy.config.models import ServiceConfig
from ai_proxy.scheduler.ledger import Demand
from ai_proxy.scheduler.spec import UNLIMITED, spec_of
from tests.scheduler.fleets import gpus


@pytest.mark.parametrize(
    ("keys", "machine", "demand"),
    [
        ({"image": "x", "type": "vllm"}, gpus(24_000), Demand(1)),
        ({"image": "x", "type": "vllm"}, (), Demand(1)),
        ({"image": "x", "type": "llama-cpp-server"}, gpus(24_000), Demand(1)),
        ({"image": "x", "type": "llama-cpp-server"}, (), Demand(0)),
        ({"image": "x", "resources": {"gpus": 0, "min_memory_mb": 2_000}}, gpus(24_000), Demand(0, (), None, 2_000)),
        (
            {"image": "x", "resources": {"gpus": ["0", "GPU-1"], "vram_required_mb": 9}},
            (),
            Demand(2, ("0", "GPU-1"), 9),
        ),
        ({"url": "http://there", "type": "vllm"}, gpus(24_000), Demand()),
    ],
)
def test_a_service_needs_what_its_config_says_or_else_what_its_engine_wants(
    keys: dict[str, Any], machine: Any, demand: Demand
) -> None:
    assert spec_of("s", ServiceConfig.model_validate(keys), machine).demand == demand


def test_limits_come_from_the_config_and_work_from_the_engine() -> None:
    plain = spec_of("s", ServiceConfig.model_validate({"image": "x"}), ())
    comfyui = spec_of("s", ServiceConfig.model_validate({"image": "x", "type": "comfyui", "pinned": True}), ())
    assert (plain.max_in_flight, plain.tells_work, plain.pinned) == (UNLIMITED, False, False)
    assert (comfyui.tells_work, comfyui.pinned) == (True, True)
