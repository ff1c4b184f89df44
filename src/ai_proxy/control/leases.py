"""Leases: room on the GPUs for programs that are not ours, a training job or a game, for as long as they renew it.

To the scheduler a lease is a pinned service that is ready as soon as it has its room, so that making room, fairness
and reasons are the same for both; nothing is ever routed to it. Leases end with the proxy: whoever still renews one
then is told that it is gone, and takes another. What runs meanwhile counts as foreign use, so its room is not given
away.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from ai_proxy.config.models import ServiceConfig
from ai_proxy.devices import Device, Placement
from ai_proxy.errors import Draining, NoRoom, QueueFull, WaitTimeout
from ai_proxy.events import Decided, Event, EventBus
from ai_proxy.runtimes.base import Exit, Instance, InstanceSpec, Progress, Runtime
from ai_proxy.scheduler.ledger import Demand
from ai_proxy.scheduler.scheduler import Scheduler
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.services.service import Service

PREFIX = "lease:"
LIMIT = 64
LOOK_AGAIN_S = 5.0
GONE_S = 30.0

# A lease has no engine: to the hands of a service it is something that runs elsewhere and has no health to ask for.
_CONFIG = ServiceConfig(url="http://lease.invalid")


class UnknownDevice(Exception):
    """This machine has no such GPU; the message names those that it has."""

    def __init__(self, asked: str, devices: Sequence[Device]) -> None:
        has = ", ".join(device.id for device in devices) or "none"
        super().__init__(f"this machine has no GPU {asked[:64]!r}; it has {has}")


class UnknownLease(Exception):
    """There is no such lease, or there is none any more."""

    def __init__(self, lease: str) -> None:
        super().__init__(f"no lease {lease[:64]!r}: it has ended, or was of a former life of the proxy; take another")


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to hold.

    Attributes:
        vram_mb: On each GPU, in MiB; None for GPUs to itself.
        devices: Ids or UUIDs of the very GPUs; empty for any.
        gpus: How many, where it may be any.
        ttl_s: How long it lasts unless it is renewed.
        wait_s: How long to wait for the room.
        name: For people; part of its id.
        pids: Processes that will use the room.
    """

    vram_mb: int | None
    devices: tuple[str, ...] = ()
    gpus: int = 1
    ttl_s: float = 60.0
    wait_s: float = 60.0
    name: str = ""
    pids: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class Lease:
    """Room that is held.

    Attributes:
        id: By which it is renewed and given back.
        name: For people.
        placement: What it holds.
        ttl_s: How long it lasts from its last renewal on.
        taken_at: Unix time, seconds.
        expires_at: Unix time, seconds.
        room: The hold on it.
    """

    id: str
    name: str
    placement: Placement
    ttl_s: float
    taken_at: float
    expires_at: float
    room: "Room"

    @property
    def pids(self) -> tuple[int, ...]:
        """Processes that use the room, as far as they were told."""
        return self.room.told

    @property
    def key(self) -> str:
        """Its name among those who hold room."""
        return PREFIX + self.id


