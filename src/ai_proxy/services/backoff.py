"""How long to wait before a failed service is started again.

Pure: the caller brings the count of failures and the randomness.
"""

FIRST_S = 1.0
LONGEST_S = 300.0


def delay_s(failures: int, jitter: float) -> float:
    """Seconds from the n-th failure in a row to the next start: doubling, at most five minutes.

    Args:
        failures: Failures in a row, 1 or more.
        jitter: 0 to 1; spreads the delay over its upper half, so that services that broke together start apart.

    Example:
        >>> [delay_s(n, 1.0) for n in (1, 2, 3, 20)]
        [1.0, 2.0, 4.0, 300.0]
        >>> delay_s(3, 0.0)
        2.0
    """
    full = min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, 30))
    return full / 2 + full / 2 * jitter
