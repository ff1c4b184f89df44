"""Leases over the API: taken, renewed, given back."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ai_proxy.devices import Device
from tests.api.house import House, house_of

GPU = Device("0", "GPU-a", 10_000, "RTX 4090")


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """A GPU of 10,000 MB, and nothing that runs on it."""
    async with house_of(gpus=(GPU,)) as house:
        yield house


async def test_a_lease_is_taken_shown_renewed_and_given_back(house: House) -> None:
    taken = await house.send("POST", "/leases", {"vram_mb": 8000, "name": "training", "pids": [4711]})
    lease = taken.json()
    path = f"/leases/{lease['id']}"

    assert taken.status_code == 201
    assert lease["id"].startswith("training-")
    assert (lease["devices"], lease["vram_mb"], lease["pids"]) == (["0"], 8000, [4711])
    assert lease["environment"]["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    assert (await house.get(path)).json() == lease
    assert (await house.get("/leases")).json() == [lease]
    device = (await house.get("/resources")).json()["devices"][0]
    assert device["holders"] == {lease["holder"]: {"reserved_mb": 8000, "measured_mb": None}}

    renewed = (await house.send("PUT", path, {"ttl_s": 3600, "pids": [4712]})).json()
    assert renewed["expires_at"] >= lease["expires_at"] + 3000
    assert (renewed["ttl_s"], renewed["pids"]) == (3600, [4712])

    assert (await house.send("DELETE", path)).status_code == 204
    assert (await house.get("/leases")).json() == []


async def test_a_heartbeat_may_say_nothing(house: House) -> None:
    lease = (await house.send("POST", "/leases", {"vram_mb": None})).json()

    renewed = (await house.send("PUT", f"/leases/{lease['id']}")).json()

    assert (renewed["vram_mb"], renewed["ttl_s"]) == (10_000, lease["ttl_s"])


@pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE"])
async def test_a_lease_that_has_ended_is_404(house: House, verb: str) -> None:
    answer = await house.send(verb, "/leases/training-9c1f03ab")

    assert answer.status_code == 404
    assert answer.json()["code"] == "lease_not_found"


@pytest.mark.parametrize(
    ("wish", "status", "code", "detail"),
    [
        ({"vram_mb": 8000, "device": "7"}, 404, "device_not_found", "no GPU '7'; it has 0"),
        ({"vram_mb": 10_001}, 409, "no_room", "0 with 10,000 MB"),
        ({"vram_mb": 1, "gpus": 2}, 409, "no_room", "2 GPUs"),
        ({}, 422, "invalid_parameter", "vram_mb: Field required"),
        ({"vram_mb": 1, "ttl": 5}, 422, "invalid_parameter", "ttl: Extra inputs are not permitted"),
        ({"vram_mb": 1, "device": ["0"], "gpus": 2}, 422, "invalid_parameter", "a list of devices says how many"),
        ({"vram_mb": 1, "name": "no name"}, 422, "invalid_parameter", "name: "),
    ],
    ids=["no such GPU", "too large", "too many", "no size", "unknown key", "counted twice", "name"],
)
async def test_what_can_not_be_given_is_refused_with_what_is_wrong(
    house: House, wish: dict[str, object], status: int, code: str, detail: str
) -> None:
    answer = await house.send("POST", "/leases", wish)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert detail in answer.json()["detail"]


async def test_room_that_somebody_holds_is_503_and_names_who(house: House) -> None:
    first = (await house.send("POST", "/leases", {"vram_mb": 8000})).json()

    answer = await house.send("POST", "/leases", {"vram_mb": 8000, "wait_s": 0.1})

    assert (answer.status_code, answer.json()["code"]) == (503, "wait_timeout")
    assert first["holder"] in answer.json()["detail"]


async def test_a_wait_for_room_ends_when_the_proxy_does(house: House) -> None:
    await house.send("POST", "/leases", {"vram_mb": 8000})
    waiting = asyncio.create_task(house.send("POST", "/leases", {"vram_mb": 8000}))
    async with asyncio.timeout(20):
        while repr(house.fleet.plane.leases) != "<Leases 1 held, 1 waiting>":
            await asyncio.sleep(0)

    house.closing.set()

    assert (await waiting).json()["code"] == "draining"


async def test_a_lease_is_neither_a_service_nor_a_model(house: House) -> None:
    lease = (await house.send("POST", "/leases", {"vram_mb": 8000})).json()

    assert [it["id"] for it in (await house.get("/services")).json()] == ["a", "b"]
    assert (await house.get(f"/service/{lease['holder']}")).status_code == 404
