"""The part of the config that says how services share the machine: needs, precedence, copies, waiting.

Frozen pydantic like the rest. What follows from these keys is the scheduler's business.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from ai_proxy.config.fields import Gpus, Rejected, VramMb
from ai_proxy.config.section import Section


class Priority(StrEnum):
    """Precedence where room is scarce, lowest first."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """A number to compare by; the higher goes first.

        Example:
            >>> Priority.LOW.rank < Priority.NORMAL.rank < Priority.HIGH.rank
            True
        """
        return list(Priority).index(self)


class Affinity(StrEnum):
    """What keeps requests on the same replica, for the sake of its caches."""

    NONE = "none"
    SESSION = "session"
    PREFIX = "prefix"


class ResourceRequirements(Section):
    """What a service needs of the machine; any other name is one of the config's own `capacities`."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, PositiveInt] = Field(init=False)

    gpus: Gpus | None = Field(
        None,
        description="GPUs it uses: a count, a list of indices or UUIDs, or 0. Default: 1 for a GPU engine where the "
        "machine has a GPU, else 0.",
        examples=[1, 0, ["0", "1"]],
    )
    vram_required_mb: VramMb = Field(
        "auto",
        description="VRAM reserved on each of its GPUs, in MiB; `auto`: a GPU to itself until its needs were seen.",
        examples=[16000, "auto"],
    )
    min_memory_mb: PositiveInt | None = Field(None, description="Host memory reserved for it, in MiB.", examples=[2048])

    @property
    def custom(self) -> dict[str, int]:
        """What it takes of the config's `capacities`."""
        return dict(self.__pydantic_extra__ or {})


class Replicas(Section):
    """How many copies of a service may run."""

    min: NonNegativeInt = Field(0, description="Kept running from the start.", examples=[1])
    max: PositiveInt = Field(1, description="At most this many, if there is room.", examples=[3])
    target_inflight: PositiveInt = Field(
        16, description="Another one is started when each has more requests than this.", examples=[8]
    )
    affinity: Affinity = Field(
        Affinity.NONE,
        description="Requests that stay together: those with the same `X-Session-Id` header (session), or whose bodies "
        "begin alike (prefix).",
        examples=["session"],
    )

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.min > self.max:
            raise Rejected(f"min is {self.min}, max is {self.max}", f"write max: {self.min}, or a smaller min")
        return self


def sleep(value: object) -> object:
    """Read `auto`, `off`, or the levels of sleep that a service may use.

    Example:
        >>> sleep("auto"), sleep(1), sleep(["1", "2"])
        ('auto', (1,), (1, 2))
    """
    if value in ("auto", "off"):
        return value
    levels = value if isinstance(value, list | tuple) else [value]
    if not levels or any(str(level) not in {"1", "2"} for level in levels):
        raise Rejected(f"not a way to sleep: {value!r}", "write auto, off, or levels: [1, 2]")
    return tuple(sorted({int(str(level)) for level in levels}))


Sleep = Annotated[Literal["auto", "off"] | tuple[int, ...], BeforeValidator(sleep)]


class SchedulingConfig(Section):
    """How waiting requests are treated."""

    claim_after_s: float = Field(
        30,
        ge=0,
        description="After this long the oldest waiter may drain busy services, in seconds.",
        examples=[30],
    )
    max_queue: PositiveInt = Field(4000, description="Requests that may wait in all.", examples=[4000])
    headroom_mb: NonNegativeInt = Field(
        512, description="VRAM of each GPU that is given to no service, in MiB.", examples=[512]
    )
    min_residency_s: float = Field(
        15,
        ge=0,
        description="A service that has become ready is not evicted before it was there as long as its start took, "
        "but at most this long, in seconds. A claim does not wait for it.",
        examples=[15],
    )
    max_request_s: float = Field(
        3600,
        ge=0,
        description="A request that holds up a claim is ended after this long, in seconds; 0: never, and then no wait "
        "is bounded.",
        examples=[3600],
    )
