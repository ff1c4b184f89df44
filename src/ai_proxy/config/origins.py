"""Web origins and host names, as browsers write them.

Pure. An origin is compared as a whole: scheme, host and port, the scheme's own port left out.
"""

import re
from typing import Annotated

from pydantic import AfterValidator

from ai_proxy.config.fields import Rejected

_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?")
_HOST = re.compile(r"\[?[0-9a-f:.]*:[0-9a-f:.]*\]?|[a-z0-9._-]+")
_OWN_PORTS = {("http", "80"), ("https", "443")}


def canonical_origin(value: str) -> str:
    """Write an origin as browsers do; empty if it is none.

    Example:
        >>> canonical_origin("HTTPS://Chat.example:443"), canonical_origin("http://[::1]:3000")
        ('https://chat.example', 'http://[::1]:3000')
        >>> canonical_origin("null"), canonical_origin("https://chat.example/")
        ('', '')
    """
    match = _ORIGIN.fullmatch(value.lower())
    if match is None:
        return ""
    scheme, host, port = match.groups()
    return f"{scheme}://{host}" if port is None or (scheme, port) in _OWN_PORTS else f"{scheme}://{host}:{port}"


def origin(value: str) -> str:
    """Check an origin.

    Raises:
        Rejected: It is none, or `null`, which every sandboxed page has.

    Example:
        >>> origin("https://chat.example:443")
        'https://chat.example'
    """
    if value == "null":
        raise Rejected('"null" is the origin of every sandboxed page', "name the origins of pages")
    if not (canonical := canonical_origin(value)):
        raise Rejected(f"not an origin: {value!r}", "write https://chat.example or http://localhost:3000, no path")
    return canonical


def origin_or_any(value: str) -> str:
    """Check an origin, or `*` for all.

    Example:
        >>> origin_or_any("*")
        '*'
    """
    return value if value == "*" else origin(value)


def host_name(value: str) -> str:
    """Check a host's name or address, as it stands in `Host` before the port.

    Raises:
        Rejected: It is none.

    Example:
        >>> host_name("AI.example.com"), host_name("[2001:db8::7]")
        ('ai.example.com', '2001:db8::7')
    """
    lower = value.lower()
    if _HOST.fullmatch(lower) is None:
        raise Rejected(f"not a host's name: {value!r}", "write ai.example.com: no scheme, port, path or wildcard")
    return lower.strip("[]")


OriginName = Annotated[str, AfterValidator(origin)]
OriginOrAny = Annotated[str, AfterValidator(origin_or_any)]
HostName = Annotated[str, AfterValidator(host_name)]
