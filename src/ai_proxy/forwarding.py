"""What the proxies in front of this one tell of a request's way, and how far they are believed. Pure.

Owns the one reading of `X-Forwarded-For`, `X-Real-IP` and `Forwarded` (RFC 7239). Whatever can't be read is a hop
without an address, and nobody is believed beyond one. What goes on upstream is the data plane's business, what follows
for those who manage is the API's.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

type Address = IPv4Address | IPv6Address
type Told = Mapping[bytes, Sequence[bytes]]
"""The values of fields, by name in lower case."""

_KEPT_ANSWERS: Final = 1024
_UNKNOWN: Final = b"unknown"
_HOP: Final = re.compile(rb"\s*(?:\[([0-9A-Fa-f:.]+)\](?::\w+)?|([0-9.]+)(?::\w+)?|([0-9A-Fa-f:.]+))\s*")
_PAIR: Final = re.compile(
    rb'[ \t]*+(?:([^\s"=;,]++)=(?:"((?:[^"\\]|\\.)*+)"|([^\s"=;,]*+))[ \t]*+)?([;,]|\Z)', re.DOTALL
)


class TrustedProxies:
    """The peers whose word counts.

    Args:
        networks: Addresses, and networks as address/bits.

    Attributes:
        trust: Whether an address is one of theirs.

    Raises:
        ValueError: One is neither.

    Example:
        >>> trusted = TrustedProxies(["10.0.0.0/8"])
        >>> trusted.trust("10.0.0.2"), trusted.trust("::ffff:10.0.0.2"), trusted.trust("203.0.113.7")
        (True, True, False)
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(map(ip_network, networks))
        # Peers are few, and each of their requests asks.
        self.trust: Callable[[str], bool] = lru_cache(_KEPT_ANSWERS)(self._is_listed)

    def __repr__(self) -> str:
        return f"<TrustedProxies: {', '.join(map(str, self._networks))}>"

    def client(self, peer: str, hops: Sequence[bytes]) -> str:
        """The nearest address on a request's way that is no trusted proxy's: nobody can be believed further.

        Args:
            peer: Address of whoever connected to us.
            hops: What was told of the way before, nearest last.

        Example:
            >>> TrustedProxies(["10.0.0.0/8"]).client("10.0.0.2", [b"192.0.2.1", b"203.0.113.7", b"10.0.0.9"])
            '203.0.113.7'
        """
        client = peer
        for hop in reversed(hops):
            # Each was told of by the one after it.
            if not self.trust(client) or (address := address_of(hop)) is None:
                break
            client = str(address)
        return client

    def _is_listed(self, address: str) -> bool:
        parsed = parsed_address(address)
        return parsed is not None and any(parsed in network for network in self._networks)


def told_by(fields: Iterable[tuple[bytes, bytes]]) -> Told:
    """Collect what fields say, those of one name together."""
    told: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for name, value in fields:
        told[name.lower()].append(value)
    return told


def hops_of(told: Told) -> list[bytes]:
    """The hops before the peer, nearest last: those of X-Forwarded-For, or else of Forwarded.

    Example:
        >>> hops_of({b"x-forwarded-for": [b"192.0.2.1, 10.0.0.9"], b"forwarded": [b"for=192.0.2.1"]})
        [b'192.0.2.1', b'10.0.0.9']
    """
    listed = [node for value in told.get(b"x-forwarded-for", ()) for node in _listed(value)]
    return listed or [node for value in told.get(b"forwarded", ()) for node in _elements(value)]


def everyone_in(told: Told) -> Iterator[bytes]:
    """All whom fields name as a request's client or as a hop of its way; none if there are no such fields."""
    for name, read in ((b"x-forwarded-for", _listed), (b"x-real-ip", _listed), (b"forwarded", _elements)):
        for value in told.get(name, ()):
            yield from read(value)


def address_of(hop: bytes) -> Address | None:
    """The address in a hop, which may have brackets and a port.

    Example:
        >>> [str(address_of(hop)) for hop in (b"192.0.2.1", b"192.0.2.1:80", b"[::1]:80", b"::1", b"_hidden", b"1.2.3")]
        ['192.0.2.1', '192.0.2.1', '::1', '::1', 'None', 'None']
    """
    match = _HOP.fullmatch(hop)
    return None if match is None else parsed_address(next(filter(None, match.groups())).decode("ascii"))


def parsed_address(text: str) -> Address | None:
    """An address as a socket tells it; that of IPv4 where a socket for both families wraps it.

    Example:
        >>> parsed_address("::ffff:10.0.0.7"), parsed_address("unknown")
        (IPv4Address('10.0.0.7'), None)
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _listed(value: bytes) -> list[bytes]:
    return [node.strip() for node in value.split(b",")]


def _elements(forwarded: bytes) -> list[bytes]:
    r"""The nodes that a Forwarded field names, one an element.

    A quoted text may have commas, and one that does not end makes the rest of the field anybody's guess.

    Example:
        >>> _elements(b'for=192.0.2.1;proto=https, For="[2001:db8::1]:47011", for=_hidden, proto=http')
        [b'192.0.2.1', b'[2001:db8::1]:47011', b'_hidden', b'unknown']
        >>> _elements(b'for=192.0.2.1;host="a, for=127.0.0.1"'), _elements(b'for=192.0.2.1;host="a, for=127.0.0.1')
        ([b'192.0.2.1'], [b'unknown'])
    """
    nodes = [b""]
    at, more = 0, b","
    while more:
        pair = _PAIR.match(forwarded, at)
        if pair is None:
            return [_UNKNOWN]
        name, quoted, plain, more = pair.groups()
        if name is not None and name.lower() == b"for":
            # An element names one node.
            nodes[-1] = _UNKNOWN if nodes[-1] else quoted or plain or _UNKNOWN
        if more == b",":
            nodes.append(b"")
        at = pair.end()
    return [node or _UNKNOWN for node in nodes]
