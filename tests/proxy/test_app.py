"""Requests through the whole data plane."""

import json

import pytest

from ai_proxy.config.models import Config
from ai_proxy.errors import QueueFull
from ai_proxy.metrics import Ending
from ai_proxy.routing.table import RouteTable
from ai_proxy.transport.origin import Origin
from tests.fakes.upstream import Upstream, answering, answering_once
from tests.proxy.plane import OK, SERVICES, chat, get, plane, post
from tests.proxy.serving import Client, until


def heard(upstream: Upstream, connection: int = 0) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Request line, fields and body of the only request on a connection."""
    head, _, body = upstream.peers[connection].received.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    return line, dict(field.split(b": ", 1) for field in fields), body


# Routing


async def test_a_request_is_routed_by_its_model_and_stays_byte_for_byte() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        body = b'{ "messages": [{"model": "decoy"}],\t"model":"chat" }'
        answer = await client.ask(post("/v1/chat/completions?a=1;b", body, "X-MiXed: \xe9"))

    line, fields, sent = heard(upstream)
    assert answer.status == 200
    assert (line, sent) == (b"POST /v1/chat/completions?a=1;b HTTP/1.1", body)
    assert fields[b"Host"] == b"ai.local"
    assert fields[b"X-MiXed"] == "\xe9".encode()
    assert fields[b"Content-Length"] == b"%d" % len(body)


async def test_a_mapped_model_is_replaced_and_nothing_else() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.ask(post("/v1/chat/completions", b'{"a": {"model": "gpt"}, "model": "gpt"}'))

    _, fields, sent = heard(upstream)
    assert sent == b'{"a": {"model": "gpt"}, "model": "Qwen/Qwen3"}'
    assert fields[b"Content-Length"] == b"%d" % len(sent)


async def test_a_mapped_model_in_the_query_is_replaced_there() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.ask(get("/props?x=%20&model=gpt"))

    assert heard(upstream)[0] == b"GET /props?x=%20&model=Qwen%2FQwen3 HTTP/1.1"


@pytest.mark.parametrize("model_first", [True, False])
async def test_a_mapped_model_in_a_form_is_replaced_before_or_after_its_file(model_first: bool) -> None:
    model = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n'
    file = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 200_000 + b"\r\n"
    parts = model + file if model_first else file + model
    body = parts.replace(b"%b", b"gpt") + b"--B--\r\n"
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(post("/v1/audio/transcriptions", body, type="multipart/form-data; boundary=B"))

    _, fields, sent = heard(upstream)
    assert answer.status == 200
    assert sent == parts.replace(b"%b", b"Qwen/Qwen3") + b"--B--\r\n"
    assert fields[b"Content-Length"] == b"%d" % len(sent)


async def test_a_prefix_is_stripped_and_the_rest_of_the_path_untouched() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.ask(get("/files//a%2Fb/../c?q=1"))

    assert heard(upstream)[0] == b"GET //a%2Fb/../c?q=1 HTTP/1.1"


async def test_a_header_names_the_service_and_is_not_passed_on() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.ask(get("/anything", "X-AI-Proxy-Service: files"))

    line, fields, _ = heard(upstream)
    assert line == b"GET /anything HTTP/1.1"
    assert b"X-AI-Proxy-Service" not in fields


async def test_the_base_path_of_a_grant_goes_before_and_v1_is_not_doubled() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        proxy.gate.base_paths["chat"] = b"/llm/v1"
        await client.ask(chat())

    assert heard(upstream)[0] == b"POST /llm/v1/chat/completions HTTP/1.1"


async def test_no_path_leads_out_of_the_base_path_of_a_grant() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        proxy.gate.base_paths["files"] = b"/tenants/7"
        assert (await client.ask(get("/files/a/..%2f../8/x"))).status == 400
        assert (await client.ask(get("/files/a..b?/../8"))).status == 200
        assert proxy.gate.open == []

    assert heard(upstream)[0] == b"GET /tenants/7/a..b?/../8 HTTP/1.1"


async def test_each_request_of_a_connection_is_routed_anew() -> None:
    async with Upstream(answering(OK)) as one, Upstream(answering(OK)) as other, plane(one) as proxy:
        proxy.gate.ready["files"] = other.origin
        async with Client.to(proxy.port) as client:
            for request in (chat(), get("/files/a"), chat()):
                assert (await client.ask(request)).status == 200

    assert one.peers[0].received.count(b"POST /v1") == 2
    assert other.peers[0].received.startswith(b"GET /a ")


async def test_a_bare_prefix_is_sent_to_its_slash_with_its_query() -> None:
    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(get("/files?a=1"))

    assert (answer.status, answer.header(b"location")) == (307, b"/files/?a=1")


async def test_a_new_config_serves_new_requests() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        services = {**SERVICES, "chat": {**SERVICES["chat"], "models": ["renamed"]}}
        config = Config.model_validate({"services": services})
        proxy.app.configure(config, RouteTable(config))

        assert (await client.ask(chat("chat"))).status == 404
        assert (await client.ask(chat("renamed"))).status == 200


# What the engine and the client are told


async def test_the_client_s_request_id_is_kept_if_harmless_and_told_to_both() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(get("/files/a", "x-request-id: abc.1"))
        assert answer.header(b"x-request-id") == b"abc.1"
        assert heard(upstream)[1][b"X-Request-Id"] == b"abc.1"
        other = await client.ask(get("/files/a", "x-request-id: a b"))
        assert other.header(b"x-request-id") not in (None, b"a b")


async def test_b43_the_engine_is_told_who_asks_and_not_by_the_client() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.ask(get("/files/a", "X-Forwarded-For: 6.6.6.6", "Forwarded: for=6.6.6.6"))

    fields = heard(upstream)[1]
    assert fields[b"X-Forwarded-For"] == b"127.0.0.1"
    assert b"6.6.6.6" not in fields[b"Forwarded"]


async def test_the_response_names_service_and_timing() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(chat())

    assert answer.header(b"x-ai-proxy-service") == b"chat"
    assert (answer.header(b"server-timing") or b"").startswith(b"ttfb;dur=")


async def test_configured_fields_replace_the_client_s_and_a_url_names_the_host() -> None:
    service = {"url": "https://llm.example.com/v1", "headers": {"authorization": "Bearer ours"}}
    async with Upstream(answering(OK)) as upstream, plane(upstream, services={"chat": service}) as proxy:
        async with Client.to(proxy.port) as client:
            answer = await client.ask(get("/chat/a", "Authorization: Bearer theirs"))
        assert answer.status == 200

    fields = heard(upstream)[1]
    assert fields[b"authorization"] == b"Bearer ours"
    assert b"Authorization" not in fields
    assert fields[b"Host"] == b"llm.example.com"


async def test_b16_b17_hop_by_hop_fields_end_at_the_proxy_both_ways() -> None:
    response = b"HTTP/1.1 200 OK\r\nConnection: X-Up\r\nX-Up: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n"
    async with Upstream(answering(response)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(get("/files/a", "Connection: x-hop", "X-Hop: 1", "Keep-Alive: 5", "TE: trailers, x"))

    fields = heard(upstream)[1]
    assert not {b"X-Hop", b"Keep-Alive", b"Connection"} & fields.keys()
    assert fields[b"TE"] == b"trailers"
    assert not {b"X-Up", b"Keep-Alive", b"Connection"} & {name for name, _ in answer.headers}


# Waiting for a grant


async def test_b54_a_cold_service_is_waited_for_and_the_wait_is_told() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat("cold"))
        await until(lambda: proxy.gate.waiting)
        proxy.gate.serve("cold", upstream.origin)
        answer = await client.answer()

    assert answer.status == 200
    assert (answer.header(b"server-timing") or b"").startswith(b"queue;dur=")
    assert proxy.entries[0].queue_s > 0


async def test_a_client_is_told_how_much_of_its_wait_was_a_start() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        proxy.gate.start_s = 1.5
        await client.send(chat("cold"))
        await until(lambda: proxy.gate.waiting)
        proxy.gate.serve("cold", upstream.origin)
        waited = await client.answer()
        warm = await client.ask(chat("cold"))

    assert b", start;dur=1500.0, ttfb;dur=" in (waited.header(b"server-timing") or b"")
    assert b"start" not in (warm.header(b"server-timing") or b"")


async def test_a_failed_start_is_told_with_its_cause_and_the_connection_goes_on() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.send(chat("cold"))
        await until(lambda: proxy.gate.waiting)
        proxy.gate.fail("the image is missing")
        answer = await client.answer()
        error = json.loads(answer.body)["error"]

        assert (answer.status, error["code"], error["service"]) == (503, "start_failed", "cold")
        assert error["log_tail"] == ["last words"]
        assert (await client.ask(chat())).status == 200


async def test_a_full_queue_says_when_to_come_back() -> None:
    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        proxy.gate.failing["cold"] = QueueFull("1000 requests wait", retry_after_s=7)
        answer = await client.ask(chat("cold"))

    assert (answer.status, answer.header(b"retry-after")) == (503, b"7")


async def test_a_grant_is_closed_whatever_the_answer() -> None:
    async with Upstream(answering_once(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        assert (await client.ask(chat())).status == 200
        proxy.gate.ready["chat"] = dead_origin()
        assert (await client.ask(chat())).status == 502

    assert proxy.gate.granted == 2
    assert proxy.gate.open == []


def dead_origin() -> Origin:
    """Where nobody listens."""
    return Origin("http", "127.0.0.1", 1)


# Bad input: each is told with its cause and the request's id, and the connection goes on


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (post("/v1/chat/completions", b'{"model": "chat"'), 400, "malformed_request"),
        (post("/v1/chat/completions", b'{"model": "chat'), 400, "malformed_request"),
        (post("/v1/chat/completions", b"[]"), 400, "malformed_request"),
        (post("/v1/chat/completions", b'{"model": 5}'), 400, "malformed_request"),
        (post("/v1/chat/completions", b"{}"), 400, "model_missing"),
        (post("/v1/chat/completions", b""), 400, "model_missing"),
        (chat("chatt"), 404, "model_not_found"),
        (get("/nobody/x"), 404, "path_not_found"),
        (get("/services/nobody/x"), 404, "path_not_found"),
        (get("/v1/chat/completions"), 405, "method_not_allowed"),
        (post("/v1/models", b"{}"), 405, "method_not_allowed"),
        (post("/v1/audio/transcriptions", b"junk", type="multipart/form-data"), 400, "malformed_request"),
        (post("/v1/audio/transcriptions", b"junk", type="multipart/form-data; boundary=B"), 400, "malformed_request"),
        (post("/v1/chat/completions", b"\x1f\x8b", "Content-Encoding: gzip"), 415, "encoding_not_supported"),
        (get("*"), 400, "malformed_request"),
    ],
)
async def test_b60_bad_requests_are_told_why_and_reach_no_engine(request_bytes: bytes, status: int, code: str) -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(request_bytes)
        error = json.loads(answer.body)["error"]

        assert (answer.status, error["code"]) == (status, code)
        assert error["message"]
        assert error["request_id"] == (answer.header(b"x-request-id") or b"").decode()
        assert upstream.peers == []
        assert (await client.ask(chat())).status == 200


async def test_an_unknown_model_is_told_the_nearest_names() -> None:
    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(chat("chta"))

    assert "chat" in json.loads(answer.body)["error"]["message"]


async def test_a_body_over_the_limit_is_a_413_before_it_is_read() -> None:
    async with Upstream() as upstream, plane(upstream, server={"max_model_body_mb": 1}) as proxy:
        async with Client.to(proxy.port) as client:
            length = 2 * 1024 * 1024
            head = post("/v1/chat/completions", b"").replace(b"Length: 0", b"Length: %d" % length)
            answer = await client.ask(head + b"x" * 10)
        assert proxy.gate.granted == 0

    assert answer.status == 413
    assert "/{service}/" in json.loads(answer.body)["error"]["message"]


async def test_errors_are_in_the_words_of_the_api_that_was_called() -> None:
    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        anthropic = await client.ask(post("/v1/messages", b'{"model": "x"}'))
        ollama = await client.ask(post("/api/chat", b'{"model": "x"}'))

    assert json.loads(anthropic.body)["error"]["type"] == "not_found_error"
    assert anthropic.header(b"request-id") == anthropic.header(b"x-request-id")
    assert isinstance(json.loads(ollama.body)["error"], str)
    assert ollama.header(b"request-id") is None


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/chat/v1/messages"])
async def test_an_answer_of_anthropics_api_has_the_id_where_its_sdk_looks(path: str) -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(post(path, b'{"model": "chat"}'))
        other = await client.ask(post("/v1/chat/completions", b'{"model": "chat"}'))

    assert answer.header(b"request-id") == answer.header(b"x-request-id")
    assert other.header(b"request-id") is None


async def test_an_engines_own_id_of_anthropics_api_stays() -> None:
    own = OK.replace(b"\r\n\r\n", b"\r\nRequest-Id: req_1\r\n\r\n")
    async with Upstream(answering(own)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(post("/v1/messages", b'{"model": "chat"}'))

    assert [value for name, value in answer.headers if name.lower() == b"request-id"] == [b"req_1"]


# Our own answers


async def test_models_are_listed_with_their_state_and_none_is_started() -> None:
    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        listed = json.loads((await client.ask(get("/v1/models"))).body)
        one = json.loads((await client.ask(get("/v1/models/gpt"))).body)
        missing = await client.ask(get("/v1/models/nobody"))
        head = await client.ask(b"HEAD /v1/models HTTP/1.1\r\nHost: a\r\n\r\n", to_head=True)

    states = {entry["id"]: entry["status"]["value"] for entry in listed["data"]}
    assert states == {"chat": "loaded", "gpt": "loaded", "files": "unloaded", "cold": "loading"}
    assert (one["id"], one["service"]) == ("gpt", "chat")
    assert missing.status == 404
    assert head.status == 200
    assert proxy.gate.granted == 0


async def test_b42_options_star_is_answered() -> None:
    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")

    assert answer.status == 204
    assert b"POST" in (answer.header(b"allow") or b"")


# The books


async def test_b66_each_request_has_one_entry_and_is_counted() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.ask(chat())
        await client.ask(chat("nobody"))
        await until(lambda: len(proxy.entries) == 2)

    done, refused = proxy.entries
    assert (done.status, done.service, done.model, done.sent_bytes, done.ending) == (
        200,
        "chat",
        "chat",
        2,
        Ending.DONE,
    )
    assert done.client.startswith("127.0.0.1:")
    assert (refused.status, refused.service, refused.ending) == (404, "-", Ending.REFUSED)
    counters = proxy.metrics.service("chat")
    assert (counters.responses[2], counters.in_flight, counters.sent_bytes) == (1, 0, 2)
    assert proxy.metrics.unrouted.responses[4] == 1


async def test_b66_an_entry_holds_no_more_of_a_name_than_a_line_shows() -> None:
    async with Upstream() as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        assert (await client.ask(chat("x" * 100_000))).status == 404

    assert proxy.entries[0].model == "x" * 256
