"""Where a response ends, decided from its head."""

import pytest

from ai_proxy.transport.errors import ProtocolError
from ai_proxy.transport.framing import Framing, frame

CL = b"Content-Length"
TE = b"Transfer-Encoding"


def test_b31_a_head_request_ends_at_the_headers_and_keeps_the_connection() -> None:
    assert frame(200, [(CL, b"5")], bodiless=True) == (Framing.EMPTY, 0, True)


@pytest.mark.parametrize("status", [204, 304])
def test_b32_a_status_without_body_ends_at_the_headers_whatever_they_say(status: int) -> None:
    assert frame(status, [(CL, b"5")]) == (Framing.EMPTY, 0, True)


def test_a_length_of_zero_is_no_body() -> None:
    assert frame(200, [(CL, b"0")]) == (Framing.EMPTY, 0, True)


def test_without_any_framing_the_body_ends_with_the_connection() -> None:
    assert frame(200, []) == (Framing.UNTIL_CLOSE, 0, False)


@pytest.mark.parametrize("value", [b"close", b"Close", b"keep-alive, close", b" close ,x"])
def test_close_among_the_connection_options_ends_the_connection(value: bytes) -> None:
    assert frame(200, [(b"connection", value), (CL, b"1")]) == (Framing.LENGTH, 1, False)


@pytest.mark.parametrize("value", [b"", b"keep-alive", b"closed"])
def test_other_connection_options_do_not(value: bytes) -> None:
    assert frame(200, [(b"Connection", value), (CL, b"1")]) == (Framing.LENGTH, 1, True)


@pytest.mark.parametrize("value", [b"text/event-stream", b"Text/Event-Stream; charset=utf-8"])
def test_after_an_event_stream_the_connection_is_not_used_again(value: bytes) -> None:
    assert frame(200, [(b"content-type", value), (TE, b"chunked")]) == (Framing.CHUNKED, 0, False)
    assert frame(200, [(b"content-type", b"text/plain"), (TE, b"chunked")]) == (Framing.CHUNKED, 0, True)


def test_http_1_0_never_persists() -> None:
    assert frame(200, [(b"Connection", b"keep-alive"), (CL, b"1")], http10=True) == (Framing.LENGTH, 1, False)


@pytest.mark.parametrize(
    "headers",
    [
        [(CL, b"5"), (CL, b"5")],
        [(CL, b"5"), (b"content-length", b"6")],
        [(CL, b"5"), (TE, b"chunked")],
        [(TE, b"chunked"), (TE, b"chunked")],
        [(TE, b"gzip, chunked")],
        [(TE, b"identity")],
        [(TE, b"xchunked")],
        *([(CL, value)] for value in (b"", b"+5", b"-5", b"5 5", b"5,5", b"0x5", b"5_0", b"\xb2", b"9" * 20)),
    ],
)
def test_b33_ambiguous_framing_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ProtocolError):
        frame(200, headers)


def test_b33_chunks_in_http_1_0_are_refused() -> None:
    with pytest.raises(ProtocolError):
        frame(200, [(TE, b"chunked")], http10=True)
