"""Header fields across the proxy: the complete head of an upstream request, the fields of a client's response.

Bytes in, bytes out; pure. Names keep their spelling, order and duplicates; values keep every byte. What is about one
connection ends here, what says where a request came from is replaced by what we know ourselves, and nothing that could
break out of its line goes on. It must not know of services, sockets or messages.
"""

import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from ai_proxy.errors import MalformedRequest

type Fields = Iterable[tuple[bytes, bytes]]

_TOKEN_BYTES: Final = b"!#$%&'*+-.^_`|~" + (string.ascii_letters + string.digits).encode()
_CONTROLS: Final = bytes(byte for byte in (*range(0x20), 0x7F) if byte != 0x09)
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_OWN_PREFIX: Final = b"x-ai-proxy-"
_FORWARDED_PREFIX: Final = b"x-forwarded-"
_VIA: Final = "1.1 ai-proxy"
_PEER_BREAKS: Final = 3  # inside what `peer_lines` writes


class _Fate(Enum):
    """What becomes of a request's field."""

    KEEP = auto()
    DROP = auto()
    HOST = auto()
    LENGTH = auto()
    CODING = auto()
    CONNECTION = auto()
    TE = auto()


_HOP_BY_HOP: Final = (
    b"http2-settings",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"upgrade",
)
# `Expect` is answered by the server that read the head; a request's trailers are not passed on.
_REPLACED: Final = (
    b"expect",
    b"forwarded",
    b"trailer",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"x-request-id",
)
_COMMON: Final = (
    b"accept",
    b"accept-encoding",
    b"accept-language",
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-type",
    b"cookie",
    b"origin",
    b"referer",
    b"user-agent",
    b"x-api-key",
    b"x-stainless-arch",
    b"x-stainless-async",
    b"x-stainless-lang",
    b"x-stainless-os",
    b"x-stainless-package-version",
    b"x-stainless-read-timeout",
    b"x-stainless-retry-count",
    b"x-stainless-runtime",
    b"x-stainless-runtime-version",
)
_FATES: Final = {
    **dict.fromkeys(_COMMON, _Fate.KEEP),
    **dict.fromkeys(_HOP_BY_HOP + _REPLACED, _Fate.DROP),
    b"connection": _Fate.CONNECTION,
    b"content-length": _Fate.LENGTH,
    b"host": _Fate.HOST,
    b"te": _Fate.TE,
    b"transfer-encoding": _Fate.CODING,
}
# As clients spell them: one look-up decides on almost every field.
_COMMON_SPELLED: Final = frozenset(spelled for name in _COMMON for spelled in (name, name.title()))
_SPELLED: Final = {spelled: fate for name, fate in _FATES.items() for spelled in (name, name.title())}

_PLAIN_CONNECTION: Final = frozenset({b"", b"close", b"keep-alive", b"Keep-Alive"})
_UNLISTABLE: Final = frozenset(
    {b"authorization", b"content-length", b"content-type", b"host", b"te", b"transfer-encoding"}
)
_ENDS_HERE: Final = frozenset({*_HOP_BY_HOP, b"connection", b"te", b"transfer-encoding", b"x-request-id"})


class RequestHead(NamedTuple):
    """The head of a request as it goes upstream.

    Attributes:
        data: All of it, the empty line included.
        chunked: It declares a chunked body.
    """

    data: bytes
    chunked: bool


@dataclass(frozen=True, slots=True)
class SetFields:
    """Fields that a service's config sets, in place of the client's.

    Attributes:
        names: Their names in lower case.
        lines: Their lines, ready to be sent.
    """

    names: frozenset[bytes] = frozenset()
    lines: bytes = b""

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> "SetFields":
        r"""Prepare configured fields.

        Raises:
            ValueError: A name or value can't be sent, or the field is the proxy's own business.

        Example:
            >>> SetFields.of({"Authorization": "Bearer k"}).lines
            b'Authorization: Bearer k\r\n'
        """
        names: set[bytes] = set()
        lines: list[bytes] = []
        for name, value in fields.items():
            raw, text = name.encode(), value.encode()
            lower = raw.lower()
            if not raw or raw.translate(None, _TOKEN_BYTES) or text.translate(None, _CONTROLS) != text:
                raise ValueError(f"header {name!r} has a name or a value that HTTP can't carry")
            if lower.startswith(_OWN_PREFIX) or _FATES.get(lower, _Fate.KEEP) not in {_Fate.KEEP, _Fate.HOST}:
                raise ValueError(f"header {name!r} is set by the proxy itself; remove it")
            if lower in names:
                raise ValueError(f"header {name!r} is set twice, in two spellings; remove one")
            names.add(lower)
            lines.append(b"%b: %b\r\n" % (raw, text))
        return cls(frozenset(names), b"".join(lines))


