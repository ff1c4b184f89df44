"""The life of a replica: the only place where a transition is written.

A replica is in one state; an event moves it to another and may ask for one action. The table knows nothing of time,
of other services or of how an action is done. An event that a state does not know is `IllegalTransition`: the caller
has decided on a state that is no longer true.

A failure passes through STOPPING wherever something may be left to remove, so that FAILED, like STOPPED, always means
that nothing runs and nothing is held. What a release leaves behind is the ledger's business, not a state: the replica
is gone either way.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Self


class Word(StrEnum):
    """A word of the table that says what it means.

    Attributes:
        about: Its meaning, one sentence.
    """

    about: str

    def __new__(cls, value: str, about: str) -> Self:
        """Make a member of its value and its meaning."""
        member = str.__new__(cls, value)
        member._value_, member.about = value, about
        return member


class State(Word):
    """Where a replica is in its life."""

    STOPPED = "stopped", "Nothing runs, nothing is held."
    QUEUED = "queued", "Somebody needs it; it waits for room."
    STARTING = "starting", "Its room is reserved; its runtime pulls, creates and starts."
    LOADING = "loading", "It runs and has an address; its engine is not ready yet."
    READY = "ready", "It takes requests."
    SLEEPING = "sleeping", "It lives on without its room on the devices, or is giving it back; it takes no requests."
    DRAINING = "draining", "It takes no new requests; open ones finish."
    STOPPING = "stopping", "Its runtime ends it; its room is held until it is confirmed gone."
    FAILED = "failed", "It broke. Nothing runs, nothing is held; it is not started again before its back-off is over."


class Event(Word):
    """What may happen to a replica."""

    WANTED = "wanted", "Somebody needs it."
    UNWANTED = "unwanted", "Nobody needs it any more, or its room is needed elsewhere."
    PLACED = "placed", "Room was reserved for it: to start in, or to wake up in."
    LAUNCHED = "launched", "Its runtime started it; it has an address."
    ADOPTED = "adopted", "It was found running, from a former life of the proxy."
    HEALTHY = "healthy", "It answers its health check."
    BROKE = "broke", "It exited, let its start-up deadline pass, or could not be started."
    DRAIN = "drain", "It takes no new requests; open ones finish."
    RESUME = "resume", "Its drain is called off."
    SLEEP = "sleep", "Its room is needed elsewhere, and its engine can give it back while it lives on."
    SLEPT = "slept", "Its engine gave the room on its devices back."
    GONE = "gone", "Its runtime confirmed that it ended, as it was asked to."
    LOST = "lost", "Its runtime confirmed that nothing is left of a replica that broke."
    RESET = "reset", "An operator forgave its failures."


class Action(Word):
    """What a transition asks to be carried out."""

    LAUNCH = "launch", "Have the runtime start it."
    PROBE = "probe", "Ask it for its health until it is ready."
    WATCH = "watch", "Notice when it ends or turns unhealthy."
    SLEEP = "sleep", "Have its engine give its room back, and notice when it ends."
    WAKE = "wake", "Have its engine take its room again, and ask it for its health until it is ready."
    STOP = "stop", "Have the runtime end it, and confirm that it is gone."


SETTLED = frozenset({State.STOPPED, State.READY, State.SLEEPING, State.FAILED})
"""States that last until something is asked for; every waiter has been answered when one is entered."""

HOLDING = frozenset({State.STARTING, State.LOADING, State.READY, State.SLEEPING, State.DRAINING, State.STOPPING})
"""States in which a replica holds a reservation; asleep, the smaller one of its level."""

type Step = tuple[State, Action | None]

TRANSITIONS: Mapping[State, Mapping[Event, Step]] = {
    State.STOPPED: {
        Event.WANTED: (State.QUEUED, None),
        Event.ADOPTED: (State.LOADING, Action.PROBE),
    },
    State.QUEUED: {
        Event.PLACED: (State.STARTING, Action.LAUNCH),
        Event.UNWANTED: (State.STOPPED, None),
    },
    State.STARTING: {
        Event.LAUNCHED: (State.LOADING, Action.PROBE),
        Event.BROKE: (State.STOPPING, Action.STOP),
        Event.UNWANTED: (State.STOPPING, Action.STOP),
    },
    State.LOADING: {
        Event.HEALTHY: (State.READY, Action.WATCH),
        Event.BROKE: (State.STOPPING, Action.STOP),
        Event.UNWANTED: (State.STOPPING, Action.STOP),
    },
    State.READY: {
        Event.DRAIN: (State.DRAINING, None),
        Event.SLEEP: (State.SLEEPING, Action.SLEEP),
        Event.BROKE: (State.STOPPING, Action.STOP),
        Event.UNWANTED: (State.STOPPING, Action.STOP),
    },
    State.SLEEPING: {
        Event.SLEPT: (State.SLEEPING, None),
        Event.PLACED: (State.LOADING, Action.WAKE),
        Event.BROKE: (State.STOPPING, Action.STOP),
        Event.UNWANTED: (State.STOPPING, Action.STOP),
    },
    State.DRAINING: {
        Event.RESUME: (State.READY, None),
        Event.BROKE: (State.STOPPING, Action.STOP),
        Event.UNWANTED: (State.STOPPING, Action.STOP),
    },
    State.STOPPING: {
        Event.GONE: (State.STOPPED, None),
        Event.LOST: (State.FAILED, None),
    },
    State.FAILED: {
        Event.WANTED: (State.QUEUED, None),
        Event.RESET: (State.STOPPED, None),
    },
}


class IllegalTransition(Exception):
    """An event came in a state that does not know it."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"a {state} replica can't take the event {event}")
        self.state = state
        self.event = event


