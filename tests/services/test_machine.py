"""The table of a replica's life, walked from every state with every event."""

from itertools import product

import pytest

from ai_proxy.services.machine import (
    HOLDING,
    SETTLED,
    TRANSITIONS,
    Action,
    Event,
    IllegalTransition,
    State,
    diagram,
    page,
    step,
)

PAIRS = list(product(State, Event))
LEGAL = [(state, event) for state, event in PAIRS if event in TRANSITIONS[state]]
ILLEGAL = [pair for pair in PAIRS if pair not in LEGAL]


def reachable_from(start: State) -> set[State]:
    seen, ahead = {start}, [start]
    while ahead:
        for target, _ in TRANSITIONS[ahead.pop()].values():
            if target not in seen:
                seen.add(target)
                ahead.append(target)
    return seen


@pytest.mark.parametrize(("state", "event"), LEGAL)
def test_a_known_event_leads_where_the_table_says(state: State, event: Event) -> None:
    assert step(state, event) == TRANSITIONS[state][event]


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_an_unknown_event_is_refused_by_name(state: State, event: Event) -> None:
    with pytest.raises(IllegalTransition, match=f"a {state} replica can't take the event {event}") as caught:
        step(state, event)
    assert (caught.value.state, caught.value.event) == (state, event)


def test_every_state_has_a_row_and_a_way_out() -> None:
    assert set(TRANSITIONS) == set(State)
    assert all(TRANSITIONS.values())


@pytest.mark.parametrize("start", State)
def test_every_state_leads_to_every_other(start: State) -> None:
    assert reachable_from(start) == set(State)


def test_every_event_is_used() -> None:
    assert {event for _, event in LEGAL} == set(Event)


@pytest.mark.parametrize(("state", "event"), LEGAL)
def test_what_holds_room_is_stopped_before_it_lets_go(state: State, event: Event) -> None:
    target, _ = step(state, event)
    if state in HOLDING and target not in HOLDING:
        assert (state, target in SETTLED) == (State.STOPPING, True)


@pytest.mark.parametrize(("state", "event"), LEGAL)
def test_each_working_state_is_entered_with_its_work(state: State, event: Event) -> None:
    work = {
        State.STARTING: Action.LAUNCH,
        State.LOADING: Action.WAKE if state is State.SLEEPING else Action.PROBE,
        State.READY: Action.WATCH,
        State.SLEEPING: Action.SLEEP,
        State.STOPPING: Action.STOP,
    }
    target, action = step(state, event)
    goes_on = (state, event) in {(State.DRAINING, Event.RESUME), (State.SLEEPING, Event.SLEPT)}
    assert action == (None if goes_on else work.get(target))


@pytest.mark.parametrize("state", sorted(HOLDING - {State.STOPPING}))
def test_whatever_holds_room_can_be_ended_and_can_break_once_it_is_under_way(state: State) -> None:
    assert step(state, Event.UNWANTED) == step(state, Event.BROKE) == (State.STOPPING, Action.STOP)


def test_a_sleeper_wakes_into_room_that_was_reserved_for_it_and_serves_only_once_it_is_healthy() -> None:
    asleep, _ = step(State.READY, Event.SLEEP)
    asleep, _ = step(asleep, Event.SLEPT)
    waking, action = step(asleep, Event.PLACED)
    assert (waking, action) == (State.LOADING, Action.WAKE)
    assert step(waking, Event.HEALTHY) == (State.READY, Action.WATCH)


def test_the_diagram_draws_each_transition_once() -> None:
    drawn = [line.strip() for line in diagram().splitlines() if "-->" in line]
    assert len(drawn) == len(set(drawn)) == len(LEGAL) + 1  # and the beginning


@pytest.mark.parametrize("word", [*State, *Event, *Action])
def test_the_page_explains_every_word(word: State | Event | Action) -> None:
    assert f"- **{word}**: {word.about}\n" in page()
    assert word.about.endswith(".")
