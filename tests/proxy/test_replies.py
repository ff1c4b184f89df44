"""Errors in the words of each API."""

import json

import pytest

from ai_proxy.engines.profile import Dialect
from ai_proxy.errors import (
    ClientTooSlow,
    NoRoom,
    ProxyError,
    QueueFull,
    StartFailed,
    UnknownModel,
    UpstreamBroken,
)
from ai_proxy.proxy.replies import refusal, reply, sse_event


def fields(error: ProxyError, dialect: Dialect = Dialect.OPENAI) -> dict[bytes, bytes]:
    return dict(reply(error, "r-1", dialect).headers)


def test_60_an_openai_error_names_cause_kind_service_and_request() -> None:
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


def test_a_client_s_own_error_needs_no_word_on_retries() -> None:
    assert not {b"x-should-retry", b"retry-after"} & fields(UnknownModel("m")).keys()


def test_12_an_error_in_a_stream_is_an_event_and_never_the_end_mark() -> None:
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
