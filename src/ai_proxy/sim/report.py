"""The figures of a simulation: cold starts, waits, evictions, use of the devices, and whether promises were kept.

Pure arithmetic over a recorder's notes; every figure says in its description how it is counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from ai_proxy.scheduler.waits import longest_wait_s
from ai_proxy.sim.model import Fleet
from ai_proxy.sim.recorder import Recorder
from ai_proxy.sim.spans import Delay, Span

FORMULA = "wait ≤ (claims ahead + 1) × (D + stop + start) + claim_after_s"


@dataclass(frozen=True, slots=True)
class Waits:
    """How long requests waited for their grant, in seconds; those granted at once waited 0.

    Attributes:
        count: How many were not granted at once.
    """

    count: int
    p50_s: float
    p95_s: float
    p99_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """How much one device was used.

    Attributes:
        device: Its id.
        vram_mb: Its capacity, in MiB.
        held: Share of room × time that was reserved.
        busy: Share of the time in which a request was open on a replica there.
    """

    device: str
    vram_mb: int
    held: float
    busy: float


@dataclass(frozen=True, slots=True)
class Fairness:
    """Whether those who waited for a service that was not ready waited no longer than is promised.

    Attributes:
        formula: The promise. Claims ahead: other services that were waited for when the wait began.
        waits: How many there were.
        exchange_s: D, the longest exchange, in seconds.
        stop_s: The longest stop.
        start_s: The longest start, after one that was under way on its device.
        claim_after_s: As the config says.
        violations: Waits that were longer, those refused by a deadline included.
        nearest: The greatest wait, as a share of what was promised to it.
    """

    formula: str
    waits: int
    exchange_s: float
    stop_s: float
    start_s: float
    claim_after_s: float
    violations: int
    nearest: float


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one trace under one policy.

    Attributes:
        policy: Its name.
        length_s: From the begin to the last answer.
        requests: How many there were.
        finished: How many were served to their end.
        refused: How many got an error, by its code.
        reasons: The first message of each of these.
        unanswered: How many got neither: 0, or the scheduler is broken.
        cold_starts: Waits for a service that was not ready which ended in a grant.
        cold_start_s: How long services that were not ready were waited for: each time from the first request that
            waited until the first grant, or until the last of them was refused.
        loads: Engines started.
        load_s: How long they loaded, together.
        wakes: Engines woken.
        sleeps: Engines put to sleep.
        evictions: Replicas that had to leave, by reason.
        waits: Of all requests that were granted.
        devices: How much each was used.
        fairness: Whether the promise was kept.
    """

    policy: str
    length_s: float
    requests: int
    finished: int
    refused: Mapping[str, int]
    reasons: Mapping[str, str]
    unanswered: int
    cold_starts: int
    cold_start_s: float
    loads: int
    load_s: float
    wakes: int
    sleeps: int
    evictions: Mapping[str, int]
    waits: Waits
    devices: tuple[DeviceUse, ...]
    fairness: Fairness

    def as_json(self) -> dict[str, Any]:
        """Plain data, times rounded to milliseconds."""
        rounded: dict[str, Any] = _rounded(asdict(self))
        return rounded


@dataclass(frozen=True, slots=True)
class Outcome:
    """A report, and what it takes to draw the run.

    Attributes:
        report: The figures.
        spans: What was held when; empty unless it was asked for.
        waits: Times in which services that were not ready were waited for.
    """

    report: Report
    spans: tuple[Span, ...]
    waits: tuple[Delay, ...]


def report_of(policy: str, fleet: Fleet, notes: Recorder, length_s: float) -> Report:
    """Make the figures of a simulation that has ended."""
    refused = sum(notes.refused.values())
    return Report(
        policy=policy,
        length_s=length_s,
        requests=notes.requests,
        finished=notes.finished,
        refused=dict(sorted(notes.refused.items())),
        reasons=notes.reasons,
        unanswered=notes.requests - notes.finished - refused,
        cold_starts=sum(cold.served for cold in notes.colds),
        cold_start_s=sum(cold.end_s - cold.start_s for cold in notes.colds),
        loads=len(notes.loads),
        load_s=sum(notes.loads),
        wakes=len(notes.wakes),
        sleeps=notes.sleeps,
        evictions={str(reason): count for reason, count in sorted(notes.evictions.items())},
        waits=_waits(notes),
        devices=_devices(fleet, notes, length_s),
        fairness=_fairness(fleet, notes),
    )


def percentile(ordered: Sequence[float], zeros: int, share: float) -> float:
    """The nearest-rank percentile of numbers that stand in order, with so many zeros before them.

    Example:
        >>> percentile([1.0, 5.0], 8, 0.5), percentile([1.0, 5.0], 8, 0.9), percentile([1.0, 5.0], 8, 0.99)
        (0.0, 1.0, 5.0)
        >>> percentile([], 0, 0.5)
        0.0
    """
    count = zeros + len(ordered)
    rank = max(int(-(-share * count // 1)), 1) - 1
    return 0.0 if rank < zeros or not ordered else ordered[rank - zeros]


def _waits(notes: Recorder) -> Waits:
    ordered = sorted(notes.waits_s)
    p50, p95, p99 = (percentile(ordered, notes.warm, share) for share in (0.50, 0.95, 0.99))
    return Waits(len(ordered), p50, p95, p99, ordered[-1] if ordered else 0.0)


def _devices(fleet: Fleet, notes: Recorder, length_s: float) -> tuple[DeviceUse, ...]:
    span_s = max(length_s, 1e-9)
    return tuple(
        DeviceUse(
            device.id,
            device.vram_mb,
            notes.held_mb_s.get(device.id, 0.0) / (device.vram_mb * span_s),
            notes.busy_s.get(device.id, 0.0) / span_s,
        )
        for device in fleet.devices
    )


def _fairness(fleet: Fleet, notes: Recorder) -> Fairness:
    load_s = max((engine.ready_s for engine in fleet.engines.values()), default=0.0)
    claim_after_s = fleet.settings.claim_after_s
    promised = partial(
        longest_wait_s,
        claim_after_s=claim_after_s,
        exchange_s=notes.longest_exchange_s,
        stop_s=notes.longest_stop_s,
        load_s=load_s,
    )
    shares = [(cold.end_s - cold.start_s) / promised(ahead=cold.ahead) for cold in notes.colds]
    return Fairness(
        FORMULA,
        len(shares),
        notes.longest_exchange_s,
        notes.longest_stop_s,
        2 * load_s,
        claim_after_s,
        sum(share > 1.0 for share in shares),
        max(shares, default=0.0),
    )


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 3)
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
        case list() | tuple():
            return [_rounded(item) for item in value]
        case _:
            return value
