"""Who may run together, from llama-swap's groups and matrix."""

import pytest

from tests.config.importing.conftest import Import

MODELS = "models: {a: {cmd: x}, b: {cmd: x}, c: {cmd: x}, d: {cmd: x}}\n"


def conflicts(imported: Import, text: str) -> dict[str, tuple[str, ...]]:
    services = imported(MODELS + text).config.services
    return {name: service.conflicts for name, service in services.items() if service.conflicts}


def test_nothing_said_means_that_memory_decides(imported: Import) -> None:
    assert conflicts(imported, "") == {}


@pytest.mark.parametrize(
    "place",
    ["groups: {{{}}}", "routing: {{router: {{settings: {{groups: {{{}}}}}}}}}"],
    ids=["at the top", "under routing"],
)
def test_members_of_a_group_that_swaps_conflict(place: str, imported: Import) -> None:
    assert conflicts(imported, place.format("g: {members: [a, b, c]}")) == {"a": ("b", "c"), "b": ("c",)}
    assert conflicts(imported, place.format("g: {swap: false, members: [a, b, c]}")) == {}


def test_groups_that_unload_each_other_conflict(imported: Import) -> None:
    groups = "groups: {g: {swap: false, members: [a, b]}, h: {swap: false, members: [c]}}"
    assert conflicts(imported, groups) == {"a": ("c",), "b": ("c",)}


def test_that_one_group_unloads_another_in_one_order_only_is_told(imported: Import) -> None:
    result = imported(MODELS + "groups: {g: {members: [a]}, h: {exclusive: false, members: [b]}}")
    assert [service.conflicts for service in result.config.services.values()] == [(), (), (), ()]
    assert [line.partition(": ")[0] for line in result.left] == ["groups.g.exclusive"]


def test_a_persistent_group_is_pinned(imported: Import) -> None:
    services = imported(MODELS + "groups: {g: {persistent: true, swap: false, members: [a, b]}}").config.services
    assert [name for name, service in services.items() if service.pinned] == ["a", "b"]


def test_a_persistent_group_that_swaps_can_not_be_pinned(imported: Import) -> None:
    result = imported(MODELS + "groups: {g: {persistent: true, members: [a, b]}}")
    assert not any(service.pinned for service in result.config.services.values())
    assert "# Group g is persistent there" in result.text


def test_models_that_no_set_of_a_matrix_has_together_conflict(imported: Import) -> None:
    matrix = """
matrix:
  vars: {x: a, y: b}
  evict_costs: {x: 5}
  sets: {main: "(x | y) & c", more: "+main & d"}
"""
    assert conflicts(imported, matrix) == {"a": ("b",)}
    assert imported(MODELS + matrix).config.services["a"].weight == 5


def test_a_model_in_no_set_runs_alone(imported: Import) -> None:
    assert conflicts(imported, "matrix: {sets: {s: a & b & c}}") == {"a": ("d",), "b": ("d",), "c": ("d",)}


@pytest.mark.parametrize("expression", ["a &", "(a | b", "+s & a", "+none", "a ~ b", "a b", "|"])
def test_an_expression_that_can_not_be_read_is_told(expression: str, imported: Import) -> None:
    result = imported(f"{MODELS}matrix: {{sets: {{s: '{expression}'}}}}")
    (left,) = result.left
    assert left.startswith("matrix: a set ")
    assert left.endswith("write conflicts in the services concerned")


def test_an_expression_that_grows_without_end_is_told(imported: Import) -> None:
    models = "models: {" + ", ".join(f"m{number}: {{cmd: x}}" for number in range(40)) + "}"
    sets = " & ".join(f"(m{number} | m{number + 1})" for number in range(0, 40, 2))
    assert "more than 10000 sets" in imported(f"{models}\nmatrix: {{sets: {{s: '{sets}'}}}}").left[0]
