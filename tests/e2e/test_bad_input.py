"""Requests that can't be served: each gets a clear error, none reaches an engine, the connection stays usable."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, external
from tests.fakes import engine
from tests.proxy.serving import Answer, Client

pytestmark = pytest.mark.slow

CHAT = b"/v1/chat/completions"
GOOD = b'{"model": "chat", "messages": []}'
FORM = b"multipart/form-data; boundary=b"


@pytest.fixture(scope="module")
def small() -> Iterator[engine.Running]:
    with engine.running() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(serve_module: Serve, small: engine.Running) -> Proxy:
    services = {"chat": external(small.port), "whisper": external(small.port, models=["whisper-1"])}
    return serve_module({"server": {"max_model_body_mb": 1}, "services": services})


@dataclass(frozen=True)
class Case:
    """A request, and what its answer must say."""

    status: int
    code: str
    says: str
    body: bytes = b""
    method: bytes = b"POST"
    target: bytes = CHAT
    kind: bytes = b"application/json"
    fields: tuple[bytes, ...] = field(default=())

    @property
    def request(self) -> bytes:
        lines = [b"%s %s HTTP/1.1" % (self.method, self.target), b"Host: proxy", *self.fields]
        if self.body:
            lines += [b"Content-Type: " + self.kind, b"Content-Length: %d" % len(self.body)]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


CASES = {
    "malformed JSON": Case(400, "malformed_request", "JSON", b'{"model": "chat",, }'),
    "truncated JSON": Case(400, "malformed_request", "JSON", b'{"model": "chat", "messages": ['),
    "JSON that is no object": Case(400, "malformed_request", "object", b'["chat"]'),
    "no body": Case(400, "model_missing", "model"),
    "no model": Case(400, "model_missing", "model", b'{"messages": []}'),
    "a model that is a number": Case(400, "malformed_request", "model", b'{"model": 7}'),
    "a model that is null": Case(400, "model_missing", "model", b'{"model": null}'),
    "an empty model": Case(400, "model_missing", "model", b'{"model": ""}'),
    "an unknown model": Case(404, "model_not_found", "whisper-1", b'{"model": "whispr-1"}'),
    "an unknown prefix": Case(404, "path_not_found", "", b"{}", target=b"/chta/v1/models"),
    "an unknown service by header": Case(404, "path_not_found", "", GOOD, fields=(b"X-AI-Proxy-Service: chta",)),
    "a wrong method": Case(405, "method_not_allowed", "POST", method=b"GET"),
    "a wrong method on the model list": Case(405, "method_not_allowed", "GET", b"{}", target=b"/v1/models"),
    "a multipart body without its boundary": Case(
        400, "malformed_request", "boundary", b"x", target=b"/v1/audio/transcriptions", kind=b"multipart/form-data"
    ),
    "a multipart body that is none": Case(
        400, "malformed_request", "boundary", b"no part at all", target=b"/v1/audio/transcriptions", kind=FORM
    ),
    "two models in a multipart body": Case(
        400,
        "malformed_request",
        "model",
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nchat\r\n--b--\r\n',
        target=b"/v1/audio/transcriptions",
        kind=FORM,
    ),
    "a compressed body": Case(415, "encoding_not_supported", "plain", b"\x1f\x8b", fields=(b"Content-Encoding: gzip",)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_b60_is_refused_with_its_cause_and_leaves_the_connection_usable(
    case: Case, proxy: Proxy, small: engine.Running
) -> None:
    before = small.get("/fake/stats")
    async with Client.to(proxy.port) as client:
        answer = await client.ask(case.request)
        check(answer, case.status, case.code, case.says)
        assert small.get("/fake/stats") == before
        again = await client.ask(Case(200, "", "", GOOD).request)
        assert again.status == 200


def check(answer: Answer, status: int, code: str, says: str) -> None:
    """The error says what it should, and names its request in body and header alike."""
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"]) == (status, code), error
    assert says in error["message"]
    assert error["request_id"]
    assert answer.header(b"x-request-id") == error["request_id"].encode()
    assert error["type"] == "invalid_request_error"


async def test_a_body_over_the_limit_is_refused_before_it_is_read_and_the_prefix_route_is_named(
    proxy: Proxy, small: engine.Running
) -> None:
    before = small.get("/fake/stats")
    async with Client.to(proxy.port) as client:
        head = b"POST %s HTTP/1.1\r\nHost: p\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        answer = await client.ask(head % (CHAT, 2 << 20) + b'{"model": "chat"')
    check(answer, 413, "body_too_large", "/{service}/")
    assert small.get("/fake/stats") == before


async def test_a_chunked_body_that_grows_over_the_limit_is_refused(proxy: Proxy, small: engine.Running) -> None:
    before = small.get("/fake/stats")
    async with Client.to(proxy.port) as client:
        head = b"POST %s HTTP/1.1\r\nHost: p\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        answer = await client.ask(head % CHAT + piece * 20)
    check(answer, 413, "body_too_large", "/{service}/")
    assert small.get("/fake/stats") == before


async def test_b24_what_is_no_http_is_refused_and_the_connection_is_closed(proxy: Proxy) -> None:
    async with Client.to(proxy.port) as client:
        answer = await client.ask(b"GET / HTTP/1.1\r\nHost: p\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        check(answer, 400, "malformed_request", "")
        assert await client.rest() == b""


async def test_the_client_names_its_request(proxy: Proxy) -> None:
    async with Client.to(proxy.port) as client:
        answer = await client.ask(Case(404, "", "", b'{"model": "x"}', fields=(b"X-Request-Id: mine-1",)).request)
    assert json.loads(answer.body)["error"]["request_id"] == "mine-1"
    assert answer.header(b"x-request-id") == b"mine-1"
