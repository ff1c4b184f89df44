"""Draws the devices of a run over time as one SVG: who held how much of each, in which state, and who waited.

A lane a device, holders stacked by MiB; below them a row for each service that was waited for. Pure: spans in, text
out. The picture brings its own colours for light and dark and refers to nothing outside.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from html import escape

from ai_proxy.sim.spans import Delay, Phase, Span, devices_of
from ai_proxy.sim.stacking import Block, stack

WIDTH = 1200
LEFT, RIGHT, TOP, BOTTOM = 120, 16, 64, 28
GAP = 14
LETTER = 6.2
_LEAST_PX = 0.5
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)

_CLASSES = {
    Phase.LOADING: "load",
    Phase.READY: "ready",
    Phase.IDLE: "idle",
    Phase.BUSY: "busy",
    Phase.DRAINING: "drain",
    Phase.SLEEPING: "sleep",
    Phase.STOPPING: "stop",
}
_COLORS = {
    "ground": ("#ffffff", "#0d1117"),
    "lane": ("#f6f8fa", "#161b22"),
    "load": ("#e8a317", "#c98a10"),
    "ready": ("#8fbde8", "#2f5f92"),
    "idle": ("#b6d4f2", "#24476b"),
    "busy": ("#2472c8", "#4c9df3"),
    "drain": ("#9a6dd7", "#8a63d2"),
    "sleep": ("#b4bcc6", "#6e7681"),
    "stop": ("#d6524c", "#e5534b"),
    "wait": ("#bc4c00", "#f0883e"),
    "said": ("#1f2328", "#e6edf3"),
    "quiet": ("#59636e", "#9198a1"),
}
"""What is filled with which color, on a light ground and on a dark one."""

_STROKES = {
    "refused": ("#d6524c", "#e5534b"),
    "edge": ("#ffffff", "#0d1117"),
    "grid": ("#d1d9e0", "#30363d"),
    "name": ("#ffffff", "#0d1117"),
}


@dataclass(frozen=True, slots=True)
class _Scale:
    """From seconds to pixels."""

    begin_s: float
    end_s: float

    def x(self, at_s: float) -> float:
        """Where a moment is."""
        share = (min(max(at_s, self.begin_s), self.end_s) - self.begin_s) / (self.end_s - self.begin_s)
        return LEFT + share * (WIDTH - LEFT - RIGHT)


def gantt(
    spans: Sequence[Span],
    *,
    title: str = "",
    capacities_mb: Mapping[str, int] | None = None,
    waits: Sequence[Delay] = (),
    window_s: tuple[float, float] | None = None,
) -> str:
    """Draw a run.

    Args:
        spans: What was held. Those of one holder on one device do not overlap.
        title: Stands above.
        capacities_mb: By device: all of them have a lane, held or not. By default as much as was held at once.
        waits: Times in which requests waited for a service.
        window_s: From when to when, in seconds from the run's begin; by default all of it.

    Returns:
        The text of an SVG file.

    Example:
        >>> picture = gantt([Span("0", "chat", 0, 60, 9000, Phase.BUSY)], title="A <short> run")
        >>> picture.startswith("<svg "), "A &lt;short&gt; run" in picture
        (True, True)
    """
    end_s = max([*(span.end_s for span in spans), *(wait.end_s for wait in waits)], default=0.0)
    scale = _Scale(*(window_s or (0.0, max(end_s, 1.0))))
    shown = [span for span in spans if span.start_s < scale.end_s and span.end_s > scale.begin_s]
    delays = [wait for wait in waits if wait.start_s < scale.end_s and wait.end_s > scale.begin_s]
    lanes: Mapping[str, int | None] = capacities_mb or dict.fromkeys(devices_of(shown))
    lane_px = max(72, min(200, 560 // max(len(lanes), 1)))
    body: list[str] = []
    y = TOP
    for device, capacity_mb in lanes.items():
        blocks = stack((span for span in shown if span.device == device), capacity_mb)
        full_mb = capacity_mb or max((strip.top_mb for block in blocks for strip in block.strips), default=1)
        body += _lane_head(device, full_mb, y, lane_px)
        for block in blocks:
            body += _block(block, scale, y, lane_px, full_mb)
        y += lane_px + GAP
    rows = sorted({wait.service for wait in delays})
    row_px = max(3, min(14, 420 // max(len(rows), 1)))
    for service in rows:
        body += _waits(service, [wait for wait in delays if wait.service == service], scale, y, row_px)
        y += row_px
    height = y + BOTTOM
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title or 'Devices over time')}</title>",
        f"<style>{_style()}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
        f'<text class="said title" x="16" y="24">{escape(title)}</text>',
        *_legend({span.state for span in shown}, {wait.served for wait in delays}),
    ]
    return "\n".join([*head, *_axis(scale, y), *body, "</svg>", ""])


def _lane_head(device: str, full_mb: int, top: int, height: int) -> list[str]:
    name = f"GPU {device}" if device.isdigit() else device
    return [
        f'<rect class="lane" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{height}"/>',
        _text(LEFT - 8, top + 14, _cut(name, LEFT - 16), anchor="end"),
        _text(LEFT - 8, top + 28, f"{full_mb:,} MB", "quiet", anchor="end"),
    ]


def _block(block: Block, scale: _Scale, top: int, height: int, full_mb: int) -> list[str]:
    tip = escape(f"{block.holder}: {block.mb:,} MB, {moment(block.start_s)} to {moment(block.end_s)}")
    parts = [f"<g><title>{tip}</title>"]
    pieces = _pieces(block.spans, scale)
    left, right = scale.x(block.start_s), scale.x(block.end_s)
    tallest, name_y = 0.0, 0.0
    for strip in block.strips:
        y = top + height * (1 - min(strip.top_mb / full_mb, 1.0))
        strip_px = max(height * (strip.top_mb - strip.bottom_mb) / full_mb, 2.0)
        parts += [
            f'<rect class="{_CLASSES[state]}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{strip_px:.1f}"/>'
            for x, width, state in pieces
        ]
        parts.append(
            f'<rect class="edge" x="{left:.1f}" y="{y:.1f}" width="{right - left:.1f}" height="{strip_px:.1f}"/>'
        )
        if strip_px > tallest:
            tallest, name_y = strip_px, y + strip_px / 2 + 4
    name = _cut(block.holder, right - left - 8)
    if tallest >= 11 and len(name) >= min(len(block.holder), 3):
        parts.append(_text(left + 4, name_y, name, "said name"))
    return [*parts, "</g>"]


def _pieces(spans: Sequence[Span], scale: _Scale) -> list[tuple[float, float, Phase]]:
    """Rectangles as (x, width, state): neighbours too narrow to be told apart are one, of the state that shows most."""
    pieces: list[tuple[float, float, Phase]] = []
    weights: dict[Phase, float] = {}
    begin = scale.x(spans[0].start_s)
    for span in spans:
        end = scale.x(span.end_s)
        weights[span.state] = weights.get(span.state, 0.0) + end - scale.x(span.start_s)
        if span is not spans[-1] and end - begin < _LEAST_PX:
            continue
        state = max(weights, key=lambda it: weights[it])
        if pieces and pieces[-1][2] is state:
            begin = pieces.pop()[0]
        pieces.append((begin, max(end - begin, _LEAST_PX), state))
        begin, weights = end, {}
    return pieces


def _waits(service: str, waits: Sequence[Delay], scale: _Scale, y: int, height: int) -> list[str]:
    parts = []
    if height >= 9:
        parts.append(_text(LEFT - 8, y + height - 3, _cut(f"waits for {service}", LEFT - 16), "quiet", anchor="end"))
    for wait in waits:
        left, right = scale.x(wait.start_s), scale.x(wait.end_s)
        said = f"{service}: {wait.end_s - wait.start_s:.1f} s until {'served' if wait.served else 'refused'}"
        look = f'x="{left:.1f}" y="{y + height * 0.25:.1f}" width="{max(right - left, 1):.1f}"'
        kind = "wait" if wait.served else "refused"
        parts.append(f'<rect class="{kind}" {look} height="{height / 2:.1f}"><title>{escape(said)}</title></rect>')
    return parts


def _legend(states: AbstractSet[Phase], served: AbstractSet[bool]) -> list[str]:
    """What the colors mean that occur."""
    entries = [(name, state.value) for state, name in _CLASSES.items() if state in states]
    entries += [("wait", "requests wait")] * (True in served) + [("refused", "refused")] * (False in served)
    parts, x = [], float(LEFT)
    for name, said in entries:
        parts.append(f'<rect class="{name}" x="{x:.0f}" y="38" width="10" height="10"/>')
        parts.append(_text(x + 15, 47, said))
        x += 15 + LETTER * len(said) + 18
    return parts


def _axis(scale: _Scale, bottom: int) -> list[str]:
    length_s = scale.end_s - scale.begin_s
    step_s = next((step for step in _STEPS_S if length_s / step <= 12), _STEPS_S[-1] * -(-length_s // (12 * 86400)))
    parts = []
    at_s = -(-scale.begin_s // step_s) * step_s
    while at_s <= scale.end_s:
        x = scale.x(at_s)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{bottom + 4}"/>')
        anchor = "end" if x > WIDTH - RIGHT - 24 else "middle"
        parts.append(_text(x, bottom + 18, moment(at_s), "quiet", anchor=anchor))
        at_s += step_s
    return parts


def moment(at_s: float) -> str:
    """A moment of a run, for people.

    Example:
        >>> moment(0), moment(42.5), moment(90), moment(3600), moment(93600)
        ('0', '42.5s', '1m 30s', '1h', '1d 2h')
    """
    if at_s < 60:
        return f"{at_s:.3g}s" if at_s else "0"
    parts, rest = [], round(at_s)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _style() -> str:
    """Plain rules: not every reader of SVG knows variables."""
    light, dark = (
        " ".join(
            [
                *(f".{name} {{ fill: {colors[ground]} }}" for name, colors in _COLORS.items()),
                *(f".{name} {{ stroke: {colors[ground]} }}" for name, colors in _STROKES.items()),
            ]
        )
        for ground in (0, 1)
    )
    return (
        "text { font: 11px system-ui, sans-serif } .title { font-size: 14px; font-weight: 600 } "
        ".name { paint-order: stroke; stroke-width: 3px; stroke-linejoin: round } "
        ".edge, .refused { fill: none } .refused { stroke-width: 1.5 } "
        f"{light} @media (prefers-color-scheme: dark) {{ {dark} }}"
    )


def _text(x: float, y: float, said: str, kind: str = "said", *, anchor: str = "") -> str:
    look = f' class="{kind}"' + f' text-anchor="{anchor}"' * bool(anchor)
    return f'<text x="{x:.1f}" y="{y:.1f}"{look}>{escape(said)}</text>'


def _cut(said: str, width_px: float) -> str:
    """As much of a text as fits."""
    letters = max(int(width_px / LETTER), 0)
    return said if len(said) <= letters else said[: max(letters - 1, 0)] + "…" * (letters > 1)
