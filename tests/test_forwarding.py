"""What proxies in front tell of a request's way: nobody is believed beyond a hop that can't be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.forwarding import TrustedProxies, everyone_in, hops_of, told_by

TRUSTED = TrustedProxies(["10.0.0.0/8"])
PEER, CLIENT = "10.0.0.2", "203.0.113.7"


def client(*fields: tuple[bytes, bytes]) -> str:
    return TRUSTED.client(PEER, hops_of(told_by(fields)))


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (b"for=203.0.113.7", CLIENT),
        (b'  FOR = 1, for=203.0.113.7 ;proto=https,for="10.0.0.9:80"', PEER),
        (b"for=203.0.113.7;proto=https, for=10.0.0.9", CLIENT),
        (b'by="a;b,c";for="203.0.113.7:80"', CLIENT),
        (b'for=203.0.113.7;host="a, for=10.0.0.1"', CLIENT),
        (b'for=203.0.113.7;host="a\\", for=10.0.0.1"', CLIENT),
        (b"for=203.0.113.7;for=10.0.0.1", PEER),
        (b"for=203.0.113.7, proto=https", PEER),
        (b"for=203.0.113.7,", PEER),
        (b"for=203.0.113.7, for=", PEER),
        (b'by="x, for=203.0.113.7', PEER),
        (b"203.0.113.7", PEER),
        (b"", PEER),
    ],
    ids=repr,
)
def test_b43_a_forwarded_field_is_read_as_rfc_7239_has_it_or_not_believed(forwarded: bytes, expected: str) -> None:
    assert client((b"Forwarded", forwarded)) == expected


def test_b43_a_field_that_is_broken_does_not_spoil_what_a_nearer_proxy_wrote_in_its_own() -> None:
    assert client((b"Forwarded", b'for="'), (b"forwarded", b"for=203.0.113.7")) == CLIENT


@pytest.mark.parametrize("empty", [b"", b" ", b","], ids=repr)
def test_b43_a_list_of_nobody_is_not_made_up_for_by_another_field(empty: bytes) -> None:
    assert client((b"X-Forwarded-For", empty), (b"Forwarded", b"for=203.0.113.7")) == PEER


def test_everyone_is_in_all_the_fields_there_are() -> None:
    fields = [(b"X-Real-IP", b"::1"), (b"forwarded", b"for=a, for=b"), (b"x-forwarded-for", b"c"), (b"host", b"d")]
    assert list(everyone_in(told_by(fields))) == [b"c", b"::1", b"a", b"b"]


@given(st.text(st.sampled_from('",;=\\for 10.'), max_size=30).map(str.encode))
def test_b43_nothing_that_a_client_writes_before_it_moves_the_proxys_own_element(written: bytes) -> None:
    """A proxy appends to the field: who came to it is found, or nobody is."""
    assert client((b"Forwarded", written + b', for=203.0.113.7;proto="https"')) in {CLIENT, PEER}
