"""What the estimates have learned, as plain data that outlives the proxy.

Only shapes: a memo is taken from JSON by `msgspec.convert`, which refuses what does not have them, so that a damaged or
foreign one is not believed. Times are ages: the next life has another clock.
"""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

type Amount = Annotated[float, Meta(ge=0.0, le=1e15)]
type Positive = Annotated[float, Meta(gt=0.0, le=1e15)]
type Signed = Annotated[float, Meta(ge=-1e15, le=1e15)]
type Each = Annotated[list[Amount], Meta(min_length=5, max_length=5)]
type EachPositive = Annotated[list[Positive], Meta(min_length=5, max_length=5)]


@dataclass(frozen=True, slots=True)
class PaceMemo:
    """Of a service in `Rhythm`.

    Attributes:
        age_s: How long ago its last use was.
        counts: Its uses, decayed over each span.
    """

    age_s: Amount
    counts: Each


@dataclass(frozen=True, slots=True)
class RhythmMemo:
    """Of `Rhythm`.

    Attributes:
        paces: By service.
        together: The counts of all services together.
        explained: Uses that each span explains.
        expected: Uses that each span would explain if it were alone.
        seen_s: For how long uses were seen.
    """

    paces: dict[str, PaceMemo]
    together: Each
    explained: EachPositive
    expected: EachPositive
    seen_s: Amount


@dataclass(frozen=True, slots=True)
class LinkMemo:
    """Of a link of `Successors`.

    Attributes:
        brought: Uses of the one behind that the one before explains.
        uses: Uses of the one before.
        lag_s: Seconds from the one to the other.
    """

    brought: Amount
    uses: Positive
    lag_s: Positive


@dataclass(frozen=True, slots=True)
class EstimatesMemo:
    """Of `Estimates`.

    Attributes:
        rhythm: When services are used.
        links: Who is used after whom.
        saved: By expert, seconds of reload that it has saved against the first of them.
        squares: By expert, the sum of their squares.
    """

    rhythm: RhythmMemo
    links: dict[str, dict[str, LinkMemo]]
    saved: dict[str, Signed]
    squares: dict[str, Amount]
