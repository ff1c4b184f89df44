"""What a profile says of an engine; the profiles themselves are the neighbouring files.

Pure data: how a replica is asked whether it is ready, busy or asleep, never the asking.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ai_proxy.config.models import EngineType, ServiceConfig


class Dialect(StrEnum):
    """An API that clients speak to an engine; it decides which paths are routed by model and how errors look."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"


@dataclass(frozen=True, slots=True)
class Question:
    """Something that an engine can be asked and that its answer affirms or denies.

    Attributes:
        path: GET this.
        reads: Judges the body of a 200 answer; raises ValueError for one that is not the engine's.
    """

    path: str
    reads: Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Call:
    """One request to an engine: method, path with query, JSON body."""

    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class EachOf:
    """Requests that follow from what an engine says, such as one for each model that it has loaded.

    Attributes:
        path: GET this.
        calls: Reads them out of the body of a 200 answer; raises ValueError for one that is not the engine's.
    """

    path: str
    calls: Callable[[bytes], tuple[Call, ...]]


@dataclass(frozen=True, slots=True)
class SleepLevel:
    """One way to give the VRAM back while the server lives on; a higher level keeps less and wakes more slowly.

    Attributes:
        level: Its number in the config.
        calls: Put it to sleep, one after the other.
        wake_calls: Undo that; none where the next request does.
        asleep: Whether it sleeps, asked until it says so; None: it can't tell.
        keeps_mb: VRAM that stays in use on each device: contexts, communication buffers, captured graphs.
        moves: What it gives back moves to the host's memory, and is not just dropped.
        by_default: `sleep: auto` offers it; else only a config that names it.
    """

    level: int
    calls: tuple[Call | EachOf, ...]
    wake_calls: tuple[Call, ...] = ()
    asleep: Question | None = None
    keeps_mb: int = 0
    moves: bool = False
    by_default: bool = True


def always(service: ServiceConfig) -> bool:  # noqa: ARG001  # it is one of several that look
    """Say yes to every service."""
    return True


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of server.

    Attributes:
        type: Its name in the config.
        port: Where it listens unless told otherwise.
        health_path: Answers 2xx when it can serve, anything else (or nothing) while it loads.
        any_answer: Nothing is known of it, so any answer below 500 at its default path counts as ready.
        start_timeout_s: How long it may load by default.
        gpu: It wants a GPU where the machine has one.
        cpu: It also runs without one.
        dialects: APIs it speaks.
        busy: How it tells that it works; None: open requests say all.
        sleep: How it gives its VRAM back while it lives on, the level that keeps most first; empty where it can't.
        may_sleep: Whether a service's own settings let it, where its config does not say.
    """

    type: EngineType
    port: int
    health_path: str
    any_answer: bool = False
    start_timeout_s: float = 600
    gpu: bool = True
    cpu: bool = True
    dialects: frozenset[Dialect] = frozenset({Dialect.OPENAI})
    busy: Question | None = None
    sleep: tuple[SleepLevel, ...] = ()
    may_sleep: Callable[[ServiceConfig], bool] = always
