"""Which of a service's replicas takes a request.

Pure. Without affinity: the better of two drawn at random (the power of two choices), which keeps the fullest replica
close to the mean without looking at all of them. With affinity: the replica that the key points to, unless it is
full beyond its share; then the next one in the key's own order (consistent hashing with bounded loads).

Sources: Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001; Mirrokni, Thorup, Zadimoghaddam,
Consistent Hashing with Bounded Loads, 2016; the order of a key is rendezvous hashing, Thaler and Ravishankar, 1998.
"""

from collections.abc import Callable, Sequence
from math import ceil
from zlib import crc32

from ai_proxy.scheduler.state import Live

BOUND = 1.25
"""A replica takes at most this much of the mean load for the sake of affinity, rounded up to whole requests."""

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def choose(lives: Sequence[Live], affinity: bytes | None, draw: Callable[[], float]) -> Live:
    """Choose the replica that takes a request.

    Args:
        lives: The ready replicas, at least two.
        affinity: What the request has in common with those it should stay with; None for nothing.
        draw: A number in [0, 1).
    """
    if affinity is not None:
        return _by_affinity(lives, affinity)
    count = len(lives)
    first = int(draw() * count)
    second = int(draw() * (count - 1))
    one, other = lives[first], lives[second + (second >= first)]
    if one.open >= one.limit or other.open >= other.limit:
        return min(lives, key=_load)
    return one if one.open <= other.open else other


def _by_affinity(lives: Sequence[Live], affinity: bytes) -> Live:
    most = ceil(BOUND * (sum(live.open for live in lives) + 1) / len(lives))
    seed = crc32(affinity)
    for live in sorted(lives, key=lambda live: _rank(live, seed), reverse=True):
        if live.open + 1 <= most and live.open < live.limit:
            return live
    return min(lives, key=_load)


def _rank(live: Live, seed: int) -> int:
    """Its place in a key's order; multiplying spreads what the checksum alone would leave in step."""
    return ((crc32(live.replica.key.encode()) ^ seed) * _GOLDEN) & _MASK


def _load(live: Live) -> int:
    return live.open
