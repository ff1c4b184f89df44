"""What requests ask of their way through the gate."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ai_proxy.errors import MalformedRequest
from ai_proxy.proxy.wishes import PREFIX_BYTES, max_wait_s, may_swap
from tests.fakes.upstream import Upstream, answering
from tests.proxy.plane import OK, SERVICES, Plane, get, plane, post
from tests.proxy.serving import Client, until

MAX_WAIT, MAY_SWAP = b"x-ai-proxy-max-wait", b"x-ai-proxy-may-swap"
FORM = b'--%b\r\nContent-Disposition: form-data; name="model"\r\n\r\nchat\r\n--%b--\r\n'


@asynccontextmanager
async def affine(affinity: str, most: int = 2) -> AsyncIterator[tuple[Plane, Client]]:
    """A data plane whose service `chat` has so many replicas and an affinity, and its client."""
    chat = {**SERVICES["chat"], "replicas": {"max": most, "affinity": affinity}}
    async with (
        Upstream(answering(OK)) as upstream,
        plane(upstream, services={**SERVICES, "chat": chat}) as proxy,
        Client.to(proxy.port) as client,
    ):
        yield proxy, client


def words(beginning: str, model: str = "chat") -> bytes:
    """A chat request whose body begins so."""
    body = b'{"prompt": "%b", "model": "%b"}' % (beginning.encode(), model.encode())
    return post("/v1/chat/completions", body)


async def affinity_of(proxy: Plane, client: Client, request: bytes) -> bytes | None:
    """What the gate is told of a request that is served."""
    assert (await client.ask(request)).status == 200
    assert proxy.gate.asked is not None
    return proxy.gate.asked.affinity


class TestMaxWait:
    @pytest.mark.parametrize(("given", "read"), [(b"30", 30.0), (b"2.5", 2.5), (b"0", 0.0), (b" 7 ", 7.0)])
    def test_it_is_a_number_of_seconds(self, given: bytes, read: float) -> None:
        assert max_wait_s({MAX_WAIT: given}) == read

    @pytest.mark.parametrize(
        "given", [b"", b"soon", b"-1", b"+1", b"30s", b"1e3", b"nan", b"inf", b"1_0", b".5", b"9" * 10, "٣".encode()]
    )
    def test_anything_else_is_refused_by_name(self, given: bytes) -> None:
        with pytest.raises(MalformedRequest, match="X-AI-Proxy-Max-Wait is a number of seconds") as refused:
            max_wait_s({MAX_WAIT: given})
        assert refused.value.param == "x-ai-proxy-max-wait"

    @pytest.mark.parametrize(
        ("given", "read"),
        [
            (b"wait=10", 10.0),
            (b'return=minimal; a="b", Wait = "10" ; x, foo', 10.0),
            (b"respond-async", None),
            (b"wait", None),
            (b"wait=soon", None),
            (b"wait=-1", None),
            (b"await=10", None),
            (b"handling=lenient; wait=10", None),
        ],
    )
    def test_a_preference_counts_if_it_is_understood(self, given: bytes, read: float | None) -> None:
        assert max_wait_s({b"prefer": given}) == read

    def test_our_own_field_counts_before_a_preference(self) -> None:
        assert max_wait_s({b"prefer": b"wait=10", MAX_WAIT: b"3"}) == 3.0


class TestMaySwap:
    @pytest.mark.parametrize("given", [b"no", b"No", b"false", b"0"])
    def test_it_may_be_denied(self, given: bytes) -> None:
        assert not may_swap({MAY_SWAP: given})

    @pytest.mark.parametrize("given", [b"yes", b"TRUE", b"1"])
    def test_it_may_be_said_that_it_is_allowed(self, given: bytes) -> None:
        assert may_swap({MAY_SWAP: given})

    @pytest.mark.parametrize("given", [b"", b"never", b"2", b"no, no"])
    def test_anything_else_is_refused_by_name(self, given: bytes) -> None:
        with pytest.raises(MalformedRequest, match="X-AI-Proxy-May-Swap is yes or no") as refused:
            may_swap({MAY_SWAP: given})
        assert refused.value.param == "x-ai-proxy-may-swap"


async def test_the_gate_is_told_and_the_engine_is_not() -> None:
    asked = get("/files/a", "X-AI-Proxy-Max-Wait: 2.5", "X-AI-PROXY-MAY-SWAP: no", "Prefer: wait=9", "X-Session-Id: s")
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        assert (await client.ask(asked)).status == 200
        info = proxy.gate.asked

    assert info is not None
    assert (info.max_wait_s, info.may_swap, info.affinity) == (2.5, False, None)
    heard = upstream.peers[0].received
    assert b"x-ai-proxy-" not in heard.lower()
    assert b"\r\nPrefer: wait=9\r\nX-Session-Id: s\r\n" in heard


async def test_a_request_that_asks_for_nothing_may_wait_and_swap_as_its_service_says() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.ask(get("/files/a"))

    assert proxy.gate.asked is not None
    assert (proxy.gate.asked.max_wait_s, proxy.gate.asked.may_swap) == (None, True)


@pytest.mark.parametrize("field", ["X-AI-Proxy-Max-Wait: 1 hour", "X-AI-Proxy-May-Swap: perhaps"])
async def test_a_wish_that_is_not_understood_is_a_400_even_where_the_service_is_ready(field: str) -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        answer = await client.ask(get("/files/a", field))
        assert (answer.status, b"X-AI-Proxy-M" in answer.body) == (400, True)
        assert (proxy.gate.granted, upstream.peers) == (0, [])
        assert proxy.metrics.service("files").in_flight == 0
        assert (await client.ask(get("/files/a"))).status == 200


class TestAffinity:
    async def test_by_session_it_is_the_session_s_id(self) -> None:
        async with affine("session") as (proxy, client):
            assert await affinity_of(proxy, client, get("/chat/a", "X-Session-Id: s-1")) == b"s-1"
            assert await affinity_of(proxy, client, get("/chat/a")) is None
            assert await affinity_of(proxy, client, get("/chat/a", "X-Session-Id:")) is None
            assert await affinity_of(proxy, client, get("/files/a", "X-Session-Id: s-1")) is None

    async def test_by_prefix_bodies_that_begin_alike_stay_together(self) -> None:
        async with affine("prefix") as (proxy, client):
            alike = "a" * PREFIX_BYTES
            one = await affinity_of(proxy, client, words(alike + "one"))
            assert one is not None
            assert one == await affinity_of(proxy, client, words(alike + "another", model="gpt"))
            assert one != await affinity_of(proxy, client, words("b" * PREFIX_BYTES))
            assert await affinity_of(proxy, client, words("short")) is None

    async def test_by_prefix_it_does_not_matter_in_which_pieces_a_body_arrives(self) -> None:
        whole = words("a" * 3 * PREFIX_BYTES)
        cut = whole.index(b"aaa") + 10
        async with affine("prefix") as (proxy, client):
            at_once = await affinity_of(proxy, client, whole)
            await client.send(whole[:cut])
            await until(lambda: proxy.app._budget.taken)
            assert at_once == await affinity_of(proxy, client, whole[cut:]) is not None

    async def test_by_prefix_a_body_that_is_not_read_for_its_model_has_none(self) -> None:
        form = FORM % (b"B" * 60, b"B" * 60) + b"x" * PREFIX_BYTES
        by_form = post("/v1/audio/transcriptions", form, type=f"multipart/form-data; boundary={'B' * 60}")
        by_path = words("a" * PREFIX_BYTES).replace(b"/v1/", b"/services/chat/v1/")
        async with affine("prefix") as (proxy, client):
            assert await affinity_of(proxy, client, by_form) is None
            assert await affinity_of(proxy, client, by_path) is None
            assert await affinity_of(proxy, client, get("/chat/a")) is None

    @pytest.mark.parametrize("affinity", ["session", "prefix"])
    async def test_where_there_is_one_replica_there_is_none(self, affinity: str) -> None:
        async with affine(affinity, most=1) as (proxy, client):
            asked = words("a" * PREFIX_BYTES).replace(b"Host", b"X-Session-Id: s\r\nHost")
            assert await affinity_of(proxy, client, asked) is None
