"""What is learned of a service becomes its demand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.devices import Device
from ai_proxy.scheduler.figures import RECENT, Figures, learned_vram_mb, merged, with_learned
from ai_proxy.scheduler.ledger import Demand

CARDS = (Device("0", "GPU-a", 24_000), Device("1", "GPU-b", 12_000))


@given(peak_mb=st.integers(0, 200_000))
def test_a_reservation_is_always_larger_than_the_peak_by_a_margin(peak_mb: int) -> None:
    reserved_mb = learned_vram_mb(Figures(peak_vram_mb=peak_mb))

    assert reserved_mb is not None
    assert reserved_mb >= peak_mb + 256
    assert reserved_mb >= 1.05 * peak_mb - 1


@pytest.mark.parametrize(
    ("demand", "peak_mb", "vram_mb"),
    [
        (Demand(gpus=1), 10_000, 10_500),
        (Demand(gpus=2), 10_000, 10_500),
        (Demand(gpus=2), 12_000, None),
        (Demand(gpus=1, pins=("1",)), 12_000, None),
        (Demand(gpus=1, pins=("GPU-a",)), 12_000, 12_600),
        (Demand(gpus=1), 30_000, None),
        (Demand(gpus=1, vram_mb=20_000), 10_000, 20_000),
        (Demand(), 10_000, None),
    ],
    ids=["fits", "fits on both", "only on one", "not on the pinned", "on the pinned", "nowhere", "declared", "no GPU"],
)
def test_only_what_was_left_to_be_learned_and_fits_beside_others_is_replaced(
    demand: Demand, peak_mb: int, vram_mb: int | None
) -> None:
    assert with_learned(demand, Figures(peak_vram_mb=peak_mb), CARDS).vram_mb == vram_mb


def test_the_headroom_is_not_for_services() -> None:
    figures = Figures(peak_vram_mb=22_800)

    assert with_learned(Demand(gpus=1), figures, CARDS, headroom_mb=0).vram_mb == 23_940
    assert with_learned(Demand(gpus=1), figures, CARDS, headroom_mb=512).vram_mb is None


def test_nothing_is_known_before_the_first_life() -> None:
    assert with_learned(Demand(gpus=1), None, CARDS) == Demand(gpus=1)
    assert with_learned(Demand(gpus=1), Figures(loads_s=(3.0,)), CARDS) == Demand(gpus=1)
    assert (Figures().load_s, Figures().stop_s, Figures().wake_s(1)) == (None, None, None)


@given(loads_s=st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_a_usual_time_is_one_of_the_recent_ones_or_between_two_of_them(loads_s: list[float]) -> None:
    figures = Figures()
    for seconds in loads_s:
        figures = figures.with_load(seconds)

    assert figures.loads_s == tuple(loads_s[-RECENT:])
    assert figures.load_s is not None
    assert min(figures.loads_s) <= figures.load_s <= max(figures.loads_s)


def test_a_slow_first_load_is_outvoted_and_a_lasting_change_followed() -> None:
    figures = Figures().with_load(300.0).with_load(10.0).with_load(11.0)
    assert figures.load_s == 11.0

    for _ in range(RECENT // 2 + 1):
        figures = figures.with_load(40.0)
    assert figures.load_s == 40.0


def test_each_level_of_sleep_has_its_own_time_to_wake() -> None:
    figures = Figures().with_wake(1, 0.5).with_wake(2, 4.0).with_wake(1, 0.7)

    assert (figures.wake_s(1), figures.wake_s(2)) == (0.6, 4.0)


def test_over_all_models_of_gpu_the_largest_peak_counts() -> None:
    both = merged(
        [Figures(900, stops_s=(1.0,), wakes_s={1: (0.5,)}), Figures(950, stops_s=(2.0,), wakes_s={2: (3.0,)})]
    )

    assert both == Figures(950, stops_s=(1.0, 2.0), wakes_s={1: (0.5,), 2: (3.0,)})
