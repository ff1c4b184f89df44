"""A floor that is too low costs time only: the planner decides the same."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.scheduler.planner import Ask, Evict, plan
from tests.scheduler.fleets import Crowd, Occupants, asks, crowds


@pytest.mark.slow
@given(crowds(), asks(), st.lists(st.sampled_from((0.0, 0.5, 1.0)), min_size=7, max_size=7))
def test_a_low_floor_changes_nothing_but_the_work(crowd: Crowd, ask: Ask, shares: list[float]) -> None:
    pairs = zip(crowd.residents.items(), shares, strict=False)
    low = Occupants({holder: replace(resident, floor=resident.floor * share) for (holder, resident), share in pairs})
    exact, verdict = plan(ask, crowd.ledger, crowd.residents), plan(ask, crowd.ledger, low)
    assert type(verdict) is type(exact)
    if isinstance(verdict, Evict) and isinstance(exact, Evict):
        assert verdict.regret == pytest.approx(exact.regret)
