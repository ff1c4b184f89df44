"""Keys on the data plane: who is let in, to what, how much of it, and what an engine sees of that."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import pytest

from ai_proxy.config.keys import KeyConfig
from ai_proxy.config.models import Config
from ai_proxy.errors import RateLimited
from ai_proxy.metrics import Ending, KeyUse
from ai_proxy.proxy.auth import Auth, Holder
from ai_proxy.routing.table import RouteTable
from tests.fakes.upstream import Upstream, answering
from tests.proxy.plane import OK, SERVICES, Plane, chat, get, plane, post
from tests.proxy.serving import Answer, Client, until

BEARER = "Authorization: Bearer"
WIDE, NARROW, OPS = "sk-aip-wide", "sk-aip-narrow", "sk-aip-ops"


def entry(name: str, secret: str, **more: Any) -> dict[str, Any]:
    """A key's entry in a config."""
    return {"name": name, "hash": sha256(secret.encode()).hexdigest(), **more}


KEYS = [
    entry("wide", WIDE),
    entry("narrow", NARROW, models=["gpt", "files"], may_swap=False, priority="high"),
    entry("ops", OPS, management=True),
]


ASKED = {
    "its model": (chat("gpt"), 200),
    "another": (chat("chat"), 403),
    "nobody's": (chat("nobody's"), 403),
    "its prefix": (get("/files/list"), 200),
    "another's prefix": (get("/chat/v1/models"), 403),
    "another's by header": (post("/v1/completions", b"{}", "X-AI-Proxy-Service: chat"), 403),
    "another's below a model": (get("/upstream/gpt/x"), 403),
    "its model and another": (post("/api/chat", b'{"model": "gpt", "MODEL": "chat"}'), 400),
    "its model, and another in the query": (post("/v1/completions?model=chat", b'{"model": "gpt"}'), 400),
    "its model twice": (post("/v1/completions?model=gpt", b'{"model": "gpt"}'), 200),
    "shown": (get("/v1/models/gpt"), 200),
    "not shown": (get("/v1/models/chat"), 403),
}
"""What the narrow key asks for, and what comes of it."""


@asynccontextmanager
async def guarded(keys: list[dict[str, Any]] = KEYS, **config: Any) -> AsyncIterator[tuple[Plane, Upstream, Client]]:
    """A data plane with keys, its upstream and a client."""
    async with (
        Upstream(answering(OK)) as upstream,
        plane(upstream, keys=keys, **config) as proxy,
        Client.to(proxy.port) as client,
    ):
        yield proxy, upstream, client


def with_fields(request: bytes, *fields: str) -> bytes:
    """A request with more fields."""
    head, _, body = request.partition(b"\r\n\r\n")
    return b"\r\n".join([head, *(field.encode() for field in fields), b"", body])


def heard(upstream: Upstream) -> bytes:
    """All that the engine was sent."""
    return b"".join(peer.received for peer in upstream.peers)


def error_of(answer: Answer) -> dict[str, Any]:
    """What went wrong, in OpenAI's words."""
    error: dict[str, Any] = json.loads(answer.body)["error"]
    return error


def enter(auth: Auth, secret: bytes) -> None:
    """Have a request come with a key."""
    holder, _ = auth.find({b"x-api-key": secret}, [(b"x-api-key", secret)])
    assert holder is not None
    holder.enter(0.0)


def use(*, done: int = 0, refused: int = 0, gone: int = 0, in_flight: int = 0) -> KeyUse:
    """What is counted of a key."""
    return KeyUse((0, 0, done, 0, refused + gone, 0, 0, 0, 0, 0), in_flight)


