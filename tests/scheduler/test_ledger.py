"""The ledger never promises what is not there."""

from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given

from ai_proxy.devices import Device, Placement, Vendor
from ai_proxy.scheduler.ledger import Demand, Ledger
from tests.scheduler.fleets import HOST_MB, Crowd, crowds, demands, gpus


def combine(devices: Sequence[Device]) -> bool:
    """Whether one engine can run on all of them."""
    return len(devices) < 2 or (
        len({device.vendor for device in devices}) == 1 and not any(device.uuid.startswith("MIG") for device in devices)
    )


def can_fit(ledger: Ledger, demand: Demand) -> bool:
    """The same question, answered by trying every set of devices."""
    if demand.memory_mb and demand.memory_mb > ledger.free_memory_mb:
        return False
    if any(amount > ledger.free_custom(name) for name, amount in demand.custom):
        return False
    allowed = [d for d in ledger.devices if not demand.pins or {d.id, d.uuid} & set(demand.pins)]
    return any(
        combine(some)
        and all(
            not ledger.holders_on(device.uuid) if demand.vram_mb is None else ledger.free_mb(device) >= demand.vram_mb
            for device in some
        )
        for some in combinations(allowed, demand.gpus)
    )


@pytest.mark.slow
@given(crowds())
def test_reservations_that_were_fitted_never_exceed_a_device_or_the_host(crowd: Crowd) -> None:
    for device in crowd.ledger.devices:
        reserved_mb = sum(crowd.ledger.holders_on(device.uuid).values())
        assert reserved_mb <= device.vram_mb
        unreserved_mb = device.vram_mb - crowd.ledger.headroom_mb - crowd.ledger.foreign_mb(device)
        assert crowd.ledger.free_mb(device) == unreserved_mb - reserved_mb
    assert crowd.ledger.free_memory_mb >= 0


@pytest.mark.slow
@given(crowds(), demands())
def test_a_demand_fits_exactly_if_some_set_of_devices_has_the_room(crowd: Crowd, demand: Demand) -> None:
    assert (crowd.ledger.fit(demand) is not None) == can_fit(crowd.ledger, demand)


@pytest.mark.slow
@given(crowds(), demands())
def test_a_placement_is_on_the_tightest_devices_or_if_it_takes_them_as_a_whole_on_the_roomiest(
    crowd: Crowd, demand: Demand
) -> None:
    ledger = crowd.ledger
    if (placement := ledger.fit(demand)) is None or not demand.gpus:
        return
    assert len(placement.devices) == demand.gpus
    if demand.pins:
        assert all({device.id, device.uuid} & set(demand.pins) for device in placement.devices)
        return
    alike = [device for device in ledger.devices if demand.gpus == 1 or combine([*placement.devices, device])]
    if demand.vram_mb is None:
        fitting = [device for device in alike if not ledger.holders_on(device.uuid)]
        tightest = min(ledger.free_mb(device) for device in placement.devices)
        assert all(ledger.free_mb(device) <= tightest for device in fitting if device not in placement.devices)
        return
    fitting = [device for device in alike if ledger.free_mb(device) >= demand.vram_mb]
    loosest = max(ledger.free_mb(device) for device in placement.devices)
    assert all(ledger.free_mb(device) >= loosest for device in fitting if device not in placement.devices)


@pytest.mark.slow
@given(crowds())
def test_without_leaves_the_ledger_itself_as_it_was(crowd: Crowd) -> None:
    before = crowd.ledger.held
    assert crowd.ledger.without(before).held == {}
    assert crowd.ledger.held == before


def test_devices_of_a_placement_come_in_the_inventorys_order() -> None:
    ledger = Ledger(gpus(24_000, 12_000, 8_000), 0)
    placement = ledger.fit(Demand(gpus=2, vram_mb=7_000))
    assert placement is not None
    assert [device.id for device in placement.devices] == ["1", "2"]


def test_a_service_without_a_figure_gets_a_gpu_to_itself() -> None:
    ledger = Ledger(gpus(24_000), 0)
    placement = ledger.fit(Demand(gpus=1))
    assert placement is not None
    ledger.reserve("whole", placement)
    assert ledger.free_mb(ledger.devices[0]) == 0
    assert ledger.fit(Demand(gpus=1, vram_mb=1)) is None


def test_gpus_of_unlike_size_are_each_reserved_as_a_whole() -> None:
    ledger = Ledger(gpus(8_000, 24_000), 0)
    placement = ledger.fit(Demand(gpus=2))
    assert placement is not None
    ledger.reserve("whole", placement)
    assert [ledger.free_mb(device) for device in ledger.devices] == [0, 0]
    assert placement.vram_fraction == 1.0


def test_a_placement_that_was_adopted_counts_whatever_its_labels_say_of_the_device() -> None:
    (gpu,) = gpus(24_000)
    ledger = Ledger([gpu], HOST_MB)
    ledger.reserve("old", Placement((Device("7", gpu.uuid, 24_000, "renamed"),), vram_mb=20_000))
    assert ledger.free_mb(gpu) == 4_000


def test_what_was_adopted_may_exceed_the_device_and_then_nothing_fits() -> None:
    (gpu,) = gpus(8_000)
    ledger = Ledger([gpu], HOST_MB)
    for holder in ("a", "b"):
        ledger.reserve(holder, Placement((gpu,), vram_mb=6_000))
    assert ledger.free_mb(gpu) == -4_000
    assert ledger.fit(Demand(gpus=1, vram_mb=0)) is None


@pytest.mark.parametrize(
    ("demand", "words"),
    [
        (Demand(), "nothing"),
        (Demand(gpus=1), "a GPU to itself"),
        (Demand(gpus=2), "2 GPUs to themselves"),
        (Demand(gpus=1, vram_mb=9_000), "1 GPU with 9,000 MB"),
        (Demand(memory_mb=4_000), "4,000 MB of host memory"),
    ],
)
def test_a_demand_reads_like_a_sentence(demand: Demand, words: str) -> None:
    assert str(demand) == words


@pytest.mark.parametrize(
    ("kinds", "demand", "ids"),
    [
        (["GPU", "AMD", "AMD"], Demand(2, (), 1_000), ["1", "2"]),
        (["GPU", "MIG", "GPU"], Demand(2, (), 1_000), ["0", "2"]),
        (["GPU", "AMD", "MIG"], Demand(2, (), 1_000), None),
        (["GPU", "AMD"], Demand(2, ("0", "1"), 1_000), None),
        (["MIG", "MIG"], Demand(2, ("0", "1"), 1_000), None),
        (["MIG", "MIG"], Demand(2), None),
        (["AMD", "MIG", "AMD"], Demand(1, ("1",), 1_000), ["1"]),
    ],
    ids=["of one make", "no part", "neither", "pinned mix", "pinned parts", "whole parts", "one part"],
)
def test_several_gpus_are_of_one_make_and_no_mig_instances(
    kinds: list[str], demand: Demand, ids: list[str] | None
) -> None:
    vendors = {"AMD": Vendor.AMD}
    devices = [
        Device(str(index), f"{kind}-{index}", 8_000, vendor=vendors.get(kind, Vendor.NVIDIA))
        for index, kind in enumerate(kinds)
    ]
    placement = Ledger(devices, 0).fit(demand)
    assert (None if placement is None else [device.id for device in placement.devices]) == ids
