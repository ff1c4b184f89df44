"""The way of a request that came by a trusted proxy, as an engine is told of it. Pure.

Owns what goes on in place of the fields that the proxies wrote: what they said, and the peer itself at the end. How
they are read, and whose word counts, is `forwarding`'s business; what a peer says that is not trusted is never read.
"""

from typing import NamedTuple

from ai_proxy.forwarding import Told, TrustedProxies, address_of, hops_of, told_by
from ai_proxy.proxy.headers import Fields, peer_lines


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


def way_of(trusted: TrustedProxies, peer: str, scheme: str, fields: Fields) -> Way | None:
    """Read a request's way; None if its peer is not trusted.

    Args:
        trusted: Whose word counts.
        peer: Address of whoever connected to us.
        scheme: http or https, as they did.
        fields: The request's fields, raw.

    Example:
        >>> fields = [(b"X-Forwarded-For", b"203.0.113.7, 10.0.0.9")]
        >>> way = way_of(TrustedProxies(["10.0.0.0/8"]), "10.0.0.2", "http", fields)
        >>> way.client, way.lines.splitlines()[0]
        ('203.0.113.7', b'X-Forwarded-For: 203.0.113.7, 10.0.0.9, 10.0.0.2')
        >>> way_of(TrustedProxies(), "10.0.0.2", "http", fields) is None
        True
    """
    if not trusted.trust(peer):
        return None
    told = told_by(fields)
    hops = hops_of(told)
    # Who tells of its hops in one of the two ways tells of them in both, or an engine would take us for the client.
    inferred = {b"x-forwarded-for": b", ".join(hops), b"forwarded": b", ".join(map(_as_node, hops))}
    lines = []
    for line in peer_lines(peer, scheme).split(b"\r\n"):
        name, _, ours = line.partition(b": ")
        lower = name.lower()
        theirs = _joined(told, lower) or inferred.get(lower)
        if theirs:
            ours = theirs if name == b"X-Forwarded-Proto" else b"%b, %b" % (theirs, ours)
        lines.append(b"%b: %b" % (name, ours))
    return Way(trusted.client(peer, hops), b"\r\n".join(lines), _joined(told, b"x-forwarded-host") or None)


def _joined(told: Told, name: bytes) -> bytes:
    return b", ".join(filter(None, told.get(name, ())))


def _as_node(hop: bytes) -> bytes:
    """A hop as an element of Forwarded; what is no address may have any character.

    Example:
        >>> _as_node(b" 192.0.2.1:80"), _as_node(b"2001:db8::1"), _as_node(b"a, b")
        (b'for=192.0.2.1', b'for="[2001:db8::1]"', b'for=unknown')
    """
    address = address_of(hop)
    if address is None:
        return b"for=unknown"
    return (f'for="[{address}]"' if address.version == 6 else f"for={address}").encode()
