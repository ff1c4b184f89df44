"""Devices, memory and other resources over the API: reserved, measured, free, and whose."""

import asyncio
from dataclasses import replace
from typing import Any

import psutil

from ai_proxy.devices import Device, Placement
from ai_proxy.scheduler.ledger import Ledger
from tests.api.house import House, house_of
from tests.fakes.gpus import GPU, OTHER, reading

GUARD_S = 20
ON_GPU = "services: {a: {image: x, resources: {vram_required_mb: 9000, gpus: 1}}}"


async def resources(house: House) -> dict[str, Any]:
    shown: dict[str, Any] = (await house.get("/resources")).json()
    return shown


async def device(house: House, **fields: object) -> dict[str, Any]:
    """The first device, once it shows these."""
    async with asyncio.timeout(GUARD_S):
        while True:
            shown: dict[str, Any] = (await resources(house))["devices"][0]
            if all(shown[name] == value for name, value in fields.items()):
                return shown
            await asyncio.sleep(0.005)


async def test_a_device_tells_what_is_reserved_measured_and_others() -> None:
    async with house_of(ON_GPU, gpus=(GPU,)) as house:
        house.fleet.docker.own("a", 41, 42)
        read = replace(
            reading(GPU, 12_000, {41: 8000, 42: 731, 77: 2000}), utilisation_percent=35, temperature_c=61, power_w=220.5
        )
        house.fleet.found.show(read)
        house.fleet.monitor.start()
        await house.post("/service/a/start", wait=True)

        shown = await device(house, used_mb=12_000, holders={"a": {"reserved_mb": 9000, "measured_mb": 8731}})

        assert shown == {
            "id": "0",
            "uuid": "GPU-a",
            "name": "RTX 4090",
            "vendor": "nvidia",
            "state": "ok",
            "vram_mb": 24_000,
            "reserved_mb": 9000,
            "used_mb": 12_000,
            "foreign_mb": 3269,
            "headroom_mb": shown["headroom_mb"],
            "free_mb": shown["free_mb"],
            "holders": {"a": {"reserved_mb": 9000, "measured_mb": 8731}},
            "foreign": [{"pid": 77, "process": "p77", "used_mb": 2000}],
            "utilisation_percent": 35,
            "temperature_c": 61,
            "power_w": 220.5,
        }
        house.fleet.found.show(reading(GPU))  # what has ended holds nothing


async def test_a_device_without_readings_shows_what_is_reserved() -> None:
    async with house_of(ON_GPU, gpus=(GPU,)) as house:
        await house.post("/service/a/start", wait=True)

        (shown,) = (await resources(house))["devices"]

        assert (shown["state"], shown["reserved_mb"]) == ("unknown", 9000)
        assert shown["holders"] == {"a": {"reserved_mb": 9000, "measured_mb": None}}
        unknown = "used_mb", "foreign_mb", "utilisation_percent", "temperature_c", "power_w"
        assert [shown[name] for name in unknown] == [None] * 5


async def test_a_lost_device_is_shown_as_lost() -> None:
    async with house_of(ON_GPU, gpus=(GPU, OTHER)) as house:
        house.fleet.found.show(reading(GPU), reading(OTHER))
        house.fleet.monitor.start()
        await device(house, state="ok")

        house.fleet.found.show(reading(OTHER))

        shown = await device(house, state="lost")
        assert shown["used_mb"] is None


async def test_a_declared_device_has_the_name_that_was_found() -> None:
    async with house_of(ON_GPU, gpus=(Device("0", "GPU-a", 20_000),)) as house:
        house.fleet.found.show(reading(GPU))
        house.fleet.monitor.start()

        shown = await device(house, name="RTX 4090")

        assert shown["vram_mb"] == 20_000


async def test_memory_tells_who_reserved_it_and_what_is_used() -> None:
    async with house_of("services: {a: {image: x, resources: {min_memory_mb: 2048}}}") as house:
        await house.post("/service/a/start", wait=True)

        shown = await resources(house)

        assert shown["devices"] == []
        memory = shown["memory"]
        assert (memory["memory_mb"], memory["reserved_mb"], memory["holders"]) == (64_000, 2048, {"a": 2048})
        assert memory["total_mb"] == psutil.virtual_memory().total // 1024**2
        assert 0 < memory["used_mb"] < memory["total_mb"]


async def test_what_else_the_config_names_tells_who_reserved_it() -> None:
    async with house_of() as house:
        ledger = Ledger((), 64_000, capacities={"tokens": 4, "seats": 1})
        ledger.reserve("a", Placement(custom=(("tokens", 3),)))
        house.fleet.scheduler.state.ledger = ledger

        assert (await resources(house))["custom"] == {
            "tokens": {"capacity": 4, "reserved": 3, "holders": {"a": 3}},
            "seats": {"capacity": 1, "reserved": 0, "holders": {}},
        }