def step(state: State, event: Event) -> Step:
    """Move a replica.

    Args:
        state: Where it is.
        event: What happened.

    Returns:
        Where it is now, and what to carry out.

    Raises:
        IllegalTransition: The table has no such pair.

    Example:
        >>> step(State.STOPPED, Event.WANTED)
        (<State.QUEUED: 'queued'>, None)
        >>> step(State.QUEUED, Event.PLACED)
        (<State.STARTING: 'starting'>, <Action.LAUNCH: 'launch'>)
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(state, event) from None


def diagram() -> str:
    """Draw the table as a Mermaid state diagram.

    Example:
        >>> print(diagram().splitlines()[2].strip())
        stopped --> queued: wanted
    """
    lines = ["stateDiagram-v2", "    [*] --> stopped"]
    for state, steps in TRANSITIONS.items():
        for event, (target, action) in steps.items():
            label = f"{event} / {action}" if action else str(event)
            lines.append(f"    {state} --> {target}: {label}")
    return "\n".join(lines)


def page() -> str:
    """Write `docs/states.md`: the diagram, the table and what each word means.

    Example:
        >>> "| ready | drain | draining |" in page()
        True
    """
    rows = [
        f"| {state} | {event} | {target} | {action or ''} |"
        for state, steps in TRANSITIONS.items()
        for event, (target, action) in steps.items()
    ]
    return _PAGE.format(
        diagram=diagram(),
        rows="\n".join(rows),
        states=_glossary(State),
        events=_glossary(Event),
        actions=_glossary(Action),
        settled=", ".join(state for state in State if state in SETTLED),
        holding=", ".join(state for state in State if state in HOLDING),
    )


def _glossary(words: Iterable[Word]) -> str:
    return "\n".join(f"- **{word}**: {word.about}" for word in words)


_PAGE = """\
# States of a replica

Written by `python -m tests.check --fix` from the table in `src/ai_proxy/services/machine.py`, the only place where a
transition is defined. An event that a state does not list is an `IllegalTransition`: nothing changes.

```mermaid
{diagram}
```

| in | on | goes to | and asks for |
| --- | --- | --- | --- |
{rows}

## States

{states}

Settled, until something is asked for: {settled}. Holding devices and memory: {holding}.

## Events

{events}

## Actions

{actions}
"""
