"""Why a request waited can be told afterwards."""

import pytest

from ai_proxy.control.history import STEPS, History, Kind
from ai_proxy.events import Decided, Event, Progress, RequestAnswered, RequestWaited, ServiceChanged


class Told:
    """A history, and events that are told to it: each a second after the one before."""

    def __init__(self, history: History | None = None) -> None:
        self.history = history or History()
        self.at = 1000.0

    def tell(self, *events: Event) -> None:
        for event in events:
            self.history.hear(event)

    def comes(self, request: str, service: str = "chat") -> None:
        self.at += 1
        self.tell(RequestWaited(self.at, request, service, self.at))

    def goes(self, request: str, outcome: str = "admitted", service: str = "chat") -> None:
        self.at += 1
        self.tell(RequestAnswered(self.at, request, service, outcome, 3.5))

    def moves(self, service: str, previous: str, state: str, for_service: str | None = None) -> None:
        self.at += 1
        eviction = None if for_service is None else "room"
        self.tell(ServiceChanged(self.at, service, state, previous, "why", eviction, for_service))

    def decided(self, service: str, verdict: str, reason: str) -> None:
        self.at += 1
        self.tell(Decided(self.at, service, verdict, reason))

    def steps(self, request: str) -> list[tuple[str, str, str]]:
        return [(step.kind, step.service, step.text) for wait in self.history.waits(request) for step in wait.steps]


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_wait_is_told_from_its_arrival_to_its_answer(told: Told) -> None:
    told.comes("r-1")
    told.moves("chat", "stopped", "queued")
    told.decided("chat", "evict", "it needs the room of old")
    told.moves("old", "ready", "stopping", for_service="chat")
    told.moves("chat", "queued", "starting")
    told.goes("r-1")
    told.moves("chat", "ready", "stopping")

    (wait,) = told.history.waits("r-1")
    assert (wait.service, wait.since, wait.outcome, wait.waited_s) == ("chat", 1001.0, "admitted", 3.5)
    assert told.steps("r-1") == [
        (Kind.STATE, "chat", "stopped → queued: why"),
        (Kind.DECISION, "chat", "evict: it needs the room of old"),
        (Kind.EVICTION, "old", "ready → stopping: why"),
        (Kind.STATE, "chat", "queued → starting: why"),
    ]


def test_a_request_that_still_waits_is_told_so_far(told: Told) -> None:
    told.comes("r-1")
    told.decided("chat", "wait", "busy")
    assert len(told.steps("r-1")) == 1
    told.decided("chat", "start", "it fits")

    (wait,) = told.history.waits("r-1")
    assert (wait.outcome, wait.waited_s, len(wait.steps)) == (None, None, 2)


def test_what_happened_to_other_services_or_before_is_not_its_story(told: Told) -> None:
    told.comes("early")
    told.decided("chat", "wait", "busy")
    told.comes("late")
    told.decided("other", "wait", "busy")
    told.decided("chat", "start", "it fits")

    assert told.steps("late") == [(Kind.DECISION, "chat", "start: it fits")]


def test_it_is_known_where_its_service_was_when_it_came(told: Told) -> None:
    told.moves("chat", "starting", "loading")
    told.comes("r-1")
    told.moves("chat", "stopping", "stopped")
    told.comes("r-2")

    before = [wait.before for request in ("r-1", "r-2") for wait in told.history.waits(request)]
    assert [step and step.text for step in before] == ["starting → loading: why", None]


def test_what_happens_to_any_replica_of_its_service_is_its_story(told: Told) -> None:
    told.comes("r-1")
    told.moves("chat#1", "queued", "starting")

    assert told.steps("r-1") == [(Kind.STATE, "chat#1", "queued → starting: why")]


def test_of_progress_only_the_latest_in_a_row_is_kept(told: Told) -> None:
    told.comes("r-1")
    for text in ("pulling x: 1 %", "pulling x: 99 %"):
        told.tell(Progress(told.at, "chat", text))
    told.moves("chat", "starting", "loading")
    told.tell(Progress(told.at, "chat", "loading"))

    assert [text for kind, _, text in told.steps("r-1") if kind == Kind.PROGRESS] == ["pulling x: 99 %", "loading"]


def test_of_a_long_story_the_latest_steps_are_kept(told: Told) -> None:
    told.comes("r-1")
    for number in range(3 * STEPS):
        told.decided("chat", "wait", str(number))
    told.goes("r-1", "wait_timeout")

    steps = told.steps("r-1")
    assert len(steps) == STEPS
    assert steps[-1][2] == f"wait: {3 * STEPS - 1}"


def test_two_requests_of_one_id_are_told_apart(told: Told) -> None:
    told.comes("r-1")
    told.comes("r-1")
    told.comes("r-1", "other")
    told.goes("r-1", "left")
    told.goes("r-1", "no_room", "other")

    waits = told.history.waits("r-1")
    assert [(wait.service, wait.outcome) for wait in waits] == [("chat", "left"), ("chat", None), ("other", "no_room")]


def test_an_unknown_request_has_no_story(told: Told) -> None:
    told.goes("r-1")

    assert told.history.waits("r-1") == []


def test_only_so_many_are_remembered_the_oldest_answers_go_first() -> None:
    told = Told(History(limit=2))
    for request in ("a", "b", "c"):
        told.comes(request)
    for request in ("b", "c", "a"):
        told.goes(request)

    assert [bool(told.history.waits(request)) for request in ("a", "b", "c")] == [True, False, True]
    assert repr(told.history) == "<History 2 answered, 0 waiting>"


def test_more_waiting_ones_than_it_can_remember_are_left_out() -> None:
    told = Told(History(max_waiting=1))
    told.comes("a")
    told.comes("b")
    told.goes("b")
    told.goes("a")
    told.comes("c")

    assert [bool(told.history.waits(request)) for request in ("a", "b", "c")] == [True, False, True]
