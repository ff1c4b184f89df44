"""Proxies in front of this one: what they say counts if the config says so, and is never made up by a client."""

from collections.abc import Mapping

import pytest
from pydantic import ValidationError

from ai_proxy.config.models import Config
from ai_proxy.forwarding import TrustedProxies
from ai_proxy.proxy.hops import Way, way_of
from tests.fakes.upstream import Upstream, answering
from tests.proxy.plane import OK, SERVICES, get, plane
from tests.proxy.serving import Client, until

TRUSTED = TrustedProxies(["10.0.0.0/8", "::1", "2001:db8::/32"])


def way(*fields: str, peer: str = "10.0.0.2") -> Way:
    found = way_of(TRUSTED, peer, "http", [tuple(field.encode().split(b": ", 1)) for field in fields])  # type: ignore[misc]
    assert found is not None
    return found


def lines(found: Way) -> Mapping[str, str]:
    return dict(line.split(": ", 1) for line in found.lines.decode().split("\r\n"))


@pytest.mark.parametrize(
    ("told", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 10.0.0.9", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7, 10.0.0.9", "203.0.113.7"),
        ("10.0.0.8, 10.0.0.9", "10.0.0.8"),
        ("203.0.113.7:5000", "203.0.113.7"),
        ("[2001:db9::1]:5000", "2001:db9::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, unknown", "10.0.0.2"),
        ("203.0.113.7, nonsense, 10.0.0.9", "10.0.0.9"),
        ("", "10.0.0.2"),
    ],
)
def test_b43_the_client_is_the_nearest_hop_that_is_not_trusted(told: str, client: str) -> None:
    assert way(f"X-Forwarded-For: {told}").client == client


def test_b43_a_forwarded_field_tells_of_the_client_as_well() -> None:
    found = way('Forwarded: for="[2001:db9::7]:80";proto=https, FOR=10.0.0.9')
    assert found.client == "2001:db9::7"
    assert lines(found)["X-Forwarded-For"] == "[2001:db9::7]:80, 10.0.0.9, 10.0.0.2"


def test_b43_a_field_without_a_value_adds_nothing_to_what_an_engine_is_told() -> None:
    found = way("X-Forwarded-For: ", "Forwarded: ", "X-Forwarded-Host: ")
    assert lines(found)["X-Forwarded-For"] == "10.0.0.2"
    assert found.host is None


def test_b43_what_was_told_is_kept_and_the_peer_added() -> None:
    found = way(
        "x-forwarded-for: 203.0.113.7", "X-Forwarded-For: 10.0.0.9", "X-Forwarded-Proto: https",
        "X-Forwarded-Host: ai.example.org", "Forwarded: for=203.0.113.7;proto=https", "Via: 1.1 edge", "Via: 2 middle",
    )  # fmt: skip
    assert lines(found) == {
        "X-Forwarded-For": "203.0.113.7, 10.0.0.9, 10.0.0.2",
        "X-Forwarded-Proto": "https",
        "Via": "1.1 edge, 2 middle, 1.1 ai-proxy",
        "Forwarded": "for=203.0.113.7;proto=https, for=10.0.0.2;proto=http",
    }
    assert found.host == b"ai.example.org"


def test_b43_a_forwarded_field_is_written_of_hops_that_were_only_listed() -> None:
    forwarded = lines(way("X-Forwarded-For: 203.0.113.7, 2001:db9::1, _hidden"))["Forwarded"]
    assert forwarded == 'for=203.0.113.7, for="[2001:db9::1]", for=unknown, for=10.0.0.2;proto=http'


@pytest.mark.parametrize("peer", ["203.0.113.7", "2001:db9::1", "unknown", ""])
def test_b43_a_peer_that_is_not_listed_is_not_believed(peer: str) -> None:
    assert way_of(TRUSTED, peer, "http", [(b"X-Forwarded-For", b"10.0.0.1")]) is None


@pytest.mark.parametrize("peer", ["10.255.0.1", "::1", "::ffff:10.0.0.1", "2001:db8::5"])
def test_b43_a_peer_that_is_listed_is(peer: str) -> None:
    assert way("X-Forwarded-For: 203.0.113.7", peer=peer).client == "203.0.113.7"


def test_what_is_no_network_is_a_config_fault() -> None:
    with pytest.raises(ValidationError, match=r"write 10\.0\.0\.2 or 10\.0\.0\.0/8"):
        Config.model_validate({"server": {"trusted_proxies": ["proxy.local"]}, "services": SERVICES})


FIELDS = ("X-Forwarded-For: 203.0.113.7", "X-Forwarded-Host: ai.example.org", "X-Forwarded-Proto: https", "Via: 1.1 e")


async def test_b43_b66_engine_and_access_line_are_told_of_a_trusted_proxys_client() -> None:
    config = {"server": {"trusted_proxies": ["127.0.0.1"]}}
    async with Upstream(answering(OK)) as upstream, plane(upstream, **config) as proxy, Client.to(proxy.port) as client:
        await client.ask(get("/files/a", *FIELDS))
        head = upstream.peers[0].received
        await until(lambda: proxy.entries)

    assert (
        b"\r\nX-Forwarded-For: 203.0.113.7, 127.0.0.1\r\nX-Forwarded-Proto: https\r\nVia: 1.1 e, 1.1 ai-proxy" in head
    )
    assert b'\r\nForwarded: for=203.0.113.7, for=127.0.0.1;proto=http;host="ai.local"\r\n' in head
    assert b"\r\nHost: ai.local\r\n" in head
    assert b"\r\nX-Forwarded-Host: ai.example.org\r\n" in head
    assert head.lower().count(b"x-forwarded-") == 3
    assert proxy.entries[0].client == "203.0.113.7"


async def test_b43_anybody_elses_word_is_replaced() -> None:
    async with Upstream(answering(OK)) as upstream, plane(upstream) as proxy, Client.to(proxy.port) as client:
        await client.ask(get("/files/a", *FIELDS))
        head = upstream.peers[0].received

    assert b"203.0.113.7" not in head
    assert b"ai.example.org" not in head
    assert b"\r\nVia: 1.1 ai-proxy\r\n" in head
