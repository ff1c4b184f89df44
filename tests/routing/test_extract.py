"""Which place of a request is asked for the model, and the query."""

from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.errors import MalformedRequest
from ai_proxy.routing.extract import ModelFinder, finder_for, model_in_query, rename_in_query
from ai_proxy.routing.json_body import JsonFinder

JSON = b'{"model":"chat","prompt":"hi"}'


def read(finder: ModelFinder, *chunks: bytes) -> str | None:
    for chunk in chunks:
        if finder.feed(chunk):
            return finder.name
    finder.finish()
    return finder.name


class TestContentTypes:
    @pytest.mark.parametrize(
        "content_type",
        [
            b"application/json",
            b"Application/JSON; charset=utf-8",
            b"application/vnd.api+json",
            b"text/plain",
            b"application/x-www-form-urlencoded",
            b"application/octet-stream",
            b"",
            None,
        ],
    )
    def test_a_body_that_looks_like_json_is_read_whatever_its_type(self, content_type: bytes | None) -> None:
        assert read(finder_for(content_type), JSON) == "chat"
        assert read(finder_for(content_type), b"\xef\xbb\xbf", b" \n", JSON[:1], JSON[1:]) == "chat"

    @pytest.mark.parametrize("content_type", [b"audio/wav", b"application/x-www-form-urlencoded", None])
    def test_any_other_body_names_no_model_and_is_not_waited_for(self, content_type: bytes | None) -> None:
        finder = finder_for(content_type)
        assert finder.feed(b"RIFF....") is True
        assert finder.name is None
        assert finder.take() == b"RIFF...."

    def test_what_is_declared_as_json_must_be_json(self) -> None:
        with pytest.raises(MalformedRequest, match="not valid JSON"):
            read(finder_for(b"application/json"), b"model=chat")

    @pytest.mark.parametrize("content_type", [b"application/json", b"text/plain", None])
    @pytest.mark.parametrize("chunks", [(), (b"",), (b"", b"")])
    def test_an_empty_body_names_no_model(self, content_type: bytes | None, chunks: tuple[bytes, ...]) -> None:
        assert read(finder_for(content_type), *chunks) is None

    def test_truncated_json_is_malformed(self) -> None:
        with pytest.raises(MalformedRequest, match="it ends too early"):
            read(finder_for(None), b'{"model":"ch')

    @pytest.mark.parametrize("content_type", [b"multipart/form-data", b"multipart/form-data; boundary=" + b"x" * 71])
    def test_a_form_needs_a_boundary(self, content_type: bytes) -> None:
        with pytest.raises(MalformedRequest, match="boundary"):
            finder_for(content_type)

    def test_a_body_in_pieces_is_handed_over_whole_and_once(self) -> None:
        finder = finder_for(b"application/json")
        assert read(finder, JSON[:5], JSON[5:9], JSON[9:]) == "chat"
        assert finder.take() == JSON
        assert finder.take() == b""

    def test_a_body_is_handed_over_renamed(self) -> None:
        finder = finder_for(b"application/json")
        read(finder, JSON)
        assert finder.take(rename="Qwen/Qwen3-8B") == b'{"model":"Qwen/Qwen3-8B","prompt":"hi"}'

    def test_a_body_of_no_byte_asks_for_no_stream(self) -> None:
        finder = JsonFinder(declared=True)
        assert read(finder, b"") is None
        assert not finder.asks_for_stream()

    def test_a_whole_body_is_not_copied(self) -> None:
        finder = finder_for(b"application/json")
        read(finder, JSON)
        assert finder.take() is JSON


class TestQuery:
    @pytest.mark.parametrize(
        ("query", "name"),
        [
            (b"", None),
            (b"a=1", None),
            (b"model=", None),
            (b"model", None),
            (b"model=chat", "chat"),
            (b"a=1&model=chat&b", "chat"),
            (b"%6dodel=ch%61t", "chat"),
            (b"model=a+b", "a b"),
            (b"model=a=b", "a=b"),
            (b"model=%E6%97%A5", "日"),
            (b"model=chat&model=chat", "chat"),
            (b"mymodel=x&models=y&x=model", None),
        ],
    )
    def test_the_model_is_found(self, query: bytes, name: str | None) -> None:
        assert model_in_query(query) == name

    def test_b41_a_semicolon_separates_nothing(self) -> None:
        assert model_in_query(b"a=1;model=x") is None
        assert model_in_query(b"model=1;b=2") == "1;b=2"

    def test_two_different_models_are_refused(self) -> None:
        with pytest.raises(MalformedRequest, match="more than one `model`"):
            model_in_query(b"model=a&model=b")

    def test_a_model_that_is_not_utf8_is_refused(self) -> None:
        with pytest.raises(MalformedRequest, match="not UTF-8"):
            model_in_query(b"model=%FF")

    @pytest.mark.slow
    @given(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4))), st.text(min_size=1, max_size=8))
    def test_only_the_pair_is_replaced(self, pairs: list[tuple[str, str]], new: str) -> None:
        others = [f"{quote(key)}={quote(value)}".encode() for key, value in pairs if key != "model"]
        query = b"&".join([*others, b"mod%65l=old"])
        renamed = rename_in_query(query, new)
        assert renamed.split(b"&")[:-1] == query.split(b"&")[:-1]
        assert parse_qsl(renamed.rpartition(b"&")[2].decode()) == [("model", new)]
