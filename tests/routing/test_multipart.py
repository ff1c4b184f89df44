"""The model in a form, found while the form arrives."""

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from ai_proxy.errors import MalformedRequest
from ai_proxy.routing.multipart import MultipartFinder, boundary_of

HEAD = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
AUDIO = bytes(range(256)) * 8


def field(value: bytes) -> bytes:
    return HEAD + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b--\r\n"


def finder(*chunks: bytes) -> MultipartFinder:
    found = MultipartFinder(b"b")
    for chunk in chunks:
        found.feed(chunk)
    return found


def pieces(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


MODEL_FIRST = form(field(b"whisper-1"), FILE + AUDIO + b"\r\n")
MODEL_LAST = form(FILE + AUDIO + b"\r\n", field(b"whisper-1"))


class TestFinding:
    @pytest.mark.parametrize("body", [MODEL_FIRST, MODEL_LAST], ids=["before", "after"])
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
    def test_the_field_is_found_before_or_after_the_file_in_pieces_of_any_size(self, body: bytes, size: int) -> None:
        found = finder(*pieces(body, size))
        found.finish()
        assert found.name == "whisper-1"
        assert found.take() == body

    def test_reading_stops_at_the_field(self) -> None:
        found = MultipartFinder(b"b")
        assert found.feed(field(b"whisper-1")) is False
        assert found.feed(b"--b\r\nContent-") is True
        assert found.name == "whisper-1"
        assert found.take() == field(b"whisper-1") + b"--b\r\nContent-"

    def test_a_long_file_in_one_piece_is_not_mistaken_for_headers(self) -> None:
        assert finder(form(FILE + AUDIO * 100 + b"\r\n", field(b"a"))).name == "a"

    def test_a_form_without_the_field_names_no_model(self) -> None:
        found = finder(form(FILE + AUDIO + b"\r\n"))
        found.finish()
        assert found.name is None

    def test_an_empty_form_and_an_empty_field_name_no_model(self) -> None:
        assert finder(b"--b--").name is None
        assert finder(form(field(b""))).name is None

    @pytest.mark.parametrize(
        "header",
        [
            b"content-DISPOSITION:form-data;name=model",
            b'X: y\r\nContent-Disposition: form-data; name="model"\r\nContent-Type: text/plain',
            b"Content-Disposition: form-data; name=\"model\"; name*=utf-8''x",
        ],
    )
    def test_the_field_is_known_however_its_header_is_written(self, header: bytes) -> None:
        assert finder(b"--b\r\n" + header + b"\r\n\r\na\r\n--b--").name == "a"

    @pytest.mark.parametrize(
        "header",
        [
            b'Content-Disposition: form-data; name="models"',
            b'Content-Disposition: form-data; name="x;name=model"',
            b'Content-Disposition: form-data; name="x"; filename="name=model"',
            b"X: model",
            b"",
        ],
    )
    def test_other_parts_are_not_the_field(self, header: bytes) -> None:
        part = b"--b\r\n" + (header + b"\r\n" if header else b"") + b"\r\ndecoy\r\n"
        assert finder(form(part, field(b"a"))).name == "a"

    def test_a_file_that_quotes_a_field_is_a_file(self) -> None:
        quoted = HEAD.replace(b"--b", b"--c") + b"decoy\r\n--c--"
        assert finder(form(FILE + quoted + b"\r\n", field(b"a"))).name == "a"

    def test_what_httpx_writes_is_read(self) -> None:
        request = httpx.Request(
            "POST", "http://x/v1/audio/transcriptions", data={"model": "日本"}, files={"file": ("a.wav", AUDIO)}
        )
        found = MultipartFinder(boundary_of(request.headers["content-type"].encode()))
        found.feed(request.read())
        found.finish()
        assert found.name == "日本"


class TestRefusing:
    @pytest.mark.parametrize(
        ("body", "cause"),
        [
            (b"preamble\r\n" + MODEL_FIRST, "does not begin with the boundary"),
            (MODEL_FIRST.replace(b"--b", b"--c"), "does not begin with the boundary"),
            (b"{}", "does not begin with the boundary"),
            (b"--bx\r\n", "neither a line break nor --"),
            (b"--b \r\n", "neither a line break nor --"),
            (form(field(b"a"), field(b"a")), "two `model` fields"),
            (form(field(b"a"), FILE + b"\r\n", field(b"b")), "two `model` fields"),
            (form(field(b"x" * 1025)), "longer than 1024 bytes"),
            (HEAD + b"x" * 1100, "longer than 1024 bytes"),
            (form(field(b"\xff")), "not UTF-8"),
            (b"--b\r\nX: " + b"y" * 17_000, "more than 16384 bytes of headers"),
            (b"--b\r\nX: " + b"y" * 17_000 + b"\r\n\r\n", "more than 16384 bytes of headers"),
            (HEAD.replace(b"\r\n\r\n", b"\r\nX: a\n b: c\r\n\r\n"), "control characters"),
            (HEAD.replace(b"\r\n\r\n", b"\r\nnothing\r\n\r\n"), "without a colon"),
            (HEAD.replace(b"; name", b";\r\n name"), "folded"),
            (HEAD.replace(b"\r\n\r\n", b'\r\nContent-Disposition: form-data; name="x"\r\n\r\n'), "two Content-Disp"),
            (HEAD.replace(b'"model"', b'"model"; filename="x"'), "is a file"),
        ],
    )
    @pytest.mark.parametrize("size", [1, 1000, 100_000])
    def test_a_form_that_engines_could_read_differently_says_what_is_wrong(
        self, body: bytes, cause: str, size: int
    ) -> None:
        with pytest.raises(MalformedRequest, match=cause):
            finder(*pieces(body, size))

    @pytest.mark.parametrize("cut", [0, 1, 5, 20, len(HEAD), len(HEAD) + 3, len(MODEL_FIRST) - 5])
    def test_a_truncated_form_says_so(self, cut: int) -> None:
        with pytest.raises(MalformedRequest, match="ends before its closing boundary"):
            finder(MODEL_FIRST[:cut]).finish()

    @pytest.mark.parametrize("size", [1, 10, 100_000])
    def test_a_second_field_is_refused_also_after_the_first_was_taken(self, size: int) -> None:
        found = finder(field(b"a") + b"--b")
        assert found.take() == field(b"a") + b"--b"
        rest = form(FILE + AUDIO + b"\r\n", field(b"b"))[len(b"--b") :]
        with pytest.raises(MalformedRequest, match="two `model` fields"):
            [found.feed(piece) for piece in pieces(rest, size)]


class TestTaking:
    @pytest.mark.parametrize("body", [MODEL_FIRST, MODEL_LAST], ids=["before", "after"])
    def test_only_the_field_is_replaced(self, body: bytes) -> None:
        assert finder(body).take(rename="Systran/faster") == body.replace(b"whisper-1", b"Systran/faster")

    def test_what_was_taken_is_not_held(self) -> None:
        found = finder(field(b"a"), FILE + AUDIO)
        found.take()
        for _ in range(100):
            found.feed(AUDIO)
        assert len(found._held) <= len(b"\r\n--b")


class Oracle:
    """python-multipart, which the engines built on Starlette use, as a second opinion."""

    def __init__(self, body: bytes) -> None:
        self.parts: list[tuple[bytes, bytes]] = []
        self.complete = False
        self._header: list[bytes] = [b"", b""]
        callbacks: Any = {
            "on_part_begin": lambda: self.parts.append((b"", b"")),
            "on_header_begin": self._begin,
            "on_header_field": lambda data, start, end: self._grow(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._grow(1, data[start:end]),
            "on_header_end": self._end,
            "on_part_data": self._data,
            "on_end": lambda: setattr(self, "complete", True),
        }
        MultipartParser(b"b", callbacks).write(body)

    def _begin(self) -> None:
        self._header = [b"", b""]

    def _grow(self, which: int, data: bytes) -> None:
        self._header[which] += data

    def _end(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            name = parse_options_header(self._header[1])[1].get(b"name", b"")
            self.parts[-1] = (name, self.parts[-1][1])

    def _data(self, data: bytes, start: int, end: int) -> None:
        name, value = self.parts[-1]
        self.parts[-1] = (name, value + data[start:end])


BREAKS = (b"\r\n", b"\r\n--b", b"\r\n--b--", b"\r\n\r\n")
BITS = st.sampled_from([*b"--b \r \n -- - b a : x:".split(b" "), *BREAKS, HEAD, FILE, HEAD[3:], HEAD[5:]])


@pytest.mark.slow
@given(st.lists(BITS, max_size=12).map(b"".join), st.integers(1, 40))
def test_what_is_accepted_means_the_same_to_python_multipart(body: bytes, size: int) -> None:
    found = MultipartFinder(b"b")
    try:
        for piece in pieces(body, size):
            found.feed(piece)
        found.finish()
    except MalformedRequest:
        return
    try:
        oracle = Oracle(body)
    except MultipartParseError as error:
        pytest.fail(f"accepted what python-multipart refuses: {error}")
    assert oracle.complete
    assert [value for name, value in oracle.parts if name == b"model"] == (
        [] if found._place is None else [(found.name or "").encode()]
    )
    assert found.take() == body