class TestWhoIsLetIn:
    @pytest.mark.parametrize(
        "field",
        [
            f"{BEARER} {WIDE}",
            f"authorization: bearer {WIDE}",
            f"x-api-key: {WIDE}",
            f"API-Key: {WIDE}",
            f"Authorization: Basic {b64encode(f'me:{WIDE}'.encode()).decode()}",
        ],
        ids=["bearer", "bearer in lower case", "x-api-key", "api-key", "basic"],
    )
    async def test_a_key_opens_and_does_not_go_on_to_the_engine(self, field: str) -> None:
        async with guarded() as (proxy, upstream, client):
            for _ in range(2):  # the second time it is known by sight
                assert (await client.ask(with_fields(chat(), field))).status == 200
            assert heard(upstream).count(b"POST /v1/chat/completions") == 2
            assert WIDE.encode() not in heard(upstream)
            assert b"authorization" not in heard(upstream).lower()
            assert b"api-key" not in heard(upstream).lower()
            assert proxy.gate.asked is not None
            assert proxy.gate.asked.key == "wide"

    @pytest.mark.parametrize(
        ("field", "message"),
        [
            ("X-None: 1", "an API key is needed"),
            (f"{BEARER} sk-aip-wrong", "not one of those that this proxy knows"),
            (f"X-Key: {WIDE}", "an API key is needed"),
            (f"{BEARER}{WIDE}", "not one of those"),
        ],
        ids=["none", "wrong", "another field", "no space"],
    )
    async def test_anybody_else_gets_401_before_the_body_is_read(self, field: str, message: str) -> None:
        async with guarded() as (proxy, upstream, client):
            head, _, _ = with_fields(chat(), field).partition(b"\r\n\r\n")
            answer = await client.ask(head + b"\r\n\r\n")
            assert (answer.status, answer.header(b"www-authenticate")) == (401, b"Bearer")
            assert answer.header(b"x-should-retry") is None
            assert error_of(answer)["code"] == "invalid_api_key"
            assert message in error_of(answer)["message"]
            assert "wrong" not in json.dumps(error_of(answer))
            assert heard(upstream) == b""
            assert proxy.gate.granted == 0

    async def test_a_key_in_the_query_is_none(self) -> None:
        async with guarded() as (_, _, client):
            assert (await client.ask(get(f"/v1/models?key={WIDE}&api-key={WIDE}"))).status == 401

    @pytest.mark.parametrize("path", ["/v1/models", "/v1/models/chat", "/files/x", "/nowhere", "/services/no/x"])
    async def test_whoever_has_no_key_learns_nothing_of_what_there_is(self, path: str) -> None:
        async with guarded() as (_, _, client):
            answer = await client.ask(get(path))
            assert answer.status == 401
            assert b"files" not in answer.body

    @pytest.mark.parametrize(
        ("path", "shape"),
        [
            ("/v1/messages", {"type": "error", "error": {"type": "authentication_error"}}),
            ("/chat/v1/messages", {"type": "error", "error": {"type": "authentication_error"}}),
            ("/api/chat", {"error": "an API key is needed"}),
        ],
        ids=["anthropic", "anthropic below a prefix", "ollama"],
    )
    async def test_the_refusal_speaks_the_dialect_of_the_path(self, path: str, shape: dict[str, Any]) -> None:
        async with guarded() as (_, _, client):
            said = json.loads((await client.ask(post(path, b"{}"))).body)
            if isinstance(shape["error"], str):
                assert said["error"].startswith(shape["error"])
            else:
                assert (said["type"], said["error"]["type"]) == (shape["type"], shape["error"]["type"])

    async def test_a_key_for_management_alone_opens_no_model(self) -> None:
        async with guarded() as (_, _, client):
            answer = await client.ask(with_fields(chat(), f"{BEARER} {OPS}"))
            assert (answer.status, error_of(answer)["code"]) == (403, "model_not_allowed")

    async def test_two_fields_of_one_name_are_refused(self) -> None:
        async with guarded() as (_, upstream, client):
            answer = await client.ask(with_fields(chat(), f"x-api-key: {NARROW}", "X-API-Key: x", f"{BEARER} {WIDE}"))
            assert answer.status == 400
            assert heard(upstream) == b""


