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
