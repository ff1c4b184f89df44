"""The figures as a readable page."""

from collections.abc import Mapping
from typing import Any


def page(result: Mapping[str, Any]) -> str:
    """Write the page."""
    lines = [
        f"# A crowd, {result['date']}",
        "",
        (
            f"{result['machine']}. `ai-proxy serve` with its defaults on core 1, engine and clients on core 0. "
            f"{result['idle']:,} connections sit idle after one request; {result['slow']:,} are slow: a third sends "
            "its head a byte a second, a third its body, a third reads 4 MiB at 1 kB/s; who is closed comes back. "
            f"Bar: p99 within 100 ms. Load average before the run: {result['load_before']}."
        ),
        "",
        "## A new request, 50 a second, every second one on a new connection",
        "",
        "| | p50 ms | p99 ms | worst ms | requests | RSS MB |",
        "| --- | --: | --: | --: | --: | --: |",
        _row("alone", result["alone"], result["rss_mb"]["empty"]),
        _row("in the crowd", result["crowd"], result["rss_mb"]["crowd"]),
        "",
        f"Without new requests the crowd takes {100 * result['crowd_cpu_share']:.1f} % of a core.",
        "",
        f"## Streams without end, {result['seconds']:.0f} s each",
        "",
        "Both are to grow by less than 10 MB: what is read ahead of a reader, or of an engine, is bounded by marks.",
        "",
        "| | moved MB | RSS before MB | grew by at most MB |",
        "| --- | --: | --: | --: |",
    ]
    names = {"endless_response": "response to a reader of 10 kB/s", "endless_upload": "upload to a stalled engine"}
    for key, name in names.items():
        one = result[key]
        lines.append(f"| {name} | {one['bytes'] / 1e6:.2f} | {one['rss_before_mb']:.1f} | {one['grew_mb']:.2f} |")
    return "\n".join([*lines, ""])


def _row(name: str, one: Mapping[str, float], rss_mb: float) -> str:
    figures = f"{one['p50_ms']:.2f} | {one['p99_ms']:.2f} | {one['worst_ms']:.2f} | {one['requests']:,.0f}"
    return f"| {name} | {figures} | {rss_mb:.1f} |"
