"""What the proxies in front of this one tell of a request's way, and how far they are believed. Pure.

Owns the reading of `X-Forwarded-For` and `Forwarded` (RFC 7239), and what goes on in their place when the peer is
trusted: what it said, and the peer itself at the end. What a peer says that is not trusted is never read.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple

from ai_proxy.proxy.headers import Fields, peer_lines

type Address = IPv4Address | IPv6Address

_KEPT_ANSWERS: Final = 1024
_FOR: Final = re.compile(rb'(?:^|[;,])[ \t]*for=(?:"([^"]*)"|([^",; \t]*))', re.IGNORECASE)
_HOP: Final = re.compile(rb"\s*(?:\[([0-9A-Fa-f:.]+)\](?::\w+)?|([0-9.]+)(?::\w+)?|([0-9A-Fa-f:.]+))\s*")


class Way(NamedTuple):
    """The way of a request that came by a trusted proxy.

    Attributes:
        client: The nearest hop that is not trusted: nobody can be believed further.
        lines: In place of `headers.peer_lines`.
        host: The Host that the client asked for, if the proxies tell it.
    """

    client: str
    lines: bytes
    host: bytes | None


class TrustedProxies:
    """The peers whose word counts.

    Args:
        networks: Addresses, and networks as address/bits.

    Raises:
        ValueError: One is neither.

    Example:
        >>> trusted = TrustedProxies(["10.0.0.0/8"])
        >>> way = trusted.way("10.0.0.2", "http", [(b"X-Forwarded-For", b"203.0.113.7, 10.0.0.9")])
        >>> way.client, way.lines.splitlines()[0]
        ('203.0.113.7', b'X-Forwarded-For: 203.0.113.7, 10.0.0.9, 10.0.0.2')
        >>> trusted.way("203.0.113.7", "http", [(b"X-Forwarded-For", b"10.0.0.1")]) is None
        True
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(map(ip_network, networks))
        # Peers are few, and each of their requests asks.
        self._trusts = lru_cache(_KEPT_ANSWERS)(self._is_listed)

    def __repr__(self) -> str:
        return f"<TrustedProxies: {', '.join(map(str, self._networks))}>"

    def way(self, peer: str, scheme: str, fields: Fields) -> Way | None:
        """Read a request's way; None if its peer is not trusted.

        Args:
            peer: Address of whoever connected to us.
            scheme: http or https, as they did.
            fields: The request's fields, raw.
        """
        if not self._trusts(peer):
            return None
        told = _told(fields)
        hops = told[b"x-forwarded-for"].split(b",") if told[b"x-forwarded-for"] else _nodes(told[b"forwarded"])
        # Who tells of its hops in one of the two ways tells of them in both, or an engine would take us for the client.
        told[b"x-forwarded-for"] = told[b"x-forwarded-for"] or b", ".join(hops)
        told[b"forwarded"] = told[b"forwarded"] or b", ".join(map(_as_node, hops))
        lines = [_appended(line, told) for line in peer_lines(peer, scheme).split(b"\r\n")]
        return Way(self._client(peer, hops), b"\r\n".join(lines), told[b"x-forwarded-host"] or None)

    def _is_listed(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def _client(self, peer: str, hops: list[bytes]) -> str:
        """Go back from hop to hop for as long as they are trusted: each was told of by the one after it."""
        client = peer
        for hop in reversed(hops):
            address = _address(hop)
            if address is None:
                break
            client = str(address)
            if not self._trusts(client):
                break
        return client


def _told(fields: Fields) -> defaultdict[bytes, bytes]:
    """The fields by name in lower case, empty where there is none; several of one name are one list."""
    told: defaultdict[bytes, bytes] = defaultdict(bytes)
    for name, value in fields:
        if value:
            lower = name.lower()
            told[lower] = told[lower] + b", " + value if told[lower] else value
    return told


def _appended(line: bytes, told: defaultdict[bytes, bytes]) -> bytes:
    name, _, ours = line.partition(b": ")
    theirs = told[name.lower()]
    if not theirs:
        return line
    return b"%b: %b" % (name, theirs) if name == b"X-Forwarded-Proto" else b"%b: %b, %b" % (name, theirs, ours)


def _nodes(forwarded: bytes) -> list[bytes]:
    r"""The nodes that a Forwarded field names.

    Example:
        >>> _nodes(b'for=192.0.2.1;proto=https, For="[2001:db8::1]:47011", for=_hidden')
        [b'192.0.2.1', b'[2001:db8::1]:47011', b'_hidden']
    """
    return [quoted or plain for quoted, plain in _FOR.findall(forwarded)]


def _as_node(hop: bytes) -> bytes:
    """A hop as an element of Forwarded; what is no address may have any character.

    Example:
        >>> _as_node(b" 192.0.2.1:80"), _as_node(b"2001:db8::1"), _as_node(b"a, b")
        (b'for=192.0.2.1', b'for="[2001:db8::1]"', b'for=unknown')
    """
    address = _address(hop)
    if address is None:
        return b"for=unknown"
    return (f'for="[{address}]"' if address.version == 6 else f"for={address}").encode()


def _address(hop: bytes) -> Address | None:
    """The address in a hop, which may have brackets and a port.

    Example:
        >>> [str(_address(hop)) for hop in (b"192.0.2.1", b"192.0.2.1:80", b"[::1]:80", b"::1", b"_hidden", b"1.2.3")]
        ['192.0.2.1', '192.0.2.1', '::1', '::1', 'None', 'None']
    """
    match = _HOP.fullmatch(hop)
    return None if match is None else _parsed(next(filter(None, match.groups())).decode("ascii"))


def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A socket for both families shows peers of IPv4 so.
    return getattr(address, "ipv4_mapped", None) or address