_SET_NOTHING: Final = SetFields()


def peer_lines(address: str, scheme: str) -> bytes:
    r"""Write what a request's origin is told by, once per client connection.

    Args:
        address: IP address of the peer, or `unknown` where it has none (a Unix socket).
        scheme: http or https.

    Returns:
        Complete lines, then an open `Forwarded` line that `outbound` ends.

    Example:
        >>> peer_lines("::1", "http").splitlines()[0::3]
        [b'X-Forwarded-For: ::1', b'Forwarded: for="[::1]";proto=http']
    """
    node = f'"[{address}]"' if ":" in address else address
    lines = (
        f"X-Forwarded-For: {address}",
        f"X-Forwarded-Proto: {scheme}",
        f"Via: {_VIA}",
        f"Forwarded: for={node};proto={scheme}",
    )
    return "\r\n".join(lines).encode("ascii")


def outbound(
    method: bytes,
    target: bytes,
    fields: Fields,
    *,
    peer: bytes,
    request_id: bytes,
    asked_host: bytes | None = None,
    host: bytes | None = None,
    content_length: int | None = None,
    setting: SetFields = _SET_NOTHING,
    withheld: frozenset[bytes] = frozenset(),
    upgrade: bytes = b"",
) -> RequestHead:
    r"""Write the head of the upstream request.

    Args:
        method: As the client sent it.
        target: Path and query to ask for.
        fields: The client's fields, raw, Host among them.
        peer: What `peer_lines` wrote for this client.
        request_id: Id that the engine is told.
        asked_host: The Host that the client asked for, where a proxy in front knows better than its request.
        host: Host to name; None: the client's own, which engines that check origins compare with `Origin`.
        content_length: Of a body that is held whole, or not the client's bytes any more; None: its framing stays.
        setting: Fields that the service sets.
        withheld: Names of the client's fields that the engine is not to see, in lower case.
        upgrade: Protocols to ask the engine for.

    Raises:
        MalformedRequest: A name, a value or the framing that no engine may see.

    Example:
        >>> fields = [(b"host", b"ai"), (b"Accept", b"*/*"), (b"Connection", b"x-hop"), (b"X-Hop", b"1")]
        >>> head = outbound(b"GET", b"/", fields, peer=peer_lines("::1", "http"), request_id=b"r-1")
        >>> head.data.splitlines()[:3]
        [b'GET / HTTP/1.1', b'Accept: */*', b'Host: ai']
    """
    if b" " in target or b" " in method:
        raise MalformedRequest("the request's method or target has a space")
    kept, listed, client_host, chunked = _sort(fields, content_length)
    if listed or setting.names or withheld:
        dropped = listed | setting.names | withheld
        kept = [field for field in kept if field[0].lower() not in dropped]
    lines = [b"%b %b HTTP/1.1" % (method, target), *map(b": ".join, kept)]
    if b"host" not in setting.names:
        lines.append(b"Host: %b" % (host or client_host or b""))
    if upgrade:
        lines += b"Connection: Upgrade", b"Upgrade: %b" % upgrade
    if client_host is None:
        lines.append(peer)
    else:
        lines.append(b'%b;host="%b"\r\nX-Forwarded-Host: %b' % (peer, client_host, asked_host or client_host))
    lines.append(b"%bX-Request-Id: %b\r\n\r\n" % (setting.lines, request_id))
    data = b"\r\n".join(lines)
    # Every line has its one break and no other control byte: the last one's is the empty line's.
    breaks = 1 + _PEER_BREAKS + len(lines) + len(setting.names) + (client_host is not None)
    if len(data.translate(None, _CONTROLS)) != len(data) - 2 * breaks:
        raise MalformedRequest("the request's head has control characters")
    return RequestHead(data, chunked)