class TestWithoutKeys:
    async def test_credentials_pass_through(self) -> None:
        async with guarded([]) as (proxy, upstream, client):
            assert (await client.ask(with_fields(chat(), f"{BEARER} theirs"))).status == 200
            assert b"Authorization: Bearer theirs" in heard(upstream)
            assert proxy.gate.asked is not None
            assert proxy.gate.asked.key is None

    async def test_a_key_for_management_does_not_go_to_an_engine_even_where_no_other_is_needed(self) -> None:
        async with guarded([entry("ops", OPS, management=True)]) as (_, upstream, client):
            assert (await client.ask(chat())).status == 200
            assert (await client.ask(with_fields(chat(), f"{BEARER} {OPS}"))).status == 200
            assert OPS.encode() not in heard(upstream)


class TestWhatGoesUpstream:
    async def test_a_key_for_the_upstream_beside_ours_passes(self) -> None:
        async with guarded() as (_, upstream, client):
            answer = await client.ask(with_fields(chat(), f"{BEARER} theirs", f"x-api-key: {WIDE}"))
            assert answer.status == 200
            assert b"Authorization: Bearer theirs" in heard(upstream)
            assert WIDE.encode() not in heard(upstream)

    async def test_a_service_may_be_shown_the_key(self) -> None:
        services = {"chat": {"image": "i", "forward_key": True}, "files": {"image": "i"}}
        async with guarded([entry("wide", WIDE)], services=services) as (_, upstream, client):
            assert (await client.ask(with_fields(chat(), f"{BEARER} {WIDE}"))).status == 200
            assert f"Authorization: Bearer {WIDE}".encode() in heard(upstream)

    async def test_a_service_s_own_header_takes_the_place_of_the_key(self) -> None:
        services = {"chat": {"image": "i", "headers": {"authorization": "Bearer own"}}, "files": {"image": "i"}}
        async with guarded([entry("wide", WIDE)], services=services) as (_, upstream, client):
            assert (await client.ask(with_fields(chat(), f"{BEARER} {WIDE}"))).status == 200
            assert b"authorization: Bearer own" in heard(upstream)
            assert WIDE.encode() not in heard(upstream)


class TestScopes:
    @pytest.mark.parametrize(("request_", "status"), ASKED.values(), ids=ASKED.keys())
    async def test_a_key_opens_models_and_prefixes_that_it_names(self, request_: bytes, status: int) -> None:
        async with guarded() as (_, _, client):
            answer = await client.ask(with_fields(request_, f"{BEARER} {NARROW}"))
            assert answer.status == status
            if status == 403:
                assert error_of(answer)["code"] == "model_not_allowed"
                assert answer.header(b"retry-after") is None

    async def test_the_list_shows_what_the_key_opens(self) -> None:
        async with guarded() as (_, _, client):
            for key, names in ((NARROW, ["gpt", "files"]), (WIDE, ["chat", "gpt", "files", "cold"])):
                answer = await client.ask(get("/v1/models", f"{BEARER} {key}"))
                assert [model["id"] for model in json.loads(answer.body)["data"]] == names

    async def test_a_request_without_a_model_needs_the_default_service_open(self) -> None:
        async with guarded(default_service="chat") as (_, _, client):
            assert (await client.ask(with_fields(post("/v1/rerank", b"{}"), f"{BEARER} {NARROW}"))).status == 403
            assert (await client.ask(with_fields(post("/v1/rerank", b"{}"), f"{BEARER} {WIDE}"))).status == 200

    async def test_advice_names_nothing_that_the_key_does_not_open(self) -> None:
        key = entry("some", "k", models=["ch*"])
        async with guarded([key]) as (_, _, client):
            for request in (chat("chatty"), get("/fils/x")):
                answer = await client.ask(with_fields(request, f"{BEARER} k"))
                assert answer.status == 404
                assert "there is nothing of that name" in error_of(answer)["message"]

    @pytest.mark.parametrize(
        ("names", "allowed", "refused"),
        [
            (["a-*", "b"], ["a-", "a-1", "b"], ["a", "bb", "A-1", "", "xa-1"]),
            (["*"], ["", "a/b", "x" * 512], ["x" * 513]),
            (["[a]?"], ["[a]?"], ["a", "ab"]),
        ],
        ids=["both", "all", "plain signs"],
    )
    def test_patterns_match_whole_names(self, names: list[str], allowed: list[str], refused: list[str]) -> None:
        holder = Holder(KeyConfig.model_validate(entry("k", "k", models=names)))
        assert [name for name in (*allowed, *refused) if holder.allows(name)] == allowed


