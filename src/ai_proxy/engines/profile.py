"""What a profile says of an engine; the profiles themselves are the neighbouring files.

Pure data: how a replica is asked whether it is ready, busy or asleep, never the asking.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ai_proxy.config.models import EngineType


class Dialect(StrEnum):
    """An API that clients speak to an engine; it decides which paths are routed by model and how errors look."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"


@dataclass(frozen=True, slots=True)
class BusyProbe:
    """How an engine tells that it works though no request is open.

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
        sleep: Calls that give its VRAM back while it lives on; empty where it can't.
        wake: Calls that undo `sleep`.
    """

    type: EngineType
    port: int
    health_path: str
    any_answer: bool = False
    start_timeout_s: float = 600
    gpu: bool = True
    cpu: bool = True
    dialects: frozenset[Dialect] = frozenset({Dialect.OPENAI})
    busy: BusyProbe | None = None
    sleep: tuple[Call, ...] = ()
    wake: tuple[Call, ...] = ()
