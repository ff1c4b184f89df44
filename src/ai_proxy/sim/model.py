"""What is simulated: the devices, the services on them, and how long their engines take for each step of their life.

Plain data, and how it follows from a config. It knows nothing of time that passes or of who decides.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ai_proxy.config.models import Config, RuntimeKind
from ai_proxy.devices import Device
from ai_proxy.scheduler.figures import Figures, with_learned
from ai_proxy.scheduler.spec import UNLIMITED, ServiceSpec, spec_of
from ai_proxy.scheduler.state import Settings
from ai_proxy.scheduler.terms import settings_of
from ai_proxy.services.machine import Action

START_S = 3.0
"""From the start of an engine to the first byte of its model."""

DISK_MB_S = 1536.0
"""How fast a model is read from disk."""

BUS_MB_S = 10_240.0
"""How fast a model goes to host memory and back, when its engine sleeps and wakes."""

STOP_S = 1.0


class Source(StrEnum):
    """Where a load time is from."""

    GIVEN = "given"
    LEARNED = "learned"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class EngineModel:
    """How one service's engine behaves.

    Attributes:
        size_mb: What it holds on all its devices together, in MiB.
        ready_s: From the start to ready.
        stop_s: From the stop until its room is free.
        slots: Requests it works on at once; more wait inside the engine.
        source: Where `ready_s` is from.
    """

    size_mb: int
    ready_s: float
    stop_s: float = STOP_S
    slots: int = UNLIMITED
    source: Source = Source.ASSUMED

    def takes_s(self, action: Action, level: int = 0) -> float:
        """How long an action takes; infinity for one that never ends by itself.

        Args:
            action: What is carried out.
            level: How deeply it sleeps or slept; from level 2 the model is read again.

        Example:
            >>> chat = EngineModel(size_mb=15360, ready_s=13.0)
            >>> [chat.takes_s(action) for action in (Action.LAUNCH, Action.PROBE, Action.STOP, Action.WATCH)]
            [3.0, 10.0, 1.0, inf]
            >>> chat.takes_s(Action.WAKE, level=1), chat.takes_s(Action.WAKE, level=2)
            (1.5, 10.0)
        """
        match action:
            case Action.LAUNCH:
                return min(START_S, self.ready_s)
            case Action.PROBE:
                return max(self.ready_s - START_S, 0.0)
            case Action.WAKE:
                return self.size_mb / (BUS_MB_S if level < 2 else DISK_MB_S)
            case Action.SLEEP:
                return self.size_mb / BUS_MB_S
            case Action.STOP:
                return self.stop_s
            case Action.WATCH:
                return math.inf


def assumed_ready_s(size_mb: float) -> float:
    """How long a start takes of which nothing is known but the size.

    Example:
        >>> assumed_ready_s(15360)
        13.0
    """
    return START_S + size_mb / DISK_MB_S


@dataclass(frozen=True, slots=True)
class Fleet:
    """Devices, services and their engines.

    Attributes:
        devices: The GPUs.
        memory_mb: Host memory that services may reserve, in MiB.
        specs: What the scheduler knows of each service.
        engines: How each behaves, by service.
        settings: How waiting requests are treated.
        preload: Services that are started at the beginning.
        headroom_mb: VRAM of each GPU that is given to nobody.
        capacities: How much there is of the config's own resources.
    """

    devices: tuple[Device, ...]
    memory_mb: int
    specs: tuple[ServiceSpec, ...]
    engines: Mapping[str, EngineModel]
    settings: Settings = field(default_factory=Settings)
    preload: tuple[str, ...] = ()
    headroom_mb: int = 0
    capacities: Mapping[str, int] = field(default_factory=dict)

    @property
    def vram_mb(self) -> int:
        """What the devices have together."""
        return sum(device.vram_mb for device in self.devices)

    @property
    def oversubscription(self) -> float:
        """What all services need together, in multiples of what there is; 0 where there is nothing to share."""
        wanted_mb = sum(self.engines[spec.id].size_mb for spec in self.specs if spec.demand.gpus)
        return wanted_mb / self.vram_mb if self.vram_mb else 0.0


def fleet_of(
    config: Config,
    devices: Sequence[Device],
    memory_mb: int,
    *,
    figures: Mapping[str, Figures] | None = None,
    ready_s: Mapping[str, float] | None = None,
    slots: int = UNLIMITED,
) -> Fleet:
    """Make a fleet of a config.

    Args:
        config: Says which services there are.
        devices: The GPUs they share.
        memory_mb: The host memory they share, in MiB.
        figures: What was learned, by service: load and stop times, and the VRAM of those whose config leaves it open.
        ready_s: How long a start takes, by service, whatever was learned; where neither says it, it is assumed.
        slots: Requests each engine works on at once.
    """
    specs, engines = [], {}
    scheduling = config.scheduling
    for service, settings in config.services.items():
        seen = (figures or {}).get(service)
        spec = spec_of(service, settings, devices)
        spec = replace(spec, demand=with_learned(spec.demand, seen, devices, scheduling.headroom_mb))
        engine = _engine(size_of(spec, devices), seen or Figures(), (ready_s or {}).get(service))
        if settings.kind is RuntimeKind.EXTERNAL:
            engine = EngineModel(0, 0.0, 0.0)
        specs.append(spec)
        engines[service] = replace(engine, slots=slots)
    return Fleet(
        tuple(devices),
        memory_mb,
        tuple(specs),
        engines,
        settings_of(scheduling),
        tuple(service for service, settings in config.services.items() if settings.preload),
        scheduling.headroom_mb,
        config.capacities,
    )


def _engine(size_mb: int, seen: Figures, given_s: float | None) -> EngineModel:
    stop_s = STOP_S if seen.stop_s is None else seen.stop_s
    if given_s is not None:
        return EngineModel(size_mb, given_s, stop_s, source=Source.GIVEN)
    if seen.load_s is not None:
        return EngineModel(size_mb, seen.load_s, stop_s, source=Source.LEARNED)
    return EngineModel(size_mb, assumed_ready_s(size_mb), stop_s)


def size_of(spec: ServiceSpec, devices: Iterable[Device]) -> int:
    """What a service holds on all its devices together, in MiB; without a figure, the largest devices."""
    demand = spec.demand
    if not demand.gpus:
        return demand.memory_mb
    if demand.vram_mb is not None:
        return demand.gpus * demand.vram_mb
    return sum(sorted((device.vram_mb for device in devices), reverse=True)[: demand.gpus])
