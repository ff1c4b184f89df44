"""Only the documented forms are ever replaced."""

import contextlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.config.fields import Rejected
from ai_proxy.config.substitute import fill, substitute

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
TEXTS = st.text(st.sampled_from(string.ascii_letters + " ${}:-?\"',[]é"), max_size=30)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "1"),
        ("x${A}y${A}z", "x1y1z"),
        ("${EMPTY}", ""),
        ("${EMPTY:-d}", "d"),
        ("${NONE:-d}", "d"),
        ("${NONE:-}", ""),
        ("${NONE:-${A}}", "1"),
        ("${NONE:-${EMPTY:-x}}", "x"),
        ('${NONE:-{"a": {"b": 1}}}', '{"a": {"b": 1}}'),
        ("${A:-${MISSING}}", "1"),
        ("${A:?message}", "1"),
        ("$A $$ $${A} $(A) {A} $", "$A $ ${A} $(A) {A} $"),
        ("$$$${A}", "$${A}"),
        ("$$${A}", "$1"),
    ],
)
def test_substitutes(text: str, expected: str) -> None:
    assert substitute(text, {"A": "1", "EMPTY": ""}) == expected


@pytest.mark.parametrize("text", ["${", "${}", "${A", "${1}", "${A-b}", "${A:+b}", "${A }", "${NONE:-${A}", "${A:b}"])
def test_refuses_forms_that_are_almost_right(text: str) -> None:
    with pytest.raises(Rejected, match="can't be read"):
        substitute(text, {"A": "1"})


@pytest.mark.parametrize("text", ["${NONE}", "${NONE:?m}", "${EMPTY:?m}", "${NONE:-${NONE}}"])
def test_refuses_a_missing_variable(text: str) -> None:
    with pytest.raises(Rejected, match=r"(NONE|EMPTY) is not set"):
        substitute(text, {"EMPTY": ""})


@given(TEXTS)
def test_escaping_every_dollar_gives_the_text_back(text: str) -> None:
    assert substitute(text.replace("$", "$$"), {}) == text


@given(st.dictionaries(NAMES, TEXTS, max_size=4), TEXTS)
def test_values_are_never_substituted_again(values: dict[str, str], between: str) -> None:
    template = between.replace("$", "$$").join(f"${{{name}}}" for name in values)
    assert substitute(template, values) == between.join(values.values())


@pytest.mark.slow
@given(TEXTS, st.dictionaries(NAMES, TEXTS))
def test_never_raises_anything_but_rejected(text: str, values: dict[str, str]) -> None:
    with contextlib.suppress(Rejected):
        substitute(text, values)


@given(TEXTS)
def test_filling_with_no_values_changes_nothing(text: str) -> None:
    assert fill(text, {}) == text


@given(st.dictionaries(NAMES, TEXTS, min_size=1, max_size=4), TEXTS)
def test_filling_replaces_exactly_the_known_names(values: dict[str, str], other: str) -> None:
    frame = "".join("{" + name + "}|" for name in values)
    assert fill(frame, values) == "".join(f"{value}|" for value in values.values())
    unknown = other if not any(f"{{{name}}}" in other for name in values) else ""
    assert fill(unknown, values) == unknown


def test_filling_leaves_json_alone() -> None:
    text = '{"port": 1, "x": {"id": "{id}"}, "y": [{}]}'
    assert fill(text, {"id": "a", "port": 2}) == '{"port": 1, "x": {"id": "a"}, "y": [{}]}'
