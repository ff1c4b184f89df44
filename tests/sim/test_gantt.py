"""The picture of the devices: well-formed, true to its spans, complete in itself."""

import xml.etree.ElementTree as ET
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from ai_proxy.sim.gantt import gantt
from ai_proxy.sim.spans import Delay, Phase, Span
from ai_proxy.sim.stacking import stack

SVG = "{http://www.w3.org/2000/svg}"


def said(picture: str) -> list[str]:
    return [text.text or "" for text in ET.fromstring(picture).iter(f"{SVG}text")]


def drawn(picture: str, kind: str) -> list[dict[str, float]]:
    """The rectangles of a kind, without the legend's."""
    rects = [dict(rect.attrib) for rect in ET.fromstring(picture).iter(f"{SVG}rect") if rect.get("class") == kind]
    numbers = [{key: float(value) for key, value in rect.items() if key != "class"} for rect in rects]
    return [rect for rect in numbers if rect["y"] > 50]


def test_a_lane_for_each_device_whether_held_or_not() -> None:
    picture = gantt([Span("0", "chat", 0, 60, 9_000, Phase.IDLE)], capacities_mb={"0": 24_576, "1": 24_576})

    assert {"GPU 0", "GPU 1", "24,576 MB", "chat"} <= set(said(picture))


def test_a_block_is_as_high_as_its_share_of_the_device_and_as_long_as_its_time() -> None:
    spans = [Span("0", "a", 0, 50, 12_000, Phase.BUSY), Span("0", "b", 50, 100, 6_000, Phase.BUSY)]

    first, second = drawn(gantt(spans, capacities_mb={"0": 24_000}), "busy")

    assert first["height"] == 2 * second["height"]
    assert first["width"] == second["width"]
    assert first["x"] + first["width"] == second["x"]


def test_each_state_has_a_look_of_its_own_and_an_entry_in_the_legend() -> None:
    spans = [Span("0", "a", 10 * index, 10 * index + 10, 9_000, state) for index, state in enumerate(Phase)]

    picture = gantt(spans)

    assert all(len(drawn(picture, look)) == 1 for look in ("load", "ready", "idle", "busy", "drain", "sleep", "stop"))
    assert {state.value for state in Phase} <= set(said(picture))


def test_the_legend_shows_what_occurs_and_nothing_else() -> None:
    texts = said(gantt([Span("0", "a", 0, 60, 9_000, Phase.LOADING)]))

    assert "loading" in texts
    assert "sleeping" not in texts
    assert "requests wait" not in texts


def test_waits_are_marks_that_tell_served_from_refused() -> None:
    waits = [Delay("chat", 0, 10), Delay("chat", 20, 25, served=False)]

    picture = gantt([], capacities_mb={"0": 24_000}, waits=waits)

    assert len(drawn(picture, "wait")) == 1
    assert len(drawn(picture, "refused")) == 1
    assert "chat: 10.0 s until served" in picture
    assert "waits for chat" in said(picture)


def test_a_window_cuts_what_lies_outside() -> None:
    spans = [Span("0", "early", 0, 50, 9_000, Phase.BUSY), Span("0", "late", 50, 150, 9_000, Phase.BUSY)]

    texts = said(gantt(spans, window_s=(60.0, 120.0)))

    assert "late" in texts
    assert "early" not in texts
    assert "1m" in texts


def test_names_can_not_break_the_picture() -> None:
    picture = gantt([Span("0", '<b>&"', 0, 60, 9_000, Phase.BUSY)], title="</svg>")

    assert '<b>&"' in said(picture)


def test_it_refers_to_nothing_outside_and_knows_light_and_dark() -> None:
    picture = gantt([Span("0", "a", 0, 60, 9_000, Phase.BUSY)])

    assert not [word for word in ("href", "url(", "@import", "<script") if word in picture]
    assert picture.count("http") == 1, "only the name of SVG itself"
    assert "prefers-color-scheme: dark" in picture


def test_a_thousand_short_requests_are_no_thousand_rectangles() -> None:
    spans = []
    for index in range(3_000):
        spans.append(Span("0", "a", index, index + 0.5, 9_000, Phase.BUSY))
        spans.append(Span("0", "a", index + 0.5, index + 1, 9_000, Phase.IDLE))

    picture = gantt(spans)

    assert len(drawn(picture, "busy")) + len(drawn(picture, "idle")) < 2_200


def test_an_empty_run_is_an_empty_picture() -> None:
    assert ET.fromstring(gantt([])).tag == f"{SVG}svg"


@st.composite
def histories(draw: st.DrawFn) -> list[Span]:
    """Spans of a device that never holds more than 100 MB."""
    spans: list[Span] = []
    for index in range(draw(st.integers(0, 12))):
        start, length = draw(st.integers(0, 30)), draw(st.integers(1, 20))
        mb = draw(st.integers(1, 60))
        moments = [m for s in spans for m in (s.start_s, s.end_s)] + [start]
        room = all(
            sum(s.mb for s in spans if s.start_s <= moment < s.end_s) + mb <= 100
            for moment in moments
            if start <= moment < start + length
        )
        if room:
            spans.append(Span("0", f"h{index}", start, start + length, mb, Phase.IDLE))
    return spans


@settings(max_examples=40)
@given(histories())
def test_blocks_fill_their_size_below_the_capacity_and_never_overlap(spans: list[Span]) -> None:
    blocks = stack(spans, 100)

    for block in blocks:
        assert sum(strip.top_mb - strip.bottom_mb for strip in block.strips) == block.mb
        assert all(0 <= strip.bottom_mb < strip.top_mb <= 100 for strip in block.strips)
    for one, other in combinations(blocks, 2):
        if one.start_s < other.end_s and other.start_s < one.end_s:
            assert not any(a.bottom_mb < b.top_mb and b.bottom_mb < a.top_mb for a in one.strips for b in other.strips)
