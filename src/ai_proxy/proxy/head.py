"""A request's head: target, authority, version and framing, read strictly, bytes kept. Pure.

A raw path is never decoded, normalised or joined here; what does not look like one authority is refused rather than
guessed, because the authority is also what keeps a foreign page from reaching us under its own name.
"""

import re
from typing import NamedTuple

from ai_proxy.errors import MalformedRequest

_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_LENGTH_DIGITS = 18  # more would not fit the 63 bits in which engines count
_SCHEMES = frozenset({b"http", b"https"})
_UPGRADES_ONLY = frozenset({b"upgrade", b"http2-settings"})


class Target(NamedTuple):
    """A request target in its parts.

    Attributes:
        path: Raw path, as it came; `*` for `OPTIONS *`.
        query: Raw query without its question mark.
        authority: Of an absolute-form target; it replaces the Host field.
    """

    path: bytes
    query: bytes
    authority: bytes | None = None


def is_authority(value: bytes) -> bool:
    """Say whether `value` is one host with an optional port, and nothing else.

    Example:
        >>> [is_authority(host) for host in (b"a.b:80", b"[::1]:80", b"", b"u@a", b"a/b", b"a,b", b"a:b")]
        [True, True, False, False, False, False, False]
    """
    return _AUTHORITY.fullmatch(value) is not None


def split_target(target: bytes) -> Target:
    """Take a request target apart.

    Args:
        target: Origin form, absolute form or `*`.

    Raises:
        MalformedRequest: It is none of these.

    Example:
        >>> split_target(b"/a%2Fb//c?x=1;y=2")
        Target(path=b'/a%2Fb//c', query=b'x=1;y=2', authority=None)
        >>> split_target(b"http://api.local:80?q")
        Target(path=b'/', query=b'q', authority=b'api.local:80')
    """
    if b"#" in target:
        raise MalformedRequest("the request target has a fragment")
    if target.startswith(b"/"):
        path, _, query = target.partition(b"?")
        return Target(path, query, None)
    if target == b"*":
        return Target(target, b"")
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in _SCHEMES:
        raise MalformedRequest("the request target is neither a path nor an http URL")
    before, _, query = rest.partition(b"?")
    authority, slash, path = before.partition(b"/")
    if not is_authority(authority):
        raise MalformedRequest("the request target has no valid host")
    return Target(slash + path or b"/", query, authority)


def with_host(authority: bytes, fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Let an absolute-form target decide whom a request is for, whatever its Host says (RFC 9112 §3.2.2).

    Example:
        >>> with_host(b"b", [(b"Host", b"a"), (b"Accept", b"*/*")])
        [(b'Accept', b'*/*'), (b'Host', b'b')]
    """
    return [*(field for field in fields if field[0].lower() != b"host"), (b"Host", authority)]


def check_head(version: str, headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes]) -> None:
    """Refuse a head that two readers could understand in two ways.

    Args:
        version: Of HTTP, as the parser read it.
        headers: All fields, names in lower case.
        fields: The same as a mapping.

    Raises:
        MalformedRequest: Not HTTP/1.0 or 1.1; not exactly one valid Host; a transfer coding other than `chunked`; a
            length without end.
    """
    if version != "1.1" and version != "1.0":  # noqa: PLR1714 (twice as fast as a set)
        raise MalformedRequest("the request is neither HTTP/1.1 nor HTTP/1.0")
    host = fields.get(b"host")
    if host is None:
        if version == "1.1":
            raise MalformedRequest("the request has no Host field")
    elif not is_authority(host):
        raise MalformedRequest("the Host field is not a host with an optional port")
    elif _is_repeated(b"host", headers, fields):
        raise MalformedRequest("the request has more than one Host field")
    coding = fields.get(b"transfer-encoding")
    if coding is not None and (
        version == "1.0" or coding.lower() != b"chunked" or _is_repeated(b"transfer-encoding", headers, fields)
    ):
        raise MalformedRequest("the only transfer coding taken is `chunked`, once, in HTTP/1.1")
    length = fields.get(b"content-length")
    if length is not None and len(length) > _LENGTH_DIGITS:
        raise MalformedRequest("the Content-Length is too large to be one")


def _is_repeated(name: bytes, headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes]) -> bool:
    return len(fields) != len(headers) and sum(field == name for field, _ in headers) > 1


def may_upgrade(version: str, headers: list[tuple[bytes, bytes]]) -> bool:
    """Say whether a request that asks for another protocol can have it; if not, it is answered as if it had not asked.

    HTTP/1.0 knows no upgrades (RFC 9110 §7.8). The parser takes a body for what follows the upgrade. HTTP/2 is what
    Java's client asks of every server, and none has to answer.

    Args:
        version: Of HTTP.
        headers: All fields, names in lower case.

    Example:
        >>> may_upgrade("1.1", [(b"upgrade", b"websocket")]), may_upgrade("1.1", [(b"upgrade", b"h2c")])
        (True, False)
    """
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return False
        if name == b"upgrade" and b"h2c" in value.lower():
            return False
    return version == "1.1"


def head_without_upgrade(method: str, target: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> bytes:
    r"""Write a request's head anew, as if it asked for no other protocol.

    Args:
        method: As it came.
        target: As it came.
        version: Of HTTP.
        headers: Raw fields.

    Example:
        >>> head_without_upgrade("GET", b"/", "1.1", [(b"Host", b"a"), (b"Connection", b"Upgrade, x")])
        b'GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\n\r\n'
    """
    lines = [b"%b %b HTTP/%b" % (method.encode("ascii"), target, version.encode("ascii"))]
    for name, value in headers:
        lower = name.lower()
        if lower == b"connection":
            kept = b", ".join(
                part for each in value.split(b",") if (part := each.strip()).lower() not in _UPGRADES_ONLY
            )
            lines.append(b"%b: %b" % (name, kept))
        elif lower not in _UPGRADES_ONLY:
            lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join((*lines, b"", b""))
