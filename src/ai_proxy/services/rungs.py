"""What a replica would still hold asleep: the rungs between running and stopped.

Pure. What an engine can do is its profile's word; which rung is taken is the planner's.
"""

from dataclasses import replace

from ai_proxy.config.models import ServiceConfig
from ai_proxy.devices import Placement
from ai_proxy.engines.profile import SleepLevel
from ai_proxy.engines.registry import sleep_levels_of


def rungs_of(config: ServiceConfig, placement: Placement) -> tuple[tuple[int, Placement], ...]:
    """The levels at which a service may sleep, and what it keeps at each; those that would free no VRAM are left out.

    Args:
        config: The service's settings.
        placement: What it holds awake.
    """
    rungs = ((level.level, kept(placement, level)) for level in sleep_levels_of(config))
    return tuple((level, keeps) for level, keeps in rungs if keeps.vram_mb < placement.vram_mb)


def kept(placement: Placement, level: SleepLevel) -> Placement:
    """What a replica holds asleep: the same devices, less of them, and more of the host's memory where it moves there.

    How much of its VRAM are weights is not known, so all of it is charged to the host.

    Example:
        >>> from ai_proxy.devices import Device
        >>> awake = Placement((Device("0", "GPU-a", 24576), Device("1", "GPU-b", 24576)), vram_mb=20000, memory_mb=1000)
        >>> asleep = kept(awake, SleepLevel(1, (), keeps_mb=2000, moves=True))
        >>> asleep.vram_mb, asleep.memory_mb
        (2000, 41000)
    """
    moved_mb = placement.vram_mb * len(placement.devices) if level.moves else 0
    return replace(placement, vram_mb=min(level.keeps_mb, placement.vram_mb), memory_mb=placement.memory_mb + moved_mb)
