"""Room for programs that are not ours: given when there is some, made where nothing works, taken back in time."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from ai_proxy.config.models import ServiceConfig
from ai_proxy.control.leases import Lease, Leases, Room, UnknownDevice, UnknownLease, Wish
from ai_proxy.errors import Draining, NoRoom, QueueFull, WaitTimeout
from ai_proxy.runtimes.base import Instance, Runtime
from ai_proxy.scheduler.ledger import Demand
from ai_proxy.scheduler.spec import ServiceSpec
from ai_proxy.services.service import Service
from tests.fakes.clock import virtual_time
from tests.scheduler.house import House

ANY = Demand(gpus=1, vram_mb=8000)
FIRST = Demand(gpus=1, pins=("0",), vram_mb=8000)


class Office(House):
    """A house with two GPUs of 10,000 MB, `a` that runs on either, `pinned` that runs on the first, and leases."""

    def __init__(self) -> None:
        super().__init__(ServiceSpec("a", ANY), ServiceSpec("pinned", FIRST, pinned=True), gpus_mb=(10_000, 10_000))
        self.pids_told: list[bool] = []
        self.leases = Leases(
            self.scheduler,
            devices=self.scheduler.state.ledger.devices,
            make=self._hands,
            bus=self.bus,
            wall_clock=asyncio.get_running_loop().time,
            on_pids=lambda: self.pids_told.append(True),
        )

    def _hands(self, service: str, config: ServiceConfig, runtime: Runtime) -> Service:
        return Service(
            service, config, runtime=runtime, probe=self.probe, owner=self.scheduler, progress=lambda *_: None
        )

    async def take(self, vram_mb: int | None = 8000, *devices: str, wait_s: float = 600.0, gpus: int = 1) -> Lease:
        """Take a lease that lasts for an hour."""
        return await self.leases.take(Wish(vram_mb, devices, gpus=gpus, ttl_s=3600.0, wait_s=wait_s))

    @property
    def held(self) -> dict[str, list[str]]:
        """The devices that each holder has."""
        held = self.scheduler.state.ledger.held
        return {holder: [device.id for device in placement.devices] for holder, placement in held.items()}

    async def until_waiting(self) -> None:
        """Wait until somebody waits for a lease and all that can happen has."""
        await asyncio.sleep(1.0)
        assert "1 waiting" in repr(self.leases)


@asynccontextmanager
async def office() -> AsyncIterator[Office]:
    async with Office() as office:
        yield office
        await office.leases.aclose()


@virtual_time
async def test_free_room_is_held_at_once_and_given_back() -> None:
    async with office() as it:
        lease = await it.take(8000, "1", wait_s=0.001)

        assert [device.id for device in lease.placement.devices] == ["1"]
        assert it.held == {lease.key: ["1"]}
        it.leases.end(lease.id)
        await asyncio.sleep(1.0)
        assert (it.held, it.leases.all()) == ({}, [])


@virtual_time
async def test_idle_services_make_room_and_get_none_while_the_lease_lasts() -> None:
    async with office() as it:
        (await it.admit("a")).close()

        lease = await it.take(None, gpus=2)

        assert it.held == {lease.key: ["0", "1"]}
        with pytest.raises(NoRoom, match=lease.key):
            await it.admit("a")


@virtual_time
async def test_a_busy_service_keeps_its_room_and_the_refusal_names_it() -> None:
    async with office() as it:
        await it.admit("a")

        with pytest.raises(WaitTimeout, match=r"no room within 10 s: .*\ba\b"):
            await it.take(gpus=2, wait_s=10.0)

        assert list(it.held) == ["a"]


@virtual_time
async def test_a_lease_waits_until_a_busy_service_is_done() -> None:
    async with office() as it:
        grant = await it.admit("a")
        taking = asyncio.create_task(it.take(gpus=2))
        await it.until_waiting()

        grant.close()

        lease = await taking
        assert it.held == {lease.key: ["0", "1"]}


@virtual_time
async def test_a_pinned_service_never_makes_room() -> None:
    async with office() as it:
        (await it.admit("pinned")).close()

        with pytest.raises(WaitTimeout, match="pinned"):
            await it.take(8000, "0", wait_s=10.0)


@virtual_time
async def test_a_lease_waits_for_another_one_to_end() -> None:
    async with office() as it:
        first = await it.take(8000, "0")
        taking = asyncio.create_task(it.take(8000, "0"))
        await it.until_waiting()

        it.leases.end(first.id)

        lease = await taking
        assert it.held == {lease.key: ["0"]}


@virtual_time
async def test_a_lease_waits_for_a_pinned_service_to_be_stopped() -> None:
    async with office() as it:
        (await it.admit("pinned")).close()
        taking = asyncio.create_task(it.take(8000, "0"))
        await it.until_waiting()

        it.scheduler.stop("pinned", "stopped by an operator")

        lease = await taking
        assert it.held == {lease.key: ["0"]}


@virtual_time
async def test_a_lease_lasts_for_its_time_from_its_last_renewal_on() -> None:
    async with office() as it:
        lease = await it.leases.take(Wish(8000, ttl_s=60.0))
        await asyncio.sleep(50.0)
        renewed = it.leases.renew(lease.id, ttl_s=100.0, pids=(11, 12))
        assert renewed.expires_at - renewed.taken_at == pytest.approx(150.0)

        await asyncio.sleep(99.0)
        assert (it.leases.get(lease.id).pids, it.pids_told) == ((11, 12), [True])
        await asyncio.sleep(2.0)

        assert it.held == {}
        with pytest.raises(UnknownLease, match=lease.id):
            it.leases.renew(lease.id)


@virtual_time
async def test_what_this_machine_never_has_is_refused_at_once() -> None:
    async with office() as it:
        with pytest.raises(UnknownDevice, match=r"no GPU '7'; it has 0, 1"):
            await it.take(8000, "7")
        for wish in (Wish(10_001), Wish(1, gpus=3)):
            with pytest.raises(NoRoom, match="0 with 10,000 MB, 1 with 10,000 MB"):
                await it.leases.take(wish)


@virtual_time
async def test_there_are_only_so_many_leases() -> None:
    async with office() as it:
        for _ in range(64):
            await it.take(1)

        with pytest.raises(QueueFull):
            await it.take(1)


@virtual_time
async def test_a_taker_that_leaves_holds_nothing() -> None:
    async with office() as it:
        first = await it.take(8000, "0")
        taking = asyncio.create_task(it.take(8000, "0"))
        await it.until_waiting()

        taking.cancel()
        await asyncio.wait({taking})
        it.leases.end(first.id)
        await asyncio.sleep(10.0)

        assert it.held == {}
        assert repr(it.leases) == "<Leases 0 held, 0 waiting>"


@virtual_time
async def test_the_end_of_the_proxy_is_the_end_of_all_leases() -> None:
    async with Office() as it:
        await it.take(8000, "0")
        waiting = asyncio.create_task(it.take(8000, "0"))
        await it.until_waiting()
        await it.leases.aclose()

        with pytest.raises(Draining):
            await waiting
        with pytest.raises(Draining):
            await it.take()


async def test_the_processes_of_a_lease_are_those_told_and_their_descendants() -> None:
    command = (sys.executable, "-c", "import subprocess, sys; subprocess.run(['sleep', '60'])")
    child = await asyncio.create_subprocess_exec(*command)
    room = Room((child.pid, 2**22 + 1))
    instance = Instance("lease:x", "lease:x", "", 0)
    try:
        async with asyncio.timeout(20):
            while len(pids := await room.pids(instance) or ()) < 3:
                await asyncio.sleep(0.01)
        assert {child.pid, 2**22 + 1} < set(pids)
    finally:
        for process in psutil.Process(child.pid).children(recursive=True):
            process.kill()
        await child.wait()
    assert await Room().pids(instance) is None
