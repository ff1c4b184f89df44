"""The model in a JSON body: found as a strict parser finds it, replaced where it stands."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ai_proxy.errors import MalformedRequest
from ai_proxy.routing.json_body import model_in_json, rename_in_json


def strict(body: bytes) -> Any:
    """What RFC 8259 says, by the standard library: UTF-8, no NaN, no lone surrogates."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    value = json.loads(body.removeprefix(b"\xef\xbb\xbf").decode(), parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode()
    return value


class TestFinding:
    @pytest.mark.parametrize(
        ("body", "name"),
        [
            (b'{"model":"a"}', "a"),
            (b' \n{"x": [1, {"model": "no"}], "model"\t:\r\n"a" } ', "a"),
            (rb'{"\u006d\u006Fdel": "\u0061"}', "a"),
            (b'{"model":"a","model":"b"}', "b"),
            (b'{"model":1,"model":"b"}', "b"),
            (b'{"model":"a","model":null}', None),
            (b'{"messages":[{"content":"\\"model\\": \\"no\\""}],"model":"a"}', "a"),
            (b'{"model\\u0000":"no"}', None),
            (b'{"Model":"no"}', None),
            (b'\xef\xbb\xbf{"model":"a"}', "a"),
            ('{"model":"日本"}'.encode(), "日本"),
            (rb'{"model":"\ud83d\ude00"}', "😀"),
            (b'{"model":null}', None),
            (b'{"model":""}', None),
            (b"{}", None),
        ],
    )
    def test_the_top_level_model_is_found(self, body: bytes, name: str | None) -> None:
        assert model_in_json(body) == name

    @pytest.mark.parametrize(
        ("body", "cause"),
        [
            (b'{"model":"a"', "it ends too early"),
            (b'{"model":"a', "it ends too early"),
            (b"", "it ends too early"),
            (b'{"model":"a"}}', r"trailing characters \(byte 14\)"),
            (b'{"model":"a",}', r"trailing comma in object \(byte 13\)"),
            (b"{'model':'a'}", r"\(byte 1\)"),
            (b"model=a", r"invalid character \(byte 0\)"),
            (b'{"model":"a","x":NaN}', "invalid character"),
            (b'{"model":"a","x":01}', "invalid number"),
            (rb'{"model":"a","x":"\ud800"}', "hex escape|too early"),
            (b'{"model":"a\n"}', "invalid character"),
            ('{"model":"a"}'.encode("utf-16"), "send JSON as UTF-8"),
            (b'["model"]', "must be a JSON object"),
            (b'"model"', "must be a JSON object"),
            (b"null", "must be a JSON object"),
            (b'{"model":"\xff"}', r"not valid UTF-8 \(byte 10\)"),
            (b'{"x":"\xff","model":"a"}', r"not valid UTF-8 \(byte 6\)"),
            (b'{"model":"\xc3"}', "not valid UTF-8"),
            (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
            (b'{"x":' + b"[" * 100_000, "nested too deeply"),
            (b'{"model":' + b'{"model":' * 100_000, "nested too deeply"),
        ],
    )
    def test_a_body_that_is_not_json_says_what_is_wrong(self, body: bytes, cause: str) -> None:
        with pytest.raises(MalformedRequest, match=cause):
            model_in_json(body)

    @pytest.mark.parametrize(
        ("value", "kind"),
        [("1", "a number"), ("1.5", "a number"), ("true", "a boolean"), ("[]", "an array"), ('{"a":1}', "an object")],
    )
    def test_a_model_of_the_wrong_type_says_which(self, value: str, kind: str) -> None:
        with pytest.raises(MalformedRequest, match=f"`model` must be a string, not {kind}") as caught:
            model_in_json(f'{{"model":{value}}}'.encode())
        assert caught.value.param == "model"

    def test_a_hundred_levels_are_fine(self) -> None:
        assert model_in_json(b'{"x":' + b"[" * 100 + b"]" * 100 + b',"model":"a"}') == "a"


def ref_model(body: bytes) -> tuple[str, object]:
    try:
        value = strict(body)
    except (ValueError, RecursionError):
        return ("refused", None)
    if not isinstance(value, dict) or not isinstance(value.get("model"), str | None):
        return ("refused", None)
    return ("found", value.get("model") or None)


def our_model(body: bytes) -> tuple[str, object]:
    try:
        return ("found", model_in_json(body))
    except MalformedRequest:
        return ("refused", None)


TOKENS = rb'{ } [ ] , : "model" "model": "a" null true NaN -Infinity 1 0 01 -1 -0 1. .5 1e5 1E+5 1e 1e400 - / /**/ a'
IN_STRINGS = rb'" \ \u006d \ud800 \udc00 \ud83d\ude00 \u00 \n \x'
RAW = (
    b" ",
    b"\t",
    b"\n",
    b"\r",
    b"\x0b",
    b"\x00",
    b"\x1f",
    b"\x7f",
    b"\xef\xbb\xbf",
    b"\xc3\xa9",
    b"\xff",
    b"\xed\xa0\x80",
)
JSON_BITS = st.sampled_from([*TOKENS.split(), *IN_STRINGS.split(), *RAW, b"\xf4\x90\x80\x80"])
SCALARS = st.none() | st.text() | st.floats(allow_nan=False, allow_infinity=False)


class TestAgainstTheStandardLibrary:
    @given(st.lists(JSON_BITS, max_size=12).map(b"".join))
    @example(b'{"model":"a","x":"\xed\xa0\x80"}')
    @example(b'\xef\xbb\xbf\xef\xbb\xbf{"model":"a"}')
    def test_soup_is_judged_alike(self, body: bytes) -> None:
        assert our_model(body) == ref_model(body)

    @given(st.lists(JSON_BITS, max_size=6).map(b"".join))
    def test_soup_in_a_skipped_field_is_judged_alike(self, bits: bytes) -> None:
        body = b'{"x":' + bits + b',"model":"a"}'
        assert our_model(body) == ref_model(body)

    @given(st.lists(JSON_BITS, max_size=6).map(b"".join))
    def test_soup_in_a_skipped_string_is_judged_alike(self, bits: bytes) -> None:
        body = b'{"model":"a","x":"' + bits + b'"}'
        assert our_model(body) == ref_model(body)

    @given(
        st.recursive(st.none() | st.text() | st.floats(allow_nan=False, allow_infinity=False), st.lists, max_leaves=5),
        st.data(),
    )
    def test_what_the_standard_library_writes_is_read(self, value: object, data: st.DataObject) -> None:
        document = {"x": value, "model": "日本", "y": value}
        body = json.dumps(document, ensure_ascii=data.draw(st.booleans()), indent=data.draw(st.none() | st.just(2)))
        assert model_in_json(body.encode()) == "日本"


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


def spell(text: str, escaped: list[bool]) -> str:
    """Write a JSON string, some characters as \\u escapes."""
    units = (
        "".join(f"\\u{unit:04x}" for unit in _utf16(char)) if escape else json.dumps(char, ensure_ascii=False)[1:-1]
        for char, escape in zip(text, escaped, strict=True)
    )
    return '"' + "".join(units) + '"'


def _utf16(char: str) -> list[int]:
    raw = char.encode("utf-16-be")
    return [int.from_bytes(raw[at : at + 2]) for at in range(0, len(raw), 2)]


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    return spell(text, draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text))))


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bytes, bytes, str]:
    """A body in three parts, the middle one the value that counts, and its name; decoys and duplicates around it."""
    name = draw(NAMES)
    space = st.sampled_from(["", " ", "\n\t"])

    def pair(value: str) -> str:
        return f"{draw(spelled('model'))}{draw(space)}:{draw(space)}{value}"

    def decoy() -> str:
        value = draw(spelled(draw(st.sampled_from([name, "other"]))))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            return f'"x":{{{pair(value)}}}'
        if kind == 1:
            return f'"y":[{{{pair(value)},"z":1}}]'
        if kind == 2:
            return f'"a\\"model":{value}'
        if kind == 3:
            return f'"w":{json.dumps(pair(value))}'
        return '"v":"model"'

    before = [decoy() if draw(st.booleans()) else pair(draw(spelled(name))) for _ in range(draw(st.integers(0, 4)))]
    after = [decoy() for _ in range(draw(st.integers(0, 4)))]
    key = f"{draw(spelled('model'))}{draw(space)}:{draw(space)}"
    head = "{" + "".join(part + "," for part in before) + key
    tail = "".join("," + part for part in after) + "}"
    return head.encode(), draw(spelled(name)).encode(), tail.encode(), name


