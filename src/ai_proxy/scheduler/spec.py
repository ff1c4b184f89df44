"""From a service's config to what the scheduler needs to know of it.

Pure. The one place where a key that was left out gets its meaning from the devices that the machine has.
"""

from collections.abc import Sequence

from ai_proxy.config.models import RuntimeKind, ServiceConfig
from ai_proxy.devices import Device
from ai_proxy.engines.registry import profile_of
from ai_proxy.scheduler.ledger import Demand
from ai_proxy.scheduler.state import UNLIMITED, ServiceSpec


def spec_of(service: str, config: ServiceConfig, devices: Sequence[Device]) -> ServiceSpec:
    """What the scheduler needs to know of a service.

    Args:
        service: Its id.
        config: Its settings.
        devices: The GPUs of this machine.

    Example:
        >>> config = ServiceConfig(image="x", resources={"gpus": 1, "vram_required_mb": 9000})
        >>> str(spec_of("chat", config, []).demand)
        '1 GPU with 9,000 MB'
    """
    return ServiceSpec(
        service,
        demand=demand_of(config, devices),
        max_in_flight=config.limits.max_in_flight or UNLIMITED,
        max_queue=config.limits.max_queue,
        max_wait_s=config.limits.max_wait_s,
        idle_timeout_s=config.idle_timeout_s,
        pinned=config.pinned,
        tells_work=profile_of(config).busy is not None,
    )


def demand_of(config: ServiceConfig, devices: Sequence[Device]) -> Demand:
    """What a service needs to run; one that runs elsewhere needs nothing of this machine."""
    if config.kind is RuntimeKind.EXTERNAL:
        return Demand()
    resources = config.resources
    vram_mb = None if resources.vram_required_mb == "auto" else resources.vram_required_mb
    memory_mb = resources.min_memory_mb or 0
    if isinstance(resources.gpus, tuple):
        return Demand(len(resources.gpus), resources.gpus, vram_mb, memory_mb)
    gpus = resources.gpus if resources.gpus is not None else _default_gpus(config, devices)
    return Demand(gpus, (), vram_mb, memory_mb)


def _default_gpus(config: ServiceConfig, devices: Sequence[Device]) -> int:
    """One for a GPU engine; none where the machine has none and the engine also runs on CPUs."""
    profile = profile_of(config)
    return int(profile.gpu and (bool(devices) or not profile.cpu))
