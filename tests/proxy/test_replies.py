"""Errors in the words of each API."""

import json

import pytest

from ai_proxy.engines.profile import Dialect
from ai_proxy.errors import (
    CannotServe,
    ClientTooSlow,
    NoRoom,
    NotReady,
    ProxyError,
    QueueFull,
    StartFailed,
    TooLate,
    UnknownModel,
    UpstreamBroken,
)
from ai_proxy.proxy.replies import refusal, reply, sse_event


def fields(error: ProxyError, dialect: Dialect = Dialect.OPENAI) -> dict[bytes, bytes]:
    return dict(reply(error, "r-1", dialect).headers)


def test_b60_an_openai_error_names_cause_kind_service_and_request() -> None:
    status, _, body = reply(UnknownModel("no service offers 'x'", param="model"), "r-1")

    assert status == 404
    assert json.loads(body) == {
        "error": {
            "message": "no service offers 'x'",
            "type": "invalid_request_error",
            "code": "model_not_found",
            "param": "model",
            "service": None,
            "retry_after_s": None,
            "request_id": "r-1",
        }
    }


def test_a_failed_start_shows_the_last_lines_of_the_engine() -> None:
    body = reply(StartFailed("exit code 1", log_tail=("a", "b"), service="chat"), "r-1").body

    assert json.loads(body)["error"]["log_tail"] == ["a", "b"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnknownModel("m"), "not_found_error"),
        (QueueFull("m"), "overloaded_error"),
        (UpstreamBroken("m"), "api_error"),
        (ClientTooSlow("m"), "invalid_request_error"),
    ],
)
def test_an_anthropic_error_has_that_api_s_shape_and_types(error: ProxyError, kind: str) -> None:
    content = json.loads(reply(error, "r-1", Dialect.ANTHROPIC).body)

    assert (content["type"], content["error"]["type"], content["request_id"]) == ("error", kind, "r-1")


def test_an_ollama_error_is_one_string() -> None:
    assert json.loads(reply(QueueFull("full"), "r-1", Dialect.OLLAMA).body) == {"error": "full (request r-1)"}


@pytest.mark.parametrize(("after_s", "said"), [(None, b"1"), (0.2, b"1"), (2.1, b"3"), (3600, b"120")])
def test_what_a_retry_can_mend_says_when(after_s: float | None, said: bytes) -> None:
    headers = fields(QueueFull("full", retry_after_s=after_s))

    assert headers[b"retry-after"] == said
    assert b"x-should-retry" not in headers


@pytest.mark.parametrize("error", [NoRoom("m"), ProxyError("m"), ClientTooSlow("m")])
def test_what_a_retry_cannot_mend_says_so_where_clients_would_retry(error: ProxyError) -> None:
    headers = fields(error)

    assert headers[b"x-should-retry"] == b"false"
    assert b"retry-after" not in headers


def test_a_long_wait_is_told_in_full_where_no_client_waits_for_it_by_itself() -> None:
    status, headers, body = reply(TooLate("it takes a while", retry_after_s=412.4), "r-1")

    assert (status, dict(headers)[b"retry-after"]) == (503, b"120")
    assert json.loads(body)["error"]["retry_after_s"] == 413


SOON = pytest.mark.parametrize("error", [NotReady("m", retry_after_s=9), TooLate("m", retry_after_s=9)], ids=repr)


@SOON
@pytest.mark.parametrize("dialect", Dialect)
def test_who_may_not_wait_or_swap_is_told_when_to_come_back_in_any_words(error: CannotServe, dialect: Dialect) -> None:
    status, headers, body = reply(error, "r-1", dialect)

    assert (status, dict(headers)[b"retry-after"]) == (503, b"9")
    assert b"x-should-retry" not in dict(headers)
    said = json.loads(body)["error"]
    match dialect:
        case Dialect.OPENAI:
            assert (said["type"], said["code"], said["retry_after_s"]) == ("server_error", error.code, 9)
        case Dialect.ANTHROPIC:
            assert (said["type"], said["code"]) == ("overloaded_error", error.code)
        case Dialect.OLLAMA:
            assert said == "m (request r-1)"


def test_a_client_s_own_error_needs_no_word_on_retries() -> None:
    assert not {b"x-should-retry", b"retry-after"} & fields(UnknownModel("m")).keys()


def test_b12_an_error_in_a_stream_is_an_event_and_never_the_end_mark() -> None:
    event = sse_event(UpstreamBroken("it closed early"), "r-1")

    assert event.startswith(b'data: {"error":')
    assert event.endswith(b"\n\n")
    assert b"[DONE]" not in event
    assert sse_event(UpstreamBroken("m"), "r-1", Dialect.ANTHROPIC).startswith(b"event: error\ndata: ")


def test_a_refusal_is_a_whole_response_that_ends_the_connection() -> None:
    head, _, body = refusal(ClientTooSlow("m"), "r-1").partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert head.endswith(b"connection: close")
    assert b"content-length: %d\r\n" % len(body) in head
