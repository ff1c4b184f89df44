"""Nodes remember where they were written, and merge as the layers say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.config.document import Findings, Node, merge, read

KEYS = st.sampled_from("abcd")
VALUES = st.recursive(
    st.none() | st.text("xyz01", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)
MAPS = st.dictionaries(KEYS, VALUES, max_size=4)


def node(value: object, key: str = "k") -> Node:
    match value:
        case dict():
            return Node({name: node(child, f"{key}.{name}") for name, child in value.items()}, 1, key)
        case list():
            return Node(tuple(node(child) for child in value), 1, key)
        case _:
            assert value is None or isinstance(value, str)
            return Node(value, 1, key)


@given(VALUES)
def test_reading_json_gives_the_same_value(value: object) -> None:
    findings = Findings("f")
    assert read(json.dumps(value), findings).plain() == value
    assert findings.faults == []


@given(MAPS)
def test_merging_with_itself_or_nothing_changes_nothing(value: dict[str, object]) -> None:
    assert merge(node(value), node(value)).plain() == value
    assert merge(node({}), node(value)).plain() == value
    assert merge(node(value), node({})).plain() == value


@pytest.mark.slow
@given(MAPS, MAPS)
def test_merging_keeps_every_key_and_the_upper_layer_wins(base: dict[str, object], over: dict[str, object]) -> None:
    merged = merge(node(base), node(over)).plain()
    assert isinstance(merged, dict)
    assert merged.keys() == base.keys() | over.keys()
    for key, value in over.items():
        if not (isinstance(value, dict) and isinstance(base.get(key), dict)):
            assert merged[key] == value


@pytest.mark.slow
@given(MAPS, MAPS)
def test_a_merged_value_keeps_the_place_of_the_layer_it_came_from(
    base: dict[str, object], over: dict[str, object]
) -> None:
    merged = merge(node(base, "base"), node(over, "over"))
    for name, child in merged.entries.items():
        assert child.key == (f"over.{name}" if name in over else f"base.{name}")


def test_every_node_knows_its_line_and_key() -> None:
    root = read("a:\n  b:\n    - x\n    - {c: y}\n", Findings("f"))
    b = root.get("a", "b")
    assert b is not None
    assert isinstance(b.value, tuple)
    assert [(item.line, item.key) for item in (b, *b.value)] == [(2, "a.b"), (3, "a.b.0"), (4, "a.b.1")]
    assert b.value[1].get("c") == Node("y", 4, "a.b.1.c")


def test_an_alias_has_the_place_of_its_anchor() -> None:
    root = read("a: &x {p: 1}\nb: *x\n", Findings("f"))
    assert root.get("b", "p") == Node("1", 1, "a.p")


def test_own_keys_beat_merged_ones_and_earlier_sources_later_ones() -> None:
    root = read("x: &x {p: 1, q: 1}\ny: &y {q: 2, r: 2}\nz: {q: 3, <<: [*x, *y]}\n", Findings("f"))
    z = root.get("z")
    assert z is not None
    assert z.plain() == {"p": "1", "q": "3", "r": "2"}


def test_only_null_is_not_text() -> None:
    root = read("[null, ~, , 'null', nullx, yes, 1, 2020-01-01, =]".replace(", ,", ",\n"), Findings("f"))
    assert root.plain() == [None, None, "null", "nullx", "yes", "1", "2020-01-01", "="]
