"""The life of a replica: the only place where a transition is written.

A replica is in one state; an event moves it to another and may ask for one action. The table knows nothing of time,
of other services or of how an action is done. An event that a state does not know is `IllegalTransition`: the caller
has decided on a state that is no longer true.

A failure passes through STOPPING wherever something may be left to remove, so that FAILED, like STOPPED, always means
that nothing runs and nothing is held.
"""

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where a replica is in its life."""

    STOPPED = "stopped"
    QUEUED = "queued"
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    FAILED = "failed"


class Event(StrEnum):
    """What may happen to a replica."""

    WANTED = "wanted"
    """Somebody needs it."""
    UNWANTED = "unwanted"
    """Nobody needs it any more, or its room is needed elsewhere."""
    PLACED = "placed"
    """Room was reserved for it."""
    LAUNCHED = "launched"
    """Its runtime started it; it has an address."""
    ADOPTED = "adopted"
    """It was found running, from a former life of the proxy."""
    HEALTHY = "healthy"
    """It answers its health check."""
    BROKE = "broke"
    """It exited, let its start-up deadline pass, or could not be started."""
    DRAIN = "drain"
    """It takes no new requests; open ones finish."""
    RESUME = "resume"
    """Its drain is called off."""
    GONE = "gone"
    """Its runtime confirmed that it ended, as it was asked to."""
    LOST = "lost"
    """Its runtime confirmed that nothing is left of a replica that broke."""
    RESET = "reset"
    """An operator forgave its failures."""


class Action(StrEnum):
    """What a transition asks to be carried out."""

    LAUNCH = "launch"
    """Have the runtime start it."""
    PROBE = "probe"
    """Ask it for its health until it is ready."""
    WATCH = "watch"
    """Notice when it ends or turns unhealthy."""
    STOP = "stop"
    """Have the runtime end it, and confirm that it is gone."""


SETTLED = frozenset({State.STOPPED, State.READY, State.FAILED})
"""States that last until something is asked for; every waiter has been answered when one is entered."""

HOLDING = frozenset({State.STARTING, State.LOADING, State.READY, State.DRAINING, State.STOPPING})
"""States in which a replica holds its reservation."""

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
