"""What of a device is others' use."""

from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.scheduler.measured import Measured

UUID = "GPU-a"
sizes = st.integers(0, 100_000)
by_key = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), sizes)


def test_where_all_is_measured_it_is_what_replicas_do_not_hold() -> None:
    measured = Measured({UUID: 12_000}, {"a": {UUID: 5000}, "b": {UUID: 1000, "GPU-b": 9000}})
    assert measured.foreign_mb(UUID, {"a": 9000, "b": 9000}) == 6000


def test_a_replica_that_is_not_measured_is_taken_to_use_what_it_is_charged_or_was_seen_to_hold() -> None:
    measured = Measured({UUID: 12_000}, {"a": {UUID: 5000}}, unknown=frozenset({"a", "b", "elsewhere"}))
    assert measured.foreign_mb(UUID, {"a": 1000, "b": 2000}) == 5000


def test_what_has_ended_and_still_holds_memory_is_no_stranger() -> None:
    assert Measured({UUID: 12_000}, {"gone": {UUID: 5000}}).foreign_mb(UUID, {}) == 7000


def test_of_a_device_that_is_not_read_nothing_is_known() -> None:
    assert Measured({"GPU-b": 1}).foreign_mb(UUID, {"a": 1000}) is None


@given(sizes, by_key, by_key, st.frozensets(st.sampled_from(["a", "b", "c", "d"])))
def test_it_is_never_less_than_nothing_nor_more_than_is_used(
    used_mb: int, held_mb: dict[str, int], charges: dict[str, int], unknown: frozenset[str]
) -> None:
    measured = Measured({UUID: used_mb}, {key: {UUID: mb} for key, mb in held_mb.items()}, unknown)
    foreign_mb = measured.foreign_mb(UUID, charges)
    assert foreign_mb is not None
    assert 0 <= foreign_mb <= used_mb
