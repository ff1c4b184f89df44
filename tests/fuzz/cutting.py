"""Bytes as they may arrive: in any pieces."""

import random
import zlib
from itertools import pairwise


def cuts(data: bytes) -> list[bytes]:
    """Cut bytes at places that depend on nothing else: a finding must come again."""
    chance = random.Random(zlib.crc32(data))
    if len(data) < 2:
        return [data] if data else []
    if chance.random() < 0.2 and len(data) < 500:
        return [data[at : at + 1] for at in range(len(data))]
    at = [0, *sorted(chance.sample(range(1, len(data)), min(len(data) - 1, chance.randint(1, 5)))), len(data)]
    return [data[start:end] for start, end in pairwise(at)]
