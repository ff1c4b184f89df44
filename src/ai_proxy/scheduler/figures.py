"""What was measured of a service's lives: how much memory it took, how long it took to load, to wake and to stop.

Pure. Knows how figures are gathered and what follows from them for a demand; where they are kept, and who measures,
is not known here. They belong to what shapes a replica and to a model of GPU: another image or another card is
another footprint.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from ai_proxy.devices import Device
from ai_proxy.scheduler.ledger import Demand

RECENT = 8
"""Durations kept of each kind. Their median follows a change after five lives and shrugs off a cold page cache."""

MARGIN = 0.05
MIN_MARGIN_MB = 256
"""Added to a measured peak. Readings are seconds apart and miss the highest moment; a CUDA context is of this size."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was seen of one service on one model of GPU.

    Attributes:
        peak_vram_mb: The most that a replica held on any one device, over all its lives, in MiB; None if not measured.
        loads_s: From its placement to ready, pulls apart, seconds, the latest last.
        stops_s: From the order to stop until its room was free, seconds, the latest last.
        wakes_s: From the order to wake to ready, by the level of its sleep, seconds, the latest last.
    """

    peak_vram_mb: int | None = None
    loads_s: tuple[float, ...] = ()
    stops_s: tuple[float, ...] = ()
    wakes_s: Mapping[int, tuple[float, ...]] = field(default_factory=dict)

    @property
    def load_s(self) -> float | None:
        """The usual time of a load, seconds.

        Example:
            >>> Figures(loads_s=(60.0, 12.0, 11.0)).load_s
            12.0
        """
        return median(self.loads_s) if self.loads_s else None

    @property
    def stop_s(self) -> float | None:
        """The usual time of a stop, seconds."""
        return median(self.stops_s) if self.stops_s else None

    def wake_s(self, level: int) -> float | None:
        """The usual time of waking from a level of sleep, seconds."""
        wakes_s = self.wakes_s.get(level)
        return median(wakes_s) if wakes_s else None

    def with_peak(self, vram_mb: int) -> "Figures":
        """These, and so much memory held.

        Example:
            >>> Figures(peak_vram_mb=900).with_peak(700).peak_vram_mb
            900
        """
        return replace(self, peak_vram_mb=max(vram_mb, self.peak_vram_mb or 0))

    def with_load(self, seconds: float) -> "Figures":
        """These, and one more load."""
        return replace(self, loads_s=_recent(self.loads_s, seconds))

    def with_stop(self, seconds: float) -> "Figures":
        """These, and one more stop."""
        return replace(self, stops_s=_recent(self.stops_s, seconds))

    def with_wake(self, level: int, seconds: float) -> "Figures":
        """These, and one more waking."""
        return replace(self, wakes_s={**self.wakes_s, level: _recent(self.wakes_s.get(level, ()), seconds)})


def merged(figures: Iterable[Figures]) -> Figures | None:
    """The figures of a service over all models of GPU that it has run on; None if it has on none.

    The largest peak counts, and the durations of all.

    Example:
        >>> merged([Figures(900, (4.0,)), Figures(None, (6.0,))])
        Figures(peak_vram_mb=900, loads_s=(4.0, 6.0), stops_s=(), wakes_s={})
        >>> merged([]) is None
        True
    """
    all_of_it = list(figures)
    if len(all_of_it) < 2:
        return all_of_it[0] if all_of_it else None
    peaks = [one.peak_vram_mb for one in all_of_it if one.peak_vram_mb is not None]
    levels = sorted({level for one in all_of_it for level in one.wakes_s})
    return Figures(
        max(peaks, default=None),
        tuple(seconds for one in all_of_it for seconds in one.loads_s),
        tuple(seconds for one in all_of_it for seconds in one.stops_s),
        {level: tuple(s for one in all_of_it for s in one.wakes_s.get(level, ())) for level in levels},
    )


def learned_vram_mb(figures: Figures | None) -> int | None:
    """What to reserve on each GPU for a service whose peak was measured, in MiB; None if it was not.

    Example:
        >>> learned_vram_mb(Figures(peak_vram_mb=17_310)), learned_vram_mb(Figures(peak_vram_mb=1000))
        (18176, 1256)
        >>> learned_vram_mb(None) is None
        True
    """
    if figures is None or figures.peak_vram_mb is None:
        return None
    return figures.peak_vram_mb + max(MIN_MARGIN_MB, round(figures.peak_vram_mb * MARGIN))


def with_learned(demand: Demand, figures: Figures | None, devices: Sequence[Device], headroom_mb: int = 0) -> Demand:
    """The demand of a service whose footprint was left to be learned, once it is known.

    What would not fit beside the headroom on as many devices as it needs stays a demand for whole ones: an engine
    that takes nearly all of a GPU runs on it alone, and must not be refused for the margin.

    Args:
        demand: What its config says.
        figures: What was measured of it.
        devices: The GPUs of this machine.
        headroom_mb: Kept free on each.

    Example:
        >>> gpus = [Device("0", "GPU-a", 24_000)]
        >>> with_learned(Demand(gpus=1), Figures(peak_vram_mb=10_000), gpus).vram_mb
        10500
        >>> with_learned(Demand(gpus=1), Figures(peak_vram_mb=23_500), gpus).vram_mb is None
        True
    """
    vram_mb = learned_vram_mb(figures)
    if not demand.gpus or demand.vram_mb is not None or vram_mb is None:
        return demand
    eligible = [it for it in devices if not demand.pins or it.id in demand.pins or it.uuid in demand.pins]
    fitting = sum(device.vram_mb - headroom_mb >= vram_mb for device in eligible)
    return replace(demand, vram_mb=vram_mb) if fitting >= demand.gpus else demand


def _recent(durations_s: tuple[float, ...], seconds: float) -> tuple[float, ...]:
    return (*durations_s, seconds)[-RECENT:]
