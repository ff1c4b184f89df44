"""Watches the lives of replicas and notes what they took: memory, and time to load, to wake and to stop.

It hears what the bus carries and is told what is measured; what it learns goes to `Learned`. Must not know how memory
is measured or what the figures are for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import methodcaller

from ai_proxy.control.learned import Learned
from ai_proxy.control.leases import PREFIX
from ai_proxy.devices import Device, Placement
from ai_proxy.events import Event, Progress, ServiceChanged
from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler.figures import Figures
from ai_proxy.services.machine import State

PULLING = "pulling "
"""How the words of a start begin while an image is fetched: no later load will need that again."""


@dataclass(slots=True)
class _Life:
    """What was seen of a replica since it was placed or adopted.

    Attributes:
        began_at: When its load began; None once it has ended, and for one that was adopted.
        level: How deep it sleeps.
        wakes_at: When it was told to wake; None if it does not wake.
        stops_at: When it was told to stop; None before.
        was_ready: It has been ready: what it holds is its footprint.
        instance: The handle of what runs, once it does.
        peaks_mb: The most that it held, by the device's UUID.
    """

    began_at: float | None = None
    level: int = 0
    wakes_at: float | None = None
    stops_at: float | None = None
    was_ready: bool = False
    instance: Instance | None = None
    peaks_mb: dict[str, int] = field(default_factory=dict)


class Learner:
    """Learns from one fleet; a lease is no life that could come again.

    Args:
        learned: Where figures are kept.
        instance_of: Tells what runs as a replica, by its key.
        on_news: Is told the service of which something was learned.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        learned: Learned,
        *,
        instance_of: Callable[[str], Instance | None],
        on_news: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._learned = learned
        self._instance_of = instance_of
        self._on_news = on_news
        self._clock = clock
        self._lives: dict[str, _Life] = {}

    def __repr__(self) -> str:
        return f"<Learner of {len(self._lives)} lives>"

    def hear(self, event: Event) -> None:
        """Take what the bus carries."""
        match event:
            case ServiceChanged(service=key) if not key.startswith(PREFIX):
                self._moved(key, event)
            case Progress(service=key, text=text) if text.startswith(PULLING) and key in self._lives:
                self._lives[key].began_at = self._clock()

    def measured(self, held_mb: Mapping[str, Mapping[str, int]]) -> None:
        """Take what replicas hold.

        Args:
            held_mb: MiB by the UUID of the device, by the replica's key.
        """
        for key, by_device in held_mb.items():
            if (life := self._lives.get(key)) is None:
                continue
            for uuid, held in by_device.items():
                life.peaks_mb[uuid] = max(held, life.peaks_mb.get(uuid, 0))
            self._note_peaks(life)

    def _moved(self, key: str, event: ServiceChanged) -> None:
        now = self._clock()
        if event.state in {State.STOPPED, State.FAILED}:
            self._ended(key, now, in_order=event.state == State.STOPPED)
            return
        if event.state == State.STARTING:
            self._lives[key] = _Life(began_at=now)
            return
        life = self._lives.setdefault(key, _Life())
        life.instance = self._instance_of(key) or life.instance
        if event.state == State.STOPPING:
            life.stops_at = now
        elif event.state == State.SLEEPING:
            life.level = event.level or life.level
        elif event.state == State.LOADING and event.previous == State.SLEEPING:
            life.wakes_at = now
        elif event.state == State.READY:
            self._became_ready(life, now)

    def _became_ready(self, life: _Life, now: float) -> None:
        began_at, life.began_at = life.began_at, None
        wakes_at, life.wakes_at = life.wakes_at, None
        life.was_ready = True
        if began_at is not None:
            self._note(life, lambda figures: figures.with_load(now - began_at))
        elif wakes_at is not None:
            self._note(life, lambda figures: figures.with_wake(life.level, now - wakes_at))
        self._note_peaks(life)

    def _ended(self, key: str, now: float, *, in_order: bool) -> None:
        life = self._lives.pop(key, None)
        # One that never loaded, or broke, was stopped in no time; what counts is how long a whole one takes.
        if life is None or life.stops_at is None or not (life.was_ready and in_order):
            return
        took_s = now - life.stops_at
        self._note(life, lambda figures: figures.with_stop(took_s))

    def _note(self, life: _Life, change: Callable[[Figures], Figures]) -> None:
        if life.instance is not None:
            for model in models_of(life.instance.placement):
                self._learned.note(life.instance.spec_hash, model, change)
            self._on_news(life.instance.service)

    def _note_peaks(self, life: _Life) -> None:
        """Keep the footprint of a replica that has been ready; one that failed to load had none."""
        if not life.was_ready or life.instance is None:
            return
        peaks_mb: dict[str, int] = {}
        for device in life.instance.placement.devices:
            model, peak_mb = model_of(device), life.peaks_mb.get(device.uuid, 0)
            peaks_mb[model] = max(peak_mb, peaks_mb.get(model, 0))
        news = [
            self._learned.note(life.instance.spec_hash, model, methodcaller("with_peak", peak_mb))
            for model, peak_mb in peaks_mb.items()
            if peak_mb
        ]
        if any(news):
            self._on_news(life.instance.service)


def models_of(placement: Placement) -> tuple[str, ...]:
    """The models of a placement's GPUs, each once; an empty name where there is none.

    Example:
        >>> models_of(Placement())
        ('',)
    """
    return tuple(dict.fromkeys(map(model_of, placement.devices))) or ("",)


def model_of(device: Device) -> str:
    """The name by which figures of a GPU are found again, in this machine or another.

    Example:
        >>> model_of(Device("0", "GPU-a", 24_576, "RTX 4090")), model_of(Device("0", "0", 24_576))
        ('RTX 4090', 'GPU with 24576 MB')
    """
    return device.name or f"GPU with {device.vram_mb} MB"
