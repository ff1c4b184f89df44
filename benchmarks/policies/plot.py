"""A dot plot of ratios: a row a case, a dot a policy, on a logarithmic axis. SVG by hand, for light and dark."""

import math
from collections.abc import Mapping, Sequence

from benchmarks.policies.verdict import FLOOR, OURS, Verdict, label

WIDTH, LEFT, RIGHT, TOP, ROW = 900, 130, 24, 56, 20
TICKS = (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
COLORS = ("#2472c8", "#e8a317", "#9a6dd7", "#d6524c", "#2da44e", "#8c959f", "#bc4c00", "#0aa2c0")
STYLE = (
    "text { font: 11px system-ui, sans-serif; fill: #1f2328 } .ground { fill: #ffffff } line { stroke: #d1d9e0 } "
    "@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .ground { fill: #0d1117 } line { stroke: #30363d } }"
)


def plot(verdict: Verdict, policies: Sequence[str]) -> str:
    """Draw all cells, and the mean below them."""
    shown = [policy for policy in policies if policy != FLOOR]
    rows: dict[str, Mapping[str, float]] = {
        label(name): {policy: cell[policy] / cell[FLOOR] for policy in shown} for name, cell in verdict.totals.items()
    }
    rows["geometric mean"] = {policy: verdict.means[policy] for policy in shown}
    most = max(max(ratios.values()) for ratios in rows.values()) * 1.05
    least = min(0.95, *(min(ratios.values()) for ratios in rows.values()))
    height = TOP + ROW * len(rows) + 30

    def x(ratio: float) -> float:
        share = math.log(ratio / least) / math.log(most / least)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>Total time of cold starts against the clairvoyant's</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
        *_legend(shown),
    ]
    for tick in (tick for tick in TICKS if tick <= most):
        at = f"{x(tick):.1f}"
        parts.append(f'<line x1="{at}" x2="{at}" y1="{TOP - 8}" y2="{height - 26}"/>')
        parts.append(f'<text x="{at}" y="{height - 10}" text-anchor="middle">{tick:g} ×</text>')
    for index, (name, ratios) in enumerate(rows.items()):
        y = TOP + ROW * index + ROW / 2
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{name}</text>')
        for policy in sorted(ratios, key=lambda policy: policy == OURS):
            parts.append(_dot(x(ratios[policy]), y, shown.index(policy), f"{policy}: {ratios[policy]:.3f}"))
    return "\n".join([*parts, "</svg>", ""])


def _legend(policies: Sequence[str]) -> list[str]:
    parts, at = [], float(LEFT)
    for index, policy in enumerate(policies):
        parts.append(_dot(at, 24, index, policy))
        parts.append(f'<text x="{at + 10:.0f}" y="28">{policy}</text>')
        at += 34 + 6.5 * len(policy)
    return parts


def _dot(x: float, y: float, index: int, said: str) -> str:
    """Ours, which comes first, is larger than the others."""
    size = 6 if not index else 4
    color = COLORS[index % len(COLORS)]
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{color}"><title>{said}</title></circle>'
