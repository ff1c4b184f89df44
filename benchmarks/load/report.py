"""The figures as a readable page."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

type Rounds = Mapping[str, Sequence[Mapping[str, float]]]


def middle(rounds: Rounds) -> dict[str, dict[str, float]]:
    """The median of each figure over the rounds, by contestant."""
    return {
        name: {figure: median(one[figure] for one in figures) for figure in figures[0]}
        for name, figures in rounds.items()
    }


def page(result: Mapping[str, Any]) -> str:
    """Write the page."""
    json, events = middle(result["json"]), middle(result["events"])
    about = (
        f"{result['machine']}. Medians of {result['rounds']} interleaved rounds; proxy on core 1, upstream (nginx, "
        f"{result['body_bytes']}-byte JSON) and clients on core 0; {result['services']} configured services; access "
        "lines on. CPU is user and system time of the proxy's process tree. "
        f"Load average before the run: {result['load_before']} (0 is a quiet machine; on a busy one ratios are worse)."
    )
    lines = [
        f"# Load, {result['date']}",
        "",
        about,
        "",
        f"## Small JSON, routed by model, {result['connections']} connections",
        "",
        "| | requests/s | p50 ms | p99 ms | CPU µs a request | to nginx | one connection: p50 µs | p99 µs | RSS MB |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name, one in json.items():
        lines.append(
            f"| {name} | {one['per_s']:,.0f} | {one['p50_us'] / 1e3:.2f} | {one['p99_us'] / 1e3:.2f} | "
            f"{_or_dash(one['cpu_us'])} | {_ratio(json, name)} | {one['one_p50_us']:.0f} | {one['one_p99_us']:.0f} | "
            f"{_or_dash(one['rss_mb'])} |"
        )
    lines += [
        "",
        f"## Events, {result['streams']} streams, one event each 20 ms",
        "",
        "| | CPU µs a chunk | to nginx | lag p50 µs | lag p99 µs |",
        "| --- | --: | --: | --: | --: |",
    ]
    for name, one in events.items():
        lines.append(
            f"| {name} | {_or_dash(one['cpu_us'])} | {_ratio(events, name)} | {one['lag_p50_us']:.0f} | "
            f"{one['lag_p99_us']:.0f} |"
        )
    lines += [
        "",
        "## From a client's close to the end of the engine's connection",
        "",
        "| phase | p50 ms | worst ms |",
        "| --- | --: | --: |",
    ]
    lines += [
        f"| {phase} | {delay['p50_ms']:.2f} | {delay['worst_ms']:.2f} |"
        for phase, delay in result["departures"].items()
    ]
    return "\n".join([*lines, ""])


def _or_dash(figure: float) -> str:
    return f"{figure:.1f}" if figure else "–"


def _ratio(figures: Mapping[str, Mapping[str, float]], name: str) -> str:
    nginx = figures.get("nginx", {}).get("cpu_us")
    return f"{figures[name]['cpu_us'] / nginx:.2f}" if nginx and figures[name]["cpu_us"] else "–"