class Leases:
    """Gives leases and ends them.

    Args:
        scheduler: Makes room.
        devices: The GPUs of this machine.
        make: Makes the hands of a service: its id, its config, its runtime.
        bus: Tells what the scheduler decides.
        wall_clock: Unix seconds.
        on_pids: Is told that other processes than before were said to use leased room.
        limit: Leases at once, those that wait for room included.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        devices: Sequence[Device],
        make: Callable[[str, ServiceConfig, Runtime], Service],
        bus: EventBus,
        wall_clock: Callable[[], float],
        on_pids: Callable[[], None],
        limit: int = LIMIT,
    ) -> None:
        self._scheduler = scheduler
        self._devices = devices
        self._make = make
        self._wall_clock = wall_clock
        self._on_pids = on_pids
        self._limit = limit
        self._is_closing = False

        self._leases: dict[str, Lease] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        # The verdicts on those that wait for room, by key.
        self._reasons: dict[str, str] = {}
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        bus.listen(self._hear)

    def __repr__(self) -> str:
        return f"<Leases {len(self._leases)} held, {len(self._reasons)} waiting>"

    async def take(self, wish: Wish) -> Lease:
        """Wait for room and hold it; idle services make room, busy ones once they are done.

        Raises:
            UnknownDevice: This machine has not what is named.
            NoRoom: It would not fit on an empty machine either.
            WaitTimeout: There was no room in time; the message says who holds it.
            QueueFull: There are as many leases as there may be.
            Draining: The proxy is shutting down.
        """
        demand = self._demand(wish)
        self._check_closing()
        if len(self._leases) + len(self._reasons) >= self._limit:
            raise QueueFull(f"there are {self._limit} leases already: as many as there may be")
        lease, room = _new_id(wish.name), Room(wish.pids)
        key = PREFIX + lease
        self._reasons[key] = ""
        spec = ServiceSpec(key, demand, pinned=True, lease=True)
        self._scheduler.add(spec, lambda _: self._make(key, _CONFIG, room))
        try:
            async with asyncio.timeout(wish.wait_s):
                placement = await self._placed(key, room)
        except BaseException as error:
            self._remove(key)
            if isinstance(error, TimeoutError):
                why = self._reasons[key] or "what was to leave for it has not left yet"
                raise WaitTimeout(f"no room within {wish.wait_s:g} s: {why}") from None
            raise
        finally:
            del self._reasons[key]
        now = self._wall_clock()
        self._leases[lease] = held = Lease(lease, wish.name, placement, wish.ttl_s, now, now, room)
        self._arm(held)
        return held

    def renew(self, lease: str, *, ttl_s: float | None = None, pids: tuple[int, ...] | None = None) -> Lease:
        """Let a lease last for its time from now on.

        Args:
            lease: Its id.
            ttl_s: Its time from now on, if that changes.
            pids: Who uses the room now, if that changes.

        Raises:
            UnknownLease: It has ended.
        """
        found = self.get(lease)
        found.ttl_s = ttl_s or found.ttl_s
        if pids is not None and pids != found.pids:
            found.room.told = pids
            self._on_pids()
        self._arm(found)
        return found

    def end(self, lease: str) -> None:
        """Give the room back.

        Raises:
            UnknownLease: It has ended already.
        """
        found = self.get(lease)
        self._timers.pop(found.id).cancel()
        del self._leases[found.id]
        self._remove(found.key)

    def get(self, lease: str) -> Lease:
        """A lease by its id.

        Raises:
            UnknownLease: It has ended.
        """
        try:
            return self._leases[lease]
        except KeyError:
            raise UnknownLease(lease) from None

    def all(self) -> list[Lease]:
        """All leases, the oldest first."""
        return list(self._leases.values())

    async def aclose(self) -> None:
        """Take no more, and let the scheduler's end be theirs."""
        self._is_closing = True
        self._ended.set()
        for timer in self._timers.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _placed(self, key: str, room: "Room") -> Placement:
        """Ask for room until there is some: what other leases hold may come free before the time is over."""
        while True:
            self._scheduler.start(key)
            await self._scheduler.settled(key)
            if room.placement is not None:
                return room.placement
            self._check_closing()
            self._ended.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S):
                    await self._ended.wait()

    def _arm(self, lease: Lease) -> None:
        if (timer := self._timers.pop(lease.id, None)) is not None:
            timer.cancel()
        lease.expires_at = self._wall_clock() + lease.ttl_s
        self._timers[lease.id] = asyncio.get_running_loop().call_later(lease.ttl_s, self.end, lease.id)

    def _remove(self, key: str) -> None:
        self._scheduler.remove(key)
        self._own(self._gone(key))

    async def _gone(self, key: str) -> None:
        """Tell those who wait for room once some has come free."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GONE_S):
                await self._scheduler.settled(key)
        self._ended.set()

    def _demand(self, wish: Wish) -> Demand:
        known = {name for device in self._devices for name in (device.id, device.uuid)}
        for asked in wish.devices:
            if asked not in known:
                raise UnknownDevice(asked, self._devices)
        demand = Demand(len(wish.devices) or wish.gpus, wish.devices, wish.vram_mb)
        if self._scheduler.state.ledger.with_only(()).fit(demand) is None:
            has = ", ".join(f"{device.id} with {device.vram_mb:,} MB" for device in self._devices) or "none"
            raise NoRoom(f"it needs {demand}; the GPUs of this machine: {has}")
        return demand

    def _check_closing(self) -> None:
        if self._is_closing:
            raise Draining("the proxy is shutting down")

    def _hear(self, event: Event) -> None:
        if isinstance(event, Decided) and event.service in self._reasons:
            self._reasons[event.service] = event.reason

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _families(pids: Iterable[int]) -> frozenset[int]:
    """Processes and their descendants; one that has ended has none. Blocks."""
    found = set(pids)
    for pid in pids:
        with suppress(psutil.Error):
            found.update(child.pid for child in psutil.Process(pid).children(recursive=True))
    return frozenset(found)


def _new_id(name: str) -> str:
    number = os.urandom(4).hex()
    return f"{name}-{number}" if name else number


class Room:
    """The runtime of one lease: there is nothing to start, the room is all.

    Args:
        told: Processes that were said to use it.

    Attributes:
        placement: The room, while it is held.
    """

    def __init__(self, told: tuple[int, ...] = ()) -> None:
        self.told = told
        self.placement: Placement | None = None
        self._left = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Room {self.placement}>"

    async def pids(self, instance: Instance) -> frozenset[int] | None:  # noqa: ARG002  # there is but one
        """The processes that were said to use it, and their descendants; None if nothing was said."""
        return await asyncio.to_thread(_families, self.told) if self.told else None

    async def prepare(self, config: ServiceConfig, progress: Progress) -> None:
        """There is nothing to do ahead."""

    async def start(self, spec: InstanceSpec, progress: Progress) -> Instance:  # noqa: ARG002  # nothing to tell
        """Take the room."""
        self.placement = spec.placement
        return Instance(spec.service, spec.service, "", 0, spec.placement, spec.spec_hash)

    async def stop(self, instance: Instance, grace_s: float) -> None:  # noqa: ARG002  # nothing to wait for
        """Give it back."""
        self.placement = None
        self._left.set()

    async def wait(self, instance: Instance) -> Exit:  # noqa: ARG002  # there is but one
        """Wait until it is given back."""
        await self._left.wait()
        return Exit()

    async def adopt(self) -> Sequence[Instance]:
        """Leases end with the proxy."""
        return ()

    async def logs(self, instance: Instance, *, follow: bool) -> AsyncGenerator[str, None]:  # noqa: ARG002
        """Say where the output is."""
        yield f"{instance.service} is a lease: its output is where its program writes"

    async def aclose(self) -> None:
        """Nothing is held."""