class TestWishes:
    async def test_the_gate_is_told_whose_it_is_and_what_it_may(self) -> None:
        async with guarded() as (proxy, _, client):
            for fields, said in {
                (f"{BEARER} {NARROW}",): ("narrow", 2, False),
                (f"{BEARER} {NARROW}", "X-AI-Proxy-May-Swap: yes"): ("narrow", 2, False),
                (f"{BEARER} {WIDE}", "X-AI-Proxy-May-Swap: no"): ("wide", None, False),
                (f"{BEARER} {WIDE}",): ("wide", None, True),
            }.items():
                assert (await client.ask(with_fields(chat("gpt"), *fields))).status == 200
                asked = proxy.gate.asked
                assert asked is not None
                assert (asked.key, asked.priority, asked.may_swap) == said


class TestLimits:
    async def test_more_in_flight_than_a_key_may_have_get_429_until_one_ends(self) -> None:
        keys = [entry("one", "k1", max_in_flight=1), entry("other", "k2")]
        async with guarded(keys) as (proxy, upstream, client), Client.to(proxy.port) as second:
            await client.send(with_fields(chat("cold"), f"{BEARER} k1"))
            await until(lambda: proxy.gate.waiting)
            answer = await second.ask(with_fields(chat(), f"{BEARER} k1"))
            assert (answer.status, error_of(answer)["code"]) == (429, "rate_limit_exceeded")
            assert answer.header(b"retry-after") == b"1"
            assert "'one' has 1 requests in flight" in error_of(answer)["message"]
            assert (await second.ask(with_fields(chat(), f"{BEARER} k2"))).status == 200
            proxy.gate.serve("cold", upstream.origin)
            assert (await client.answer()).status == 200
            await until(lambda: any(it.status == 200 and it.service == "cold" for it in proxy.entries))
            assert (await second.ask(with_fields(chat(), f"{BEARER} k1"))).status == 200

    async def test_a_client_that_leaves_is_counted_out(self) -> None:
        keys = [entry("one", "k1", max_in_flight=1)]
        async with guarded(keys) as (proxy, _, client), Client.to(proxy.port) as second:
            await second.send(with_fields(chat("cold"), f"{BEARER} k1"))
            await until(lambda: proxy.gate.waiting)
            assert proxy.app.key_uses()["one"].in_flight == 1
            second.reset()
            await until(lambda: any(it.ending is Ending.CLIENT_GONE for it in proxy.entries))
            assert proxy.app.key_uses() == {"one": use(in_flight=0, gone=1)}
            assert (await client.ask(with_fields(chat(), f"{BEARER} k1"))).status == 200

    async def test_a_reload_forgets_nothing_of_a_key_that_stays(self) -> None:
        keys = [entry("one", "k1", max_in_flight=1)]
        async with guarded(keys) as (proxy, upstream, client), Client.to(proxy.port) as second:
            await client.send(with_fields(chat("cold"), f"{BEARER} k1"))
            await until(lambda: proxy.gate.waiting)
            renewed = Config.model_validate({"services": SERVICES, "keys": [*keys, entry("two", "k2")]})
            proxy.app.configure(renewed, RouteTable(renewed))
            assert (await second.ask(with_fields(chat(), f"{BEARER} k1"))).status == 429
            assert (await second.ask(with_fields(chat(), f"{BEARER} k2"))).status == 200
            proxy.gate.serve("cold", upstream.origin)
            assert (await client.answer()).status == 200

    def test_no_more_requests_than_a_key_may_have_fall_into_any_minute(self) -> None:
        holder = Holder(KeyConfig.model_validate(entry("k", "k", requests_per_minute=2)))
        holder.enter(0.0)
        holder.enter(50.0)
        with pytest.raises(RateLimited, match="had 2 requests within a minute") as refused:
            holder.enter(59.0)
        assert refused.value.retry_after_s == pytest.approx(1.0)
        holder.enter(60.0)  # what was refused does not count
        with pytest.raises(RateLimited):
            holder.enter(109.0)
        holder.enter(110.0)
        assert holder.in_flight == 4

    def test_another_key_of_the_same_name_begins_anew(self) -> None:
        auth = Auth([KeyConfig.model_validate(entry("k", "old", requests_per_minute=1))])
        enter(auth, b"old")
        auth.configure([KeyConfig.model_validate(entry("k", "new", requests_per_minute=1))])
        enter(auth, b"new")
        with pytest.raises(RateLimited):
            enter(auth, b"new")

    def test_a_larger_limit_counts_at_once(self) -> None:
        auth = Auth([KeyConfig.model_validate(entry("k", "k", requests_per_minute=1))])
        enter(auth, b"k")
        auth.configure([KeyConfig.model_validate(entry("k", "k", requests_per_minute=2))])
        enter(auth, b"k")
        with pytest.raises(RateLimited):
            enter(auth, b"k")


