"""What the scheduler needs to know of a service, and how that follows from its config.

Pure. The one place where a key that was left out gets its meaning from the devices that the machine has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ai_proxy.config.models import RuntimeKind, ServiceConfig
from ai_proxy.devices import Device, Placement
from ai_proxy.engines.registry import profile_of, sleep_levels_of
from ai_proxy.scheduler.ledger import Demand

UNLIMITED = 1 << 62


@dataclass(frozen=True, slots=True)
class Nap:
    """A level of sleep that a service may use to make room.

    Attributes:
        level: The engine's name for it; the deeper, the longer it takes to wake.
        keeps_mb: What it keeps on each of its devices.
        moves: What it gives back moves to the host's memory; else it is dropped and read again.
    """

    level: int
    keeps_mb: int = 0
    moves: bool = False

    def keeps_of(self, room: Placement) -> Placement:
        """What a replica keeps of its room while it sleeps.

        Example:
            >>> room = Placement((Device("0", "GPU-a", 24_000),), vram_mb=9_000, memory_mb=1_000)
            >>> kept = Nap(1, keeps_mb=500, moves=True).keeps_of(room)
            >>> kept.vram_mb, kept.memory_mb
            (500, 9500)
        """
        kept_mb = min(room.vram_mb, self.keeps_mb)
        moved_mb = (room.vram_mb - kept_mb) * len(room.devices) if self.moves else 0
        return Placement(room.devices, kept_mb, room.memory_mb + moved_mb, room.custom)


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What the scheduler needs to know of a service's config.

    Attributes:
        id: The service.
        demand: What one replica needs to run.
        max_in_flight: Requests on a replica at once.
        max_queue: Requests that may wait for it; 0: it is used only when it is ready.
        max_wait_s: How long a request may wait for it.
        idle_timeout_s: Stopped after this long without a request; None: only when its room is needed.
        pinned: Never evicted, never stopped for being idle.
        tells_work: Its engine can be asked whether it works, and may work though no request is open.
        priority: Who goes first where room is scarce; the higher.
        weight: What a second of its loading counts against one of the others'.
        conflicts: Services that may not hold room while it does; they need not say so too.
        requires: Services that have to be ready before it starts, and are not evicted from under it.
        min_replicas: Kept running.
        max_replicas: At most this many, if there is room.
        target_inflight: Another replica is started when each has more requests than this.
        naps: How it may sleep instead of stopping, lightest first.
        lease: It stands for somebody else's use of the devices.
    """

    id: str
    demand: Demand
    max_in_flight: int = UNLIMITED
    max_queue: int = 1000
    max_wait_s: float = 600.0
    idle_timeout_s: float | None = None
    pinned: bool = False
    tells_work: bool = False
    priority: int = 1
    weight: float = 1.0
    conflicts: frozenset[str] = frozenset()
    requires: tuple[str, ...] = ()
    min_replicas: int = 0
    max_replicas: int = 1
    target_inflight: int = 16
    naps: tuple[Nap, ...] = ()
    lease: bool = False


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
        priority=config.priority.rank,
        weight=config.weight,
        conflicts=frozenset(config.conflicts),
        requires=config.requires,
        min_replicas=config.replicas.min,
        max_replicas=config.replicas.max,
        target_inflight=config.replicas.target_inflight,
        naps=tuple(Nap(each.level, each.keeps_mb, each.moves) for each in sleep_levels_of(config)),
    )


def demand_of(config: ServiceConfig, devices: Sequence[Device]) -> Demand:
    """What a service needs to run; one that runs elsewhere needs nothing of this machine."""
    if config.kind is RuntimeKind.EXTERNAL:
        return Demand()
    resources = config.resources
    vram_mb = None if resources.vram_required_mb == "auto" else resources.vram_required_mb
    memory_mb = resources.min_memory_mb or 0
    custom = tuple(sorted(resources.custom.items()))
    if isinstance(resources.gpus, tuple):
        return Demand(len(resources.gpus), resources.gpus, vram_mb, memory_mb, custom)
    gpus = resources.gpus if resources.gpus is not None else _default_gpus(config, devices)
    return Demand(gpus, (), vram_mb, memory_mb, custom)


def _default_gpus(config: ServiceConfig, devices: Sequence[Device]) -> int:
    """One for a GPU engine; none where the machine has none and the engine also runs on CPUs."""
    profile = profile_of(config)
    return int(profile.gpu and (bool(devices) or not profile.cpu))
