"""Where each holder's block lies in a device's lane, so that blocks that are there at one time do not overlap.

Pure. A holder stays where it is for as long as it holds the same room. VRAM has no order, so a block for which no gap
is large enough is laid into several.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ai_proxy.sim.spans import Span

_AT_ONCE_S = 1e-9


@dataclass(frozen=True, slots=True)
class Strip:
    """A part of a lane's height, in MiB from its bottom."""

    bottom_mb: int
    top_mb: int


@dataclass(frozen=True, slots=True)
class Block:
    """A time in which a holder held the same room of a device without a break."""

    holder: str
    start_s: float
    end_s: float
    mb: int
    spans: tuple[Span, ...]
    strips: tuple[Strip, ...]


def stack(spans: Iterable[Span], capacity_mb: int | None = None) -> list[Block]:
    """Lay the spans of one device on top of each other.

    Args:
        spans: In any order; those of one holder do not overlap.
        capacity_mb: Height of the lane; what does not fit lies above it. None: as high as it gets.

    Returns:
        The blocks, in order of their begin.

    Example:
        >>> from ai_proxy.sim.spans import Phase
        >>> held = [("a", 0, 9, 4), ("b", 1, 5, 3), ("c", 5, 9, 2)]
        >>> blocks = stack(Span("0", who, start, end, mb, Phase.IDLE) for who, start, end, mb in held)
        >>> [(block.holder, block.strips[0].bottom_mb) for block in blocks]
        [('a', 0), ('b', 4), ('c', 4)]
    """
    laid: list[Block] = []
    there: list[Block] = []
    last: dict[str, tuple[Strip, ...]] = {}
    for run in _runs(spans):
        first = run[0]
        there = [block for block in there if block.end_s > first.start_s + _AT_ONCE_S]
        taken = sorted((strip for block in there for strip in block.strips), key=lambda strip: strip.bottom_mb)
        strips = _keep(last.get(first.holder), first.mb, taken) or _lay(first.mb, _gaps(taken, capacity_mb))
        block = Block(first.holder, first.start_s, run[-1].end_s, first.mb, tuple(run), strips)
        laid.append(block)
        there.append(block)
        last[first.holder] = strips
    return laid


def _runs(spans: Iterable[Span]) -> list[list[Span]]:
    """Group what a holder holds without a break and without a change of size."""
    runs: list[list[Span]] = []
    current: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.start_s):
        run = current.get(span.holder)
        if run is None or run[-1].mb != span.mb or span.start_s - run[-1].end_s > _AT_ONCE_S:
            run = current[span.holder] = []
            runs.append(run)
        run.append(span)
    return runs


def _gaps(taken: Sequence[Strip], capacity_mb: int | None) -> list[Strip]:
    """What is free between strips that are sorted by their bottom; above all of them there is no end."""
    gaps, height = [], 0
    for strip in taken:
        if strip.bottom_mb > height:
            gaps.append(Strip(height, strip.bottom_mb))
        height = max(height, strip.top_mb)
    if capacity_mb is not None and height < capacity_mb:
        gaps.append(Strip(height, capacity_mb))
        height = capacity_mb
    return [*gaps, Strip(height, 1 << 62)]


def _lay(mb: int, gaps: Sequence[Strip]) -> tuple[Strip, ...]:
    """Take the smallest gap that is large enough below the end, else the gaps from the bottom."""
    inside = [gap for gap in gaps[:-1] if gap.top_mb - gap.bottom_mb >= mb]
    if inside:
        best = min(inside, key=lambda gap: gap.top_mb - gap.bottom_mb)
        return (Strip(best.bottom_mb, best.bottom_mb + mb),)
    strips = []
    for gap in gaps:
        part = min(mb, gap.top_mb - gap.bottom_mb)
        strips.append(Strip(gap.bottom_mb, gap.bottom_mb + part))
        mb -= part
        if not mb:
            break
    return tuple(strips)


def _keep(strips: tuple[Strip, ...] | None, mb: int, taken: Sequence[Strip]) -> tuple[Strip, ...] | None:
    """Where the holder lay before, if that has its size and is still free."""
    if strips is None or sum(strip.top_mb - strip.bottom_mb for strip in strips) != mb:
        return None
    free = all(
        strip.top_mb <= other.bottom_mb or strip.bottom_mb >= other.top_mb for strip in strips for other in taken
    )
    return strips if free else None