async def test_the_books_name_a_key_and_never_show_one() -> None:
    async with guarded() as (proxy, _, client):
        await client.ask(with_fields(chat(), f"{BEARER} {WIDE}"))
        await client.ask(with_fields(chat(), f"{BEARER} sk-wrong"))
        await until(lambda: len(proxy.entries) == 2)
        assert [it.key for it in proxy.entries] == ["wide", ""]
        assert WIDE not in repr(proxy.entries) + repr(proxy.app)


async def test_the_books_name_a_key_that_may_not_come_in() -> None:
    keys = [entry("ops", "k1", management=True), entry("busy", "k2", requests_per_minute=1)]
    async with guarded(keys) as (proxy, _, client):
        for key, status in (("k1", 403), ("k2", 200), ("k2", 429)):
            assert (await client.ask(with_fields(chat(), f"{BEARER} {key}"))).status == status
        await until(lambda: len(proxy.entries) == 3)
        assert [it.key for it in proxy.entries] == ["ops", "busy", "busy"]
        assert proxy.app.key_uses() == {"ops": use(refused=1), "busy": use(done=1, refused=1)}


async def test_each_request_is_counted_for_its_key_by_the_class_of_its_status() -> None:
    async with guarded([entry("a", "k1"), entry("b", "k2"), entry("unused", "k3")]) as (proxy, _, client):
        for key, model, status in (
            ("k1", "chat", 200),
            ("k1", "nobody's", 404),
            ("k2", "gpt", 200),
            ("k4", "gpt", 401),
        ):
            assert (await client.ask(with_fields(chat(model), f"{BEARER} {key}"))).status == status
        await until(lambda: len(proxy.entries) == 4)
        assert proxy.app.key_uses() == {"a": use(done=1, refused=1), "b": use(done=1)}

        renewed = Config.model_validate({"services": SERVICES, "keys": [entry("b", "k2"), entry("c", "k5")]})
        proxy.app.configure(renewed, RouteTable(renewed))
        assert proxy.app.key_uses() == {"b": use(done=1)}
