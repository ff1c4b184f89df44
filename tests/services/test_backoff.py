"""How long a failed service rests."""

from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.services.backoff import FIRST_S, LONGEST_S, delay_s

failures = st.integers(min_value=1, max_value=10_000)
jitters = st.floats(min_value=0, max_value=1)


@given(failures, jitters)
def test_l05_a_delay_is_at_least_half_its_step_and_never_over_five_minutes(count: int, jitter: float) -> None:
    assert FIRST_S / 2 <= delay_s(count, jitter) <= LONGEST_S


@given(failures, jitters)
def test_one_failure_more_never_shortens_the_delay(count: int, jitter: float) -> None:
    assert delay_s(count + 1, jitter) >= delay_s(count, jitter)


@given(failures, jitters)
def test_jitter_spreads_over_the_upper_half(count: int, jitter: float) -> None:
    assert delay_s(count, 0) == delay_s(count, 1) / 2 <= delay_s(count, jitter) <= delay_s(count, 1)
