"""Small fleets and traces for the tests of the simulator."""

from collections.abc import Sequence
from typing import Any

from ai_proxy.devices import Device
from ai_proxy.scheduler.ledger import Demand
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.scheduler.state import Settings
from ai_proxy.sim.model import EngineModel, Fleet
from ai_proxy.sim.traces import Request

LOAD_S = 10.0
STOP_S = 1.0


def fleet(
    *vrams_mb: int,
    gpus_mb: Sequence[int] = (10_000,),
    slots: int = 1 << 62,
    preload: Sequence[str] = (),
    settings: Settings | None = None,
    **spec: Any,
) -> Fleet:
    """Services s0, s1, … that need so much VRAM each and take ten seconds to load."""
    specs = tuple(
        ServiceSpec(f"s{index}", demand=Demand(1, vram_mb=vram_mb), **spec) for index, vram_mb in enumerate(vrams_mb)
    )
    engines = {
        one.id: EngineModel(vram_mb, LOAD_S, STOP_S, slots) for one, vram_mb in zip(specs, vrams_mb, strict=True)
    }
    devices = tuple(Device(str(index), f"GPU-{index}", mb) for index, mb in enumerate(gpus_mb))
    return Fleet(devices, 0, specs, engines, settings or Settings(), tuple(preload))


def trace(*requests: tuple[float, str, float]) -> list[Request]:
    """Requests as (at, service, service time)."""
    return [Request(*request) for request in requests]
