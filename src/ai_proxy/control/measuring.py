"""Joins what is measured of the GPUs with who runs there: what each replica holds, and what is others'.

Owns the knowledge of which process belongs to which replica. Runtimes are asked only when a process appears that is
nobody's yet, or a replica comes or goes. What the figures mean for who may start is the scheduler's to decide.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Never, Protocol

from loguru import logger

from ai_proxy.errors import RuntimeUnavailable
from ai_proxy.inventory.monitor import Monitor
from ai_proxy.inventory.reading import DeviceReading, ProcessUse, Reading
from ai_proxy.runtimes.base import Instance
from ai_proxy.scheduler.measured import Measured

ASK_DEADLINE_S = 2.0


class Occupant(Protocol):
    """The hands of a replica, as far as its processes are concerned."""

    @property
    def instance(self) -> Instance | None:
        """The handle of what runs."""
        ...

    async def pids(self) -> frozenset[int] | None:
        """Its processes as the host numbers them; None where nobody can tell."""
        ...


@dataclass(frozen=True, slots=True)
class Picture:
    """A reading, and what it means.

    Attributes:
        reading: Of all devices.
        owners: Keys of replicas, by pid.
        measured: The sums of it.
    """

    reading: Reading
    owners: Mapping[int, str]
    measured: Measured

    def held_mb(self, key: str, uuid: str) -> int | None:
        """What a replica holds of a device; None where that is not known."""
        if uuid not in self.measured.used_mb or key in self.measured.unknown:
            return None
        return self.measured.held_mb.get(key, {}).get(uuid, 0)

    def foreign(self, uuid: str) -> tuple[ProcessUse, ...]:
        """The processes on a device that are nobody's here, the largest first."""
        strangers = [it for it in _processes(self.reading.of(uuid)) if it.pid not in self.owners]
        return tuple(sorted(strangers, key=lambda it: -(it.used_mb or 0)))


class Measuring:
    """Tells what is measured, reading by reading.

    Args:
        monitor: Reads the devices.
        occupants: The hands of all replicas by their keys.
        tell: Is told what each reading means.
        ask_deadline_s: How long runtimes may take to tell which processes a replica is.
    """

    def __init__(
        self,
        monitor: Monitor,
        *,
        occupants: Callable[[], Mapping[str, Occupant]],
        tell: Callable[[Measured], None],
        ask_deadline_s: float = ASK_DEADLINE_S,
    ) -> None:
        self.picture: Picture | None = None
        """The latest; None while nothing is known."""
        self._monitor = monitor
        self._occupants = occupants
        self._tell = tell
        self._ask_deadline_s = ask_deadline_s
        # By instance: whose it is, and its processes, None if they are not known. One that has ended stays for as
        # long as a process of it shows.
        self._keys: dict[str, str] = {}
        self._pids: dict[str, frozenset[int] | None] = {}
        # Processes that runtimes were asked about; each is asked about once.
        self._asked: frozenset[int] = frozenset()
        self._is_to_ask = False
        self._told = asyncio.Event()

    def __repr__(self) -> str:
        known = "nothing known" if self.picture is None else f"{len(self.picture.owners)} processes known"
        return f"<Measuring {len(self._keys)} replicas: {known}>"

    def ask_again(self) -> None:
        """Ask at the next reading, whoever shows in it: something was told of processes that were nobody's."""
        self._is_to_ask = True

    async def run(self) -> Never:
        """Take each reading, for ever."""
        seen: Reading | None = None
        while True:
            seen = await self._monitor.other_than(seen)
            self._tell(self._nothing_known() if seen is None else await self._join(seen))
            told, self._told = self._told, asyncio.Event()
            told.set()

    async def released(self, instance: Instance) -> tuple[str, ...]:
        """Look whether a replica that has ended still holds memory of its devices, in a reading not yet begun.

        Whoever is asked after this answer plans with that reading.

        Returns:
            Who holds how much, in words; nothing where the devices, or their processes, can't be asked.
        """
        asked_at = self._monitor.clock()
        while (shown := self._shown(instance)) and self.picture and self.picture.reading.began_at < asked_at:
            self._monitor.hurry()
            await self._told.wait()
        pids = self._pids.get(instance.id) or frozenset()
        return tuple(
            f"{it.name or 'a process'} (pid {it.pid}, {it.used_mb or 0:,} MB on GPU {device.device.id})"
            for device in shown
            for it in _processes(device)
            if it.pid in pids
        )

    def _shown(self, instance: Instance) -> list[DeviceReading]:
        """What is known of a replica's devices."""
        devices = instance.placement.devices if self.picture else ()
        return [it for device in devices if self.picture and (it := self.picture.reading.of(device.uuid))]

    def _nothing_known(self) -> Measured:
        self.picture = None
        return Measured(unknown=frozenset(self._living()))

    def _living(self) -> dict[str, tuple[Instance, Occupant]]:
        """What runs on devices, by key."""
        running = ((key, it.instance, it) for key, it in self._occupants().items())
        return {key: (instance, it) for key, instance, it in running if instance and instance.placement.devices}

    async def _join(self, reading: Reading) -> Measured:
        living = self._living()
        present = frozenset(it.pid for device in reading.devices for it in _processes(device))
        self._forget(present, {instance.id for instance, _ in living.values()})
        silent: frozenset[str] = frozenset()
        is_to_ask, self._is_to_ask = self._is_to_ask, False
        if is_to_ask or present - self._asked or any(instance.id not in self._pids for instance, _ in living.values()):
            silent = await self._ask(living, present)
        self._asked = frozenset() if silent else present
        owners = {pid: self._keys[it] for it, pids in self._pids.items() for pid in (pids or ()) if pid in present}
        unseen = {
            key
            for key, (instance, _) in living.items()
            if self._pids.get(instance.id) is None or _may_be_hidden(key, instance, reading, owners)
        }
        measured = measured_of(reading, owners, silent | unseen)
        self.picture = Picture(reading, owners, measured)
        return measured

    def _forget(self, present: frozenset[int], living: set[str]) -> None:
        for instance in [it for it in self._keys if it not in living and not (self._pids.get(it) or set()) & present]:
            del self._keys[instance]
            self._pids.pop(instance, None)

    async def _ask(self, living: Mapping[str, tuple[Instance, Occupant]], present: frozenset[int]) -> frozenset[str]:
        """Ask runtimes for the processes of all replicas; returns the keys of those that did not answer."""
        answers = await asyncio.gather(*(self._pids_of(key, occupant) for key, (_, occupant) in living.items()))
        silent = set()
        for (key, (instance, _)), answer in zip(living.items(), answers, strict=True):
            self._keys[instance.id] = key
            if isinstance(answer, Exception):
                silent.add(key)
                continue
            # One that has just ended is listed no more, and may still hold memory.
            former = (self._pids.get(instance.id) or frozenset()) & present
            self._pids[instance.id] = None if answer is None else answer | former
        return frozenset(silent)

    async def _pids_of(self, key: str, occupant: Occupant) -> frozenset[int] | Exception | None:
        try:
            async with asyncio.timeout(self._ask_deadline_s):
                return await occupant.pids()
        except (TimeoutError, RuntimeUnavailable) as error:
            return error
        except Exception as error:  # noqa: BLE001  # a driver's fault must not end the measuring of all the others
            logger.bind(service=key).exception("Its runtime failed to tell which processes it is")
            return error


