"""Turns what pydantic found into faults: the place in the file, what is wrong in words, and the fix.

Owns the wording. Knows the models' fields (for examples and unknown keys) and the nodes (for places).
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ai_proxy.config.document import Findings, Node
from ai_proxy.config.fields import Rejected
from ai_proxy.config.models import RuntimeKind
from ai_proxy.config.section import Section
from ai_proxy.config.words import advice, is_map, section_of

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

type Loc = Sequence[str | int]

_WANTED = {
    "bool": "true or false",
    "dict": "a mapping (key: value)",
    "float": "a number",
    "int": "a whole number",
    "model": "a mapping (key: value)",
    "string": "text",
    "tuple": "a list",
}

_SHAPES = frozenset({_WANTED["dict"], _WANTED["model"], _WANTED["tuple"]})


def explain(details: "Iterable[ErrorDetails]", model: type[Section], root: Node, findings: Findings) -> None:
    """Note every fault that pydantic found.

    Args:
        details: The errors of `model.model_validate(root.plain())`.
        model: The model that was asked.
        root: The node that was validated.
        findings: Gets the faults.
    """
    for detail in details:
        loc = detail["loc"]
        node, missing = _locate(root, loc)
        section, field = _owner(model, loc)
        if detail["type"] == "extra_forbidden":
            findings.add(node, "unknown key", advice(str(loc[-1]), section))
            continue
        message, fix = _words(detail, field)
        findings.add(node, message, fix, child=missing if detail["type"] == "missing" else "")


def _locate(root: Node, loc: Loc) -> tuple[Node, str]:
    """The deepest node on a path, and the last part if that is not in the file.

    Parts that the file does not have (pydantic's names for the arms of a union) are stepped over.
    """
    node, missing = root, ""
    for part in loc:
        child = node.entries.get(str(part))
        if child is None and isinstance(node.value, tuple) and isinstance(part, int):
            child = node.value[part]
        missing = str(part) if child is None else ""
        node = child or node
    return node, missing


def _owner(model: type[Section], loc: Loc) -> tuple[type[Section], "FieldInfo | None"]:
    """The section in which a path ends, and the field that its last known part names."""
    section, field, own_name = model, None, False
    for part in loc[:-1]:
        known = section.model_fields.get(str(part)) if not own_name else None
        own_name = False
        if known is not None:
            field, section, own_name = known, section_of(known) or section, is_map(known)
    last = section.model_fields.get(str(loc[-1])) if loc and not own_name else None
    return section, last or field


def _words(detail: "ErrorDetails", field: "FieldInfo | None") -> tuple[str, str]:
    """What is wrong, and what to write."""
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    example = _example(field)
    if isinstance(rejected := context.get("error"), Rejected):
        return rejected.message, rejected.fix
    if kind == "missing":
        return "this key is required", f"add it, for example {example}" if example else "add it"
    if kind in {"enum", "literal_error", "union_tag_invalid"}:
        return _unknown_value(given, _choices(context))
    if kind.startswith("string_pattern"):
        return f"not of the form {context['pattern']}: {_shown(given)}", f"write, for example, {example}"
    wanted = _WANTED.get(kind.partition("_")[0])
    if wanted is not None and kind.endswith(("_type", "_parsing", "_from_float")):
        return f"not {wanted}: {_shown(given)}", f"write {wanted}" + (
            f" such as {example}" if example and wanted not in _SHAPES else ""
        )
    message = detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"must be {message}, not {_shown(given)}", f"write, for example, {example}" if example else "change it"


def _unknown_value(given: object, choices: Sequence[str]) -> tuple[str, str]:
    if given == "nvidia" and RuntimeKind.DOCKER in choices:
        return "unknown value: 'nvidia'", "remove it: resources.gpus asks for GPUs"
    near = difflib.get_close_matches(str(given), choices, 1, 0.75)
    listed = ", ".join(choices)
    return f"unknown value: {_shown(given)}", f"write {near[0]}; known: {listed}" if near else f"write one of {listed}"


def _choices(context: Mapping[str, Any]) -> list[str]:
    """Pydantic lists them as `'a', 'b' or 'c'`."""
    return [part.strip(" '") for part in str(context.get("expected", "")).replace(" or ", ",").split(",")]


def _example(field: "FieldInfo | None") -> str:
    examples = field.examples if field else None
    if not examples:
        return ""
    first = examples[0]
    return str(first).replace("'", '"') if isinstance(first, dict | list) else str(first)


def _shown(value: object) -> str:
    match value:
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case None:
            return "nothing"
        case _:
            text = repr(value)
            return text if len(text) <= 60 else f"{text[:57]}…'"