class TestRenaming:
    @pytest.mark.slow
    @given(bodies(), NAMES)
    def test_only_the_value_that_counts_is_replaced(self, body: tuple[bytes, bytes, bytes, str], new: str) -> None:
        head, value, tail, name = body
        whole = head + value + tail
        assert model_in_json(whole) == name
        renamed = rename_in_json(whole, name, new)
        assert model_in_json(renamed) == new
        if new == name:
            assert renamed == whole
        else:
            assert renamed == head + msgspec.json.encode(new) + tail

    @pytest.mark.parametrize("first", [True, False])
    def test_ten_thousand_decoys_cost_one_more_decoding(self, first: bool) -> None:
        decoys = b",".join([b'{"model":"a"}'] * 10_000)
        body = b'{"model":%s,"x":[' + decoys + b"]}" if first else b'{"x":[' + decoys + b'],"model":%s}'
        assert rename_in_json(body % b'"a"', "a", "b") == body % b'"b"'

    @pytest.mark.parametrize("key", [b"model", b"mod\\u0065l"])
    def test_more_of_them_than_can_be_searched_in_passing_are_refused(self, key: bytes) -> None:
        body = b'{"' + key + b'":"a","x":[' + b",".join([b'{"model":"a"}'] * 20_000) + b"]}"
        with pytest.raises(MalformedRequest, match="20000 keys"):
            rename_in_json(body, "a", "b")

    def test_a_name_that_needs_escapes_is_escaped(self) -> None:
        assert rename_in_json(b'{"model":"a"}', "a", 'q"\\\n') == rb'{"model":"q\"\\\n"}'

    def test_a_byte_order_mark_stays(self) -> None:
        assert rename_in_json(b'\xef\xbb\xbf{"model":"a"}', "a", "b") == b'\xef\xbb\xbf{"model":"b"}'