def measured_of(reading: Reading, owners: Mapping[int, str], unknown: Iterable[str] = ()) -> Measured:
    """Sum up a reading.

    Args:
        reading: Of all devices.
        owners: Keys of replicas, by pid.
        unknown: Keys of replicas whose processes are not all known.

    Example:
        >>> from ai_proxy.devices import Device
        >>> gpu = DeviceReading(Device("0", "GPU-a", 20_000), 24_000, 10_000, (ProcessUse(41, "vllm", 9_000),))
        >>> measured = measured_of(Reading(0.0, (gpu,)), {41: "chat"})
        >>> measured.used_mb, measured.held_mb
        ({'GPU-a': 6000}, {'chat': {'GPU-a': 9000}})
    """
    held_mb: dict[str, dict[str, int]] = {}
    untold = set(unknown)
    for device in reading.devices:
        for process in _processes(device):
            key = owners.get(process.pid)
            if key is None:
                continue
            if process.used_mb is None:
                untold.add(key)
                continue
            held = held_mb.setdefault(key, {})
            held[device.device.uuid] = held.get(device.device.uuid, 0) + process.used_mb
    used_mb = {it.device.uuid: _used_of_capacity(it) for it in reading.devices}
    return Measured(used_mb, held_mb, frozenset(untold), frozenset(device.uuid for device in reading.lost))


def _used_of_capacity(device: DeviceReading) -> int:
    """What is used of a declared capacity: what the config leaves out is there for others to use first."""
    spare_mb = max(0, device.total_mb - device.device.vram_mb)
    return max(0, device.used_mb - spare_mb)


def _may_be_hidden(key: str, instance: Instance, reading: Reading, owners: Mapping[int, str]) -> bool:
    """Whether a replica may hold memory that does not show as its own.

    So it is where a driver does not tell who uses a device, and where the proxy runs in a container with a numbering of
    its own: a process has two numbers then, and the driver's is one that nobody here knows.
    """
    devices = [it for device in instance.placement.devices if (it := reading.of(device.uuid))]
    if any(it.processes is None for it in devices):
        return True
    strangers = (it for device in devices for it in _processes(device) if it.pid not in owners)
    return key not in owners.values() and any(not it.name for it in strangers)


def _processes(device: DeviceReading | None) -> tuple[ProcessUse, ...]:
    return () if device is None else device.processes or ()
