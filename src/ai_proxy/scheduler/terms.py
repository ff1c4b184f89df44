"""What a config says to the scheduler as a whole: how those who wait are treated, and what there is to share. Pure."""

from collections.abc import Sequence

from ai_proxy.config.models import Config
from ai_proxy.config.sharing import SchedulingConfig
from ai_proxy.devices import Device
from ai_proxy.scheduler.ledger import Ledger
from ai_proxy.scheduler.state import Settings


def settings_of(scheduling: SchedulingConfig) -> Settings:
    """How waiting requests are treated.

    Example:
        >>> settings_of(SchedulingConfig()).claim_after_s
        30
    """
    return Settings(
        scheduling.claim_after_s, scheduling.max_queue, scheduling.min_residency_s, scheduling.max_request_s
    )


def ledger_of(config: Config, devices: Sequence[Device], memory_mb: int) -> Ledger:
    """An empty ledger of what services share.

    Args:
        config: Says what stays free, and what there is beside devices and memory.
        devices: The GPUs.
        memory_mb: The host's memory, in MiB.
    """
    return Ledger(devices, memory_mb, headroom_mb=config.scheduling.headroom_mb, capacities=config.capacities)
