"""What is seen on the devices counts: others' use, and what holders use beyond their reservation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.devices import Device, Placement
from ai_proxy.scheduler.ledger import Demand, Ledger
from tests.scheduler.fleets import HOST_MB, TOKENS, gpus

GPU, OTHER = gpus(24_000, 24_000)


def test_others_use_and_headroom_shrink_the_room() -> None:
    ledger = Ledger([GPU], 0, headroom_mb=500)
    ledger.measure(GPU.uuid, 3_000)
    assert (ledger.free_mb(GPU), ledger.foreign_mb(GPU)) == (20_500, 3_000)
    assert ledger.fit(Demand(1, (), 20_501)) is None
    ledger.measure(GPU.uuid, 0)
    assert ledger.free_mb(GPU) == 23_500


def test_a_holder_is_charged_what_it_uses_if_that_is_more_than_it_reserved() -> None:
    ledger = Ledger([GPU], 0)
    ledger.reserve("chat", Placement((GPU,), 8_000))
    ledger.charge("chat", GPU.uuid, 9_500)
    assert ledger.free_mb(GPU) == 14_500
    ledger.charge("chat", GPU.uuid, 3_000)
    assert ledger.free_mb(GPU) == 16_000


def test_a_holder_is_charged_for_a_device_that_it_was_not_placed_on() -> None:
    ledger = Ledger([GPU, OTHER], 0)
    ledger.reserve("chat", Placement((GPU,), 8_000))
    ledger.charge("chat", OTHER.uuid, 400)
    assert ledger.free_mb(OTHER) == 23_600
    assert ledger.fit(Demand(1, (OTHER.id,))) is None
    ledger.charge("chat", OTHER.uuid, 0)
    assert ledger.fit(Demand(1, (OTHER.id,))) is not None
    ledger.charge("chat", OTHER.uuid, 400)
    ledger.release("chat")
    assert (ledger.free_mb(GPU), ledger.free_mb(OTHER)) == (24_000, 24_000)


def test_whoever_holds_nothing_is_not_charged() -> None:
    ledger = Ledger([GPU], 0)
    ledger.charge("gone", GPU.uuid, 5_000)
    ledger.charge("gone", "GPU-unknown", 5_000)
    assert ledger.free_mb(GPU) == 24_000


def test_a_new_reservation_forgets_what_was_measured_under_the_old_one() -> None:
    ledger = Ledger([GPU], 32_000)
    ledger.reserve("chat", Placement((GPU,), 8_000))
    ledger.charge("chat", GPU.uuid, 9_500)
    ledger.reserve("chat", Placement((GPU,), 500, memory_mb=8_000))
    assert (ledger.free_mb(GPU), ledger.free_memory_mb) == (23_500, 24_000)


def test_who_has_a_gpu_to_itself_keeps_all_others_off_it_whatever_was_measured() -> None:
    ledger = Ledger([GPU], 0, headroom_mb=500)
    ledger.measure(GPU.uuid, 6_000)
    placement = ledger.fit(Demand(1))
    assert placement is not None
    ledger.reserve("whole", placement)
    ledger.measure(GPU.uuid, 0)
    ledger.charge("whole", GPU.uuid, 4_000)
    for demand in (Demand(1), Demand(1, (), 0), Demand(1, (), 1_000)):
        assert ledger.fit(demand) is None


def test_a_mig_device_is_a_device_like_others() -> None:
    slices = (Device("0:0", "MIG-a", 10_000), Device("0:1", "MIG-b", 5_000))
    ledger = Ledger(slices, 0)
    assert ledger.fit(Demand(1, (), 4_000)) == Placement((slices[1],), 4_000)
    assert ledger.fit(Demand(1, ("MIG-a",), 4_000)) == Placement((slices[0],), 4_000)


def test_named_resources_are_counted_and_an_unknown_one_has_nothing() -> None:
    ledger = Ledger([], 0, capacities=TOKENS)
    two = Demand(custom=(("tokens", 2),))
    placement = ledger.fit(two)
    assert placement == Placement(custom=(("tokens", 2),))
    assert placement is not None
    ledger.reserve("a", placement)
    assert (ledger.free_custom("tokens"), ledger.fit(two)) == (1, None)
    assert ledger.fit(Demand(custom=(("slots", 1),))) is None
    ledger.release("a")
    assert ledger.fit(two) is not None


def test_memory_that_is_overdrawn_keeps_only_those_out_that_want_some() -> None:
    ledger = Ledger([GPU], 1_000)
    ledger.reserve("adopted", Placement(memory_mb=2_000))
    assert ledger.fit(Demand(1, (), 1_000)) is not None
    assert ledger.fit(Demand(1, (), 1_000, memory_mb=1)) is None


def test_what_if_nobody_but_some_were_there() -> None:
    ledger = Ledger([GPU], 8_000, headroom_mb=500, capacities=TOKENS)
    ledger.reserve("kept", Placement((GPU,), 4_000, 1_000, (("tokens", 1),)))
    ledger.reserve("gone", Placement((GPU,), 9_000, 2_000))
    ledger.measure(GPU.uuid, 7_000)
    ledger.charge("kept", GPU.uuid, 6_000)
    alone = ledger.with_only(["kept"])
    assert (alone.free_mb(GPU), alone.free_memory_mb, alone.free_custom("tokens")) == (19_500, 7_000, 2)
    assert ledger.free_mb(GPU) == 24_000 - 500 - 7_000 - 6_000 - 9_000


STEPS = st.one_of(
    st.tuples(st.just("reserve"), st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 30_000)),
    st.tuples(st.just("release"), st.sampled_from("abc"), st.just(0), st.just(0)),
    st.tuples(st.just("charge"), st.sampled_from("abc"), st.integers(0, 1), st.integers(0, 30_000)),
    st.tuples(st.just("measure"), st.just(""), st.integers(0, 1), st.integers(0, 9_000)),
)


@pytest.mark.slow
@given(st.lists(STEPS, max_size=12), st.lists(STEPS, max_size=4))
def test_figures_kept_as_they_change_are_those_reckoned_anew(
    steps: list[tuple[str, str, int, int]], later: list[tuple[str, str, int, int]]
) -> None:
    devices = (GPU, OTHER)
    ledger = Ledger(devices, HOST_MB, headroom_mb=512)
    foreign_mb: dict[str, int] = {}
    measured_mb: dict[tuple[str, str], int] = {}
    held: dict[str, Placement] = {}
    for verb, holder, number, mb in steps:
        if verb == "measure":
            ledger.measure(devices[number].uuid, mb)
            foreign_mb[devices[number].uuid] = mb
        elif verb == "charge":
            ledger.charge(holder, devices[number].uuid, mb)
            if holder in held:
                measured_mb[holder, devices[number].uuid] = mb
        else:
            measured_mb = {key: value for key, value in measured_mb.items() if key[0] != holder}
            held.pop(holder, None)
            ledger.release(holder)
            if verb == "reserve":
                chosen = tuple(device for bit, device in enumerate(devices) if number >> bit & 1)
                held[holder] = Placement(chosen, mb, mb // 10)
                ledger.reserve(holder, held[holder])

    def check(ledger: Ledger) -> None:
        assert ledger.held == held
        assert ledger.free_memory_mb == HOST_MB - sum(placement.memory_mb for placement in held.values())
        for device in devices:
            charged_mb = sum(
                max(
                    min(placement.vram_mb, device.vram_mb) if device in placement.devices else 0,
                    measured_mb.get((holder, device.uuid), 0),
                )
                for holder, placement in held.items()
            )
            assert ledger.free_mb(device) == device.vram_mb - 512 - foreign_mb.get(device.uuid, 0) - charged_mb

    check(ledger)
    other = ledger.without(())
    for verb, holder, number, mb in later:
        match verb:
            case "measure":
                other.measure(devices[number].uuid, mb)
            case "charge":
                other.charge(holder, devices[number].uuid, mb)
            case "reserve":
                other.reserve(holder, Placement((devices[number & 1],), mb))
            case _:
                other.release(holder)
    check(ledger)