def _sort(
    fields: Fields, content_length: int | None
) -> tuple[list[tuple[bytes, bytes]], frozenset[bytes], bytes | None, bool]:
    """Tell apart: the fields to pass on, the names that `Connection` lists, the Host, whether the body is chunked."""
    kept: list[tuple[bytes, bytes]] = []
    listed: frozenset[bytes] = frozenset()
    host = length = coding = None
    for field in fields:
        name, value = field
        if name in _COMMON_SPELLED:
            kept.append(field)
            continue
        fate = _SPELLED.get(name) or _fate(name)
        if fate is _Fate.KEEP:
            kept.append(field)
        elif fate is _Fate.CONNECTION:
            listed |= _listed(value)
        elif fate is _Fate.HOST and host is None and b'"' not in value and b"\\" not in value:
            host = value
        elif fate is _Fate.LENGTH and length is None and value.isdigit():
            length = field
        elif fate is _Fate.CODING and coding is None and value.lower() == b"chunked":
            coding = field
        elif fate is _Fate.TE:
            kept += [(b"TE", b"trailers")] if b"trailers" in value.lower() else []
        elif fate is not _Fate.DROP:
            raise MalformedRequest(f"the field {name.decode()} is repeated or has no valid value")
    if length is not None and coding is not None:
        raise MalformedRequest("the request has both Content-Length and Transfer-Encoding")
    if content_length is not None:
        length, coding = (b"Content-Length", b"%d" % content_length), None
    kept += [field for field in (length, coding) if field]
    return kept, listed, host, coding is not None


def _fate(name: bytes) -> _Fate:
    """Decide on a field that is rare, or spelled in a way that is."""
    lower = name.lower()
    fate = _FATES.get(lower)
    if fate is not None:
        return fate
    if not name or name.translate(None, _TOKEN_BYTES):
        raise MalformedRequest("a header name has characters that HTTP does not allow")
    return _Fate.DROP if lower.startswith((_OWN_PREFIX, _FORWARDED_PREFIX)) else _Fate.KEEP


def _listed(value: bytes) -> frozenset[bytes]:
    """The fields that a `Connection` names as its own; it can't name those that a request needs, or ours."""
    if value in _PLAIN_CONNECTION:
        return frozenset()
    return frozenset(name.strip() for name in value.lower().split(b",")) - _UNLISTABLE


def inbound(fields: Fields, *, request_id: bytes, service: bytes) -> list[tuple[bytes, bytes]]:
    r"""Choose the fields of the client's response.

    Hop-by-hop fields end here, and so do an engine's own `x-request-id` and anything that looks like ours; the rest
    stays as it is, in order, each `Set-Cookie` for itself. Framing was checked by the transport.

    Args:
        fields: The upstream's fields, raw.
        request_id: Id that the client is told.
        service: Id of the service that answered.

    Example:
        >>> fields = [(b"Content-Type", b"text/plain"), (b"Connection", b"close"), (b"Keep-Alive", b"timeout=5")]
        >>> inbound(fields, request_id=b"r-1", service=b"chat")
        [(b'Content-Type', b'text/plain'), (b'x-request-id', b'r-1'), (b'x-ai-proxy-service', b'chat')]
    """
    kept: list[tuple[bytes, bytes]] = []
    listed: frozenset[bytes] = frozenset()
    for field in fields:
        lower = field[0].lower()
        if lower not in _ENDS_HERE and not lower.startswith(_OWN_PREFIX):
            kept.append(field)
        elif lower == b"connection":
            listed |= _listed(field[1])
    if listed:
        kept = [field for field in kept if field[0].lower() not in listed]
    kept.append((b"x-request-id", request_id))
    kept.append((b"x-ai-proxy-service", service))
    return kept


def is_request_id(value: bytes) -> bool:
    """Whether a client's `x-request-id` may serve as ours: short, and harmless in logs and headers.

    Example:
        >>> is_request_id(b"req_01J-abc"), is_request_id(b"a b"), is_request_id(b"x" * 200)
        (True, False, False)
    """
    return _REQUEST_ID.fullmatch(value) is not None
