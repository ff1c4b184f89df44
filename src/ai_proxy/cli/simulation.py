"""How a simulation is run, printed and drawn for the command line."""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ai_proxy.cli.table import PIPE_WIDTH, duration
from ai_proxy.sim.adapter import HOST
from ai_proxy.sim.gantt import gantt
from ai_proxy.sim.model import Fleet, Source
from ai_proxy.sim.report import Outcome, Report
from ai_proxy.sim.simulate import simulate
from ai_proxy.sim.traces import Request

COLUMNS = (
    "POLICY", "COLD STARTS", "IN ALL", "TO BEST", "WAIT P50", "P95", "P99", "EVICTED", "HELD", "LATE", "REFUSED",
    "UNANSWERED",
)  # fmt: skip


def run(fleet: Fleet, requests: Sequence[Request], policy: str, *, record: bool) -> Outcome:
    """Simulate one policy."""
    return simulate(fleet, requests, policy=policy, record=record)


def picture(fleet: Fleet, outcome: Outcome, title: str) -> str:
    """Draw one run as SVG."""
    capacities_mb = {device.id: device.vram_mb for device in fleet.devices}
    if any(span.device == HOST for span in outcome.spans):
        capacities_mb[HOST] = fleet.memory_mb
    return gantt(outcome.spans, title=title, capacities_mb=capacities_mb, waits=outcome.waits)


def as_json(fleet: Fleet, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What was simulated and what came of it, as plain data."""
    return {
        "services": len(fleet.specs),
        "devices": [{"id": device.id, "vram_mb": device.vram_mb} for device in fleet.devices],
        "oversubscription": round(fleet.oversubscription, 3),
        "reports": [outcome.report.as_json() for outcome in outcomes],
    }


def show(config: str, fleet: Fleet, outcomes: Sequence[Outcome], console: Console | None = None) -> None:
    """Print what came of it: one run in full, several as a table."""
    console = console or Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False)
    report = outcomes[0].report
    console.print(f"{config}: {setting(fleet)}; load times: {sources(fleet)}")
    console.print(f"{report.requests:,} requests in {duration(report.length_s)}\n")
    if len(outcomes) > 1:
        console.print(_comparison([outcome.report for outcome in outcomes]))
    else:
        for name, said in _figures(report).items():
            console.print(Text.assemble((f"{name:<13}", "bold"), said))
    console.print(f"\n{_promise(report)}")


def setting(fleet: Fleet) -> str:
    """What the services share.

    Example:
        >>> setting(Fleet((), 0, (), {}))
        '0 services, no GPU'
    """
    services = f"{len(fleet.specs)} service{'s' * (len(fleet.specs) != 1)}"
    if not fleet.devices:
        return f"{services}, no GPU"
    gpus = f"{len(fleet.devices)} GPU{'s' * (len(fleet.devices) > 1)} with {fleet.vram_mb:,} MB"
    return f"{services} on {gpus}, of which they need {fleet.oversubscription:.1f} times as much"


def sources(fleet: Fleet) -> str:
    """Where the load times of a fleet are from."""
    counts = Counter(engine.source for engine in fleet.engines.values())
    return ", ".join(f"{counts[source]} {source}" for source in Source if counts[source]) or "none"


def span(seconds: float) -> str:
    """A time for people, exact where it is short.

    Example:
        >>> span(0.0), span(4.25), span(75.0)
        ('0', '4.2s', '1m 15s')
    """
    if not seconds:
        return "0"
    return f"{seconds:.1f}s" if seconds < 60 else duration(seconds)


def _figures(report: Report) -> dict[str, str]:
    """One run, a line a subject."""
    refused = sum(report.refused.values())
    each_s = report.cold_start_s / max(report.cold_starts, 1)
    waits, evictions = report.waits, ", ".join(f"{count:,} for {reason}" for reason, count in report.evictions.items())
    return {
        "policy": report.policy,
        "requests": f"{report.finished:,} served, {refused:,} refused, {report.unanswered:,} unanswered",
        **{f"  {code}": f"{count:,}, the first: {report.reasons[code]}" for code, count in report.refused.items()},
        "cold starts": f"{report.cold_starts:,}, {span(report.cold_start_s)} in all, {span(each_s)} each",
        "loads": f"{report.loads:,}, {span(report.load_s)} in all; "
        f"{report.wakes:,} woken, {report.sleeps:,} put to sleep",
        "waits": f"p50 {span(waits.p50_s)}, p95 {span(waits.p95_s)}, p99 {span(waits.p99_s)}, "
        f"longest {span(waits.longest_s)}; {waits.count:,} requests waited at all",
        "evictions": evictions or "none",
        **{
            f"GPU {use.device}": f"{use.vram_mb:,} MB, {use.held:.0%} held, busy for {use.busy:.0%} of the time"
            for use in report.devices
        },
    }


def _comparison(reports: Sequence[Report]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == COLUMNS[0] else "right", no_wrap=True)
    best_s = min(report.cold_start_s for report in reports)
    for report in reports:
        waits = report.waits
        held = sum(use.held * use.vram_mb for use in report.devices) / max(sum(u.vram_mb for u in report.devices), 1)
        table.add_row(
            report.policy,
            f"{report.cold_starts:,}",
            span(report.cold_start_s),
            f"{report.cold_start_s / best_s:.2f}" if best_s else "–",
            *(span(seconds) for seconds in (waits.p50_s, waits.p95_s, waits.p99_s)),
            f"{sum(report.evictions.values()):,}",
            f"{held:.0%}",
            f"{report.fairness.violations:,}",
            f"{sum(report.refused.values()):,}",
            f"{report.unanswered:,}",
        )
    return table


def _promise(report: Report) -> str:
    """What is promised to those who wait, with the figures of this run, and whether it was kept."""
    fair = report.fairness
    kept = f"{fair.violations:,} of {fair.waits:,} waited longer, the nearest {fair.nearest:.0%} of its bound"
    return (
        f"fairness: {fair.formula}\n"
        f"          D {span(fair.exchange_s)}, stop {span(fair.stop_s)}, start {span(fair.start_s)}, "
        f"claim_after_s {span(fair.claim_after_s)}; {report.policy}: {kept}"
    )
