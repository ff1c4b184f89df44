"""Traces: who asks for which service when, drawn from a seed.

Each generator is a pure function of (services, duration, rate, seed): the same arguments give the same trace, in order
of time. `rate_per_s` is the mean over all services together. Recorded traces are read in `sim/recorded.py`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from types import MappingProxyType

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, order=True)
class Request:
    """One request of a trace.

    Attributes:
        at: When it comes, in seconds from the trace's begin.
        service: The service that it asks for.
        service_time_s: How long a ready replica works on it.
    """

    at: float
    service: str
    service_time_s: float


type Generator = Callable[[Sequence[str], float, float, int], list[Request]]


def poisson(services: Sequence[str], duration_s: float, rate_per_s: float, seed: int) -> list[Request]:
    """Draw arrivals without memory, some services asked for far more often than others.

    Args:
        services: Who is asked for; their shares are drawn (exponentially distributed).
        duration_s: Length of the trace.
        rate_per_s: Requests a second, all services together.
        seed: What the draws start from.

    Returns:
        The requests in order of time.

    Example:
        >>> trace = poisson(["a", "b"], 3600, 0.1, seed=7)
        >>> trace == poisson(["a", "b"], 3600, 0.1, seed=7), 250 < len(trace) < 450
        (True, True)
    """
    dice = _dice(seed)
    return _independent(dice, services, [dice.expovariate(1.0) for _ in services], duration_s, rate_per_s)


def zipf(
    services: Sequence[str], duration_s: float, rate_per_s: float, seed: int, *, exponent: float = 1.0
) -> list[Request]:
    """Draw arrivals without memory whose shares fall as 1 / rank ** exponent, ranks dealt by the seed.

    Args:
        services: Who is asked for.
        duration_s: Length of the trace.
        rate_per_s: Requests a second, all services together.
        seed: What the draws start from.
        exponent: How steeply popularity falls; 0 makes all alike.

    Returns:
        The requests in order of time.
    """
    dice = _dice(seed)
    return _independent(dice, services, zipf_shares(dice, len(services), exponent), duration_s, rate_per_s)


def bursty(
    services: Sequence[str], duration_s: float, rate_per_s: float, seed: int, *, burst: float = 20.0, gap_s: float = 8.0
) -> list[Request]:
    """Draw bursts: a service is asked for many times within minutes, then not for long.

    Args:
        services: Who is asked for; their shares of the bursts are drawn.
        duration_s: Length of the trace.
        rate_per_s: Requests a second, all services together.
        seed: What the draws start from.
        burst: Requests in a burst, in the mean (geometrically distributed).
        gap_s: Seconds between two requests of a burst, in the mean.

    Returns:
        The requests in order of time.
    """
    dice = _dice(seed)
    starts = _independent(dice, services, [dice.expovariate(1.0) for _ in services], duration_s, rate_per_s / burst)
    trace = []
    for start in starts:
        at = start.at
        while at < duration_s:
            trace.append(Request(at, start.service, _work(dice)))
            if dice.random() < 1.0 / burst:
                break
            at += dice.expovariate(1.0 / gap_s)
    return sorted(trace)


def diurnal(
    services: Sequence[str],
    duration_s: float,
    rate_per_s: float,
    seed: int,
    *,
    period_s: float = DAY_S,
    sharpness: float = 4.0,
) -> list[Request]:
    """Draw arrivals that follow the day: each service has an hour of its own at which most of its requests come.

    Args:
        services: Who is asked for; their shares are drawn.
        duration_s: Length of the trace.
        rate_per_s: Requests a second, all services together.
        seed: What the draws start from.
        period_s: Length of a day.
        sharpness: How much the hour matters: the rate goes as exp(sharpness × cos(phase)).

    Returns:
        The requests in order of time.
    """
    dice = _dice(seed)
    shares = [dice.expovariate(1.0) for _ in services]
    peaks = dict(zip(services, [dice.uniform(0.0, math.tau) for _ in services], strict=True))
    # Thinning: draw at the peak's rate, keep each with the odds of its moment. The mean of exp(k cos) is I0(k).
    at_peak = rate_per_s * math.exp(sharpness) / _bessel_i0(sharpness)
    return [
        request
        for request in _independent(dice, services, shares, duration_s, at_peak)
        if dice.random()
        < math.exp(sharpness * (math.cos(math.tau * request.at / period_s - peaks[request.service]) - 1.0))
    ]


def chains(
    services: Sequence[str],
    duration_s: float,
    rate_per_s: float,
    seed: int,
    *,
    lag_s: float = 10.0,
    rounds: float = 2.0,
) -> list[Request]:
    """Draw agents: each task walks a chain of two or three services, A → B (→ C), perhaps several times over.

    Args:
        services: Who is asked for; the chains are dealt from them, and a service may stand in several.
        duration_s: Length of the trace.
        rate_per_s: Requests a second, all services together.
        seed: What the draws start from.
        lag_s: Seconds from the end of one step to the next, in the mean.
        rounds: How often a task walks its chain, in the mean (geometrically distributed).

    Returns:
        The requests in order of time.
    """
    dice = _dice(seed)
    paths = _paths(dice, services)
    steps = rounds * sum(len(path) for path in paths) / len(paths)
    trace: list[Request] = []
    for at in _arrivals(dice, duration_s, rate_per_s / steps):
        trace.extend(_task(dice, dice.choice(paths), at, lag_s, rounds))
    return sorted(request for request in trace if request.at < duration_s)


def sessions(
    arrivals: Sequence[tuple[float, float]],
    services: Sequence[str],
    seed: int,
    *,
    exponent: float = 1.0,
    length: float = 12.0,
    concurrent: int = 8,
) -> list[Request]:
    """Give each arrival a service: people talk to one service for a while, which is drawn by popularity.

    Args:
        arrivals: (at, service time), as a recorded trace without names of services has them.
        services: Who may be asked for.
        seed: What the draws start from.
        exponent: How steeply the popularity of services falls with their rank.
        length: Requests of a session, in the mean (geometrically distributed).
        concurrent: How many sessions go on side by side.

    Returns:
        The requests in order of time.
    """
    dice = _dice(seed)
    shares = zipf_shares(dice, len(services), exponent)
    talking = dice.choices(services, shares, k=concurrent)
    trace = []
    for at, service_time_s in sorted(arrivals):
        seat = dice.randrange(concurrent)
        if dice.random() < 1.0 / length:
            talking[seat] = dice.choices(services, shares)[0]
        trace.append(Request(at, talking[seat], service_time_s))
    return trace


def zipf_shares(dice: Random, count: int, exponent: float) -> list[float]:
    """Popularities that fall as 1 / rank ** exponent, in an order that the dice deal.

    Args:
        dice: Where the order comes from.
        count: How many.
        exponent: How steeply they fall.

    Returns:
        One share for each, unnormalised.
    """
    shares = [rank**-exponent for rank in range(1, count + 1)]
    dice.shuffle(shares)
    return shares


GENERATORS: Mapping[str, Generator] = MappingProxyType(
    {"poisson": poisson, "bursty": bursty, "diurnal": diurnal, "chains": chains, "zipf": zipf}
)


def _independent(
    dice: Random, services: Sequence[str], shares: Sequence[float], duration_s: float, rate_per_s: float
) -> list[Request]:
    cumulative = list(accumulate(shares))
    return [
        Request(at, dice.choices(services, cum_weights=cumulative)[0], _work(dice))
        for at in _arrivals(dice, duration_s, rate_per_s)
    ]


def _arrivals(dice: Random, duration_s: float, rate_per_s: float) -> Iterator[float]:
    at = dice.expovariate(rate_per_s)
    while at < duration_s:
        yield at
        at += dice.expovariate(rate_per_s)


def _paths(dice: Random, services: Sequence[str]) -> list[list[str]]:
    """One chain for each three services, each service in at least one of them if there are two at all."""
    deck = list(services)
    dice.shuffle(deck)
    paths = []
    while deck:
        path = [deck.pop() for _ in range(min(len(deck), dice.choice((2, 3))))]
        if len(path) == 1 and len(services) > 1:
            path.append(dice.choice([service for service in services if service != path[0]]))
        paths.append(path)
    return paths


def _task(dice: Random, path: Sequence[str], at: float, lag_s: float, rounds: float) -> Iterator[Request]:
    while True:
        for service in path:
            work_s = _work(dice)
            yield Request(at, service, work_s)
            at += work_s + dice.expovariate(1.0 / lag_s)
        if dice.random() < 1.0 / rounds:
            return


def _work(dice: Random) -> float:
    """Seconds of work in a request: mostly a few, sometimes many, never beyond two minutes."""
    return min(120.0, dice.lognormvariate(1.0, 0.8))


def _bessel_i0(x: float) -> float:
    return math.fsum((x / 2.0) ** (2 * k) / math.factorial(k) ** 2 for k in range(40))


def _dice(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - draws that can be repeated, no secret
