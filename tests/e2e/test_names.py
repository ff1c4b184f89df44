"""Who is asked, and under which name: routing and renaming through the whole proxy."""

import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, external
from tests.fakes import engine
from tests.proxy.serving import Answer, Client

pytestmark = pytest.mark.slow

FORM = b"multipart/form-data; boundary=b"


@pytest.fixture(scope="module")
def strict() -> Iterator[engine.Running]:
    """An engine that answers 404 to any name but its own."""
    with engine.running("--model", "Org/Real-7B") as running:
        yield running


@pytest.fixture(scope="module")
def other() -> Iterator[engine.Running]:
    with engine.running("--model", "other") as running:
        yield running


@pytest.fixture(scope="module")
def mirror() -> Iterator[engine.Running]:
    """An engine that says what it was asked."""
    with engine.running("--echo") as running:
        yield running


@pytest.fixture(scope="module")
def proxy(serve_module: Serve, strict: engine.Running, other: engine.Running, mirror: engine.Running) -> Proxy:
    services = {
        "chat": external(strict.port, models={"chat": "Org/Real-7B", "gpt-*": "Org/Real-7B"}),
        "other": external(other.port),
        "same": external(other.port, models=["same", "gpt-4o", "big-*"]),
        "mirror": external(mirror.port, models={"echo": "Org/Echo", "plain": "plain"}),
    }
    return serve_module({"default_service": "other", "services": services})


def request(target: bytes, body: bytes = b"", kind: bytes = b"application/json", *fields: bytes) -> bytes:
    lines = [b"POST %s HTTP/1.1" % target, b"Host: proxy", *fields, b"Content-Type: " + kind]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def echoed(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return json.loads(answer.body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "chat", "messages": []}',
        b'{"messages": [{"role": "user", "content": "{\\"model\\": \\"other\\"}"}], "model": "chat"}',
        b'{"nested": {"model": "other"}, "model": "ch\\u0061t", "n": [{"model": "other"}]}',
        b'{"model": "other", "model": "chat"}',
        b'{"model": "gpt-anything"}',
    ],
)
async def test_the_engine_is_asked_by_its_own_name(body: bytes, proxy: Proxy) -> None:
    async with Client.to(proxy.port) as client:
        answer = await client.ask(request(b"/v1/chat/completions", body))
    assert echoed(answer)["model"] == "Org/Real-7B"
    assert answer.header(b"x-ai-proxy-service") == b"chat"


JSON = b' {"a": "echo",\t"model" : "echo" , "n": 1.0, "x": "\xc3\xa9"}\n'
FILE = os.urandom(200_000)


def form(*parts: tuple[bytes, bytes]) -> bytes:
    part = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    return b"".join(part % it for it in parts) + b"--b--\r\n"


@pytest.mark.parametrize(
    ("kind", "sent", "received"),
    [
        (b"application/json", JSON, JSON.replace(b': "echo" ,', b': "Org/Echo" ,')),
        (FORM, form((b"model", b"echo"), (b"file", FILE)), form((b"model", b"Org/Echo"), (b"file", FILE))),
        (FORM, form((b"file", FILE), (b"model", b"echo")), form((b"file", FILE), (b"model", b"Org/Echo"))),
        (b"application/json", JSON.replace(b': "echo" ,', b': "plain",'), JSON.replace(b': "echo" ,', b': "plain",')),
    ],
    ids=["json", "form, model first", "form, file first", "nothing to replace"],
)
async def test_nothing_but_the_model_is_replaced(kind: bytes, sent: bytes, received: bytes, proxy: Proxy) -> None:
    async with Client.to(proxy.port) as client:
        answer = await client.ask(request(b"/v1/audio/transcriptions", sent, kind))
    echo = echoed(answer)
    assert (echo["size"], echo["sha256"]) == (len(received), hashlib.sha256(received).hexdigest())
    assert ["Content-Length", str(len(received))] in echo["headers"]


async def test_nothing_but_the_model_is_replaced_in_the_query(proxy: Proxy) -> None:
    async with Client.to(proxy.port) as client:
        answer = await client.ask(request(b"/v1/chat/completions?a=1;b=2&model=echo&c=%2F&model_x=echo"))
    assert echoed(answer)["target"] == "/v1/chat/completions?a=1;b=2&model=Org%2FEcho&c=%2F&model_x=echo"


async def test_one_connection_is_routed_anew_at_each_request(proxy: Proxy) -> None:
    async with Client.to(proxy.port) as client:
        for name, engines_name in (("chat", "Org/Real-7B"), ("other", "other"), ("gpt-x", "Org/Real-7B")):
            body = json.dumps({"model": name}).encode()
            assert echoed(await client.ask(request(b"/v1/chat/completions", body)))["model"] == engines_name


async def test_a_name_beats_a_pattern(proxy: Proxy) -> None:
    async with Client.to(proxy.port) as client:
        answer = await client.ask(request(b"/v1/chat/completions", b'{"model": "gpt-4o"}'))
    assert answer.header(b"x-ai-proxy-service") == b"same"


async def test_the_header_overrides_the_model_and_goes_no_further(proxy: Proxy) -> None:
    async with Client.to(proxy.port) as client:
        answer = await client.ask(
            request(b"/fake/echo", b'{"model": "chat"}', b"application/json", b"X-AI-Proxy-Service: other")
        )
    assert answer.header(b"x-ai-proxy-service") == b"other"
    assert "x-ai-proxy-service" not in {name.lower() for name, _ in echoed(answer)["headers"]}


@pytest.mark.parametrize("prefix", [b"/chat", b"/services/chat"])
async def test_b40_b41_under_a_prefix_all_passes_byte_for_byte(prefix: bytes, proxy: Proxy) -> None:
    body = os.urandom(300_000)
    target = b"/fake/echo//a%2Fb/../c;d?x=1;y=2&model=chat&z=%20"
    fields = b"X-Odd-Case: A", b"x-twice: 1", b"X-Twice: 2", b"Accept-Encoding: br"
    async with Client.to(proxy.port) as client:
        echo = echoed(await client.ask(request(prefix + target, body, b"application/octet-stream", *fields)))
    assert echo["target"] == target.decode()
    assert (echo["size"], echo["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    passed = [(name, value) for name, value in echo["headers"] if name.lower() in {"x-odd-case", "x-twice"}]
    assert passed == [("X-Odd-Case", "A"), ("x-twice", "1"), ("X-Twice", "2")]
    assert ["Accept-Encoding", "br"] in echo["headers"]


@pytest.mark.parametrize("target", [b"/fake/echo", b"/nobody/knows/this"])
async def test_what_no_route_knows_goes_to_the_default_service(target: bytes, proxy: Proxy) -> None:
    async with Client.to(proxy.port) as client:
        answer = await client.ask(request(target, b"x", b"text/plain"))
    assert answer.header(b"x-ai-proxy-service") == b"other"


async def test_a_model_that_is_named_and_unknown_does_not(proxy: Proxy) -> None:
    async with Client.to(proxy.port) as client:
        answer = await client.ask(request(b"/v1/chat/completions", b'{"model": "chats"}'))
    assert answer.status == 404
    assert "chat" in json.loads(answer.body)["error"]["message"]


async def test_the_list_shows_names_and_no_patterns(proxy: Proxy) -> None:
    listed = [model["id"] for model in proxy.get("/v1/models")["data"]]
    assert listed == ["chat", "other", "same", "gpt-4o", "echo", "plain"]
