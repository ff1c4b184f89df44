"""Keeps web pages out: a browser that runs someone else's page must not steer the proxy.

Such a page can send requests to loopback and private addresses. It is known by three headers that it can't choose:

1. `Host`: a page that made its own name lead here (DNS rebinding) sends that public name.
2. `Sec-Fetch-Site`: the browser says whether another site is behind a request.
3. `Origin`: the page's own address, which differs from the one that it asks.

Programs send none of the last two, and reach the proxy by an address or a name of the local network.
"""

import ipaddress
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ai_proxy.api.access import OPEN
from ai_proxy.api.problems import Refused, answer
from ai_proxy.config.models import Config
from ai_proxy.config.origins import canonical_origin

_LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAY_NOT = "may not use the management API; management.trusted_origins names those that may"


class Guard:
    """Refuses requests of foreign web pages before any route sees them.

    Args:
        app: What is guarded.
        config: Tells the config in force, which may name more hosts and origins than can be known as ours.
    """

    def __init__(self, app: ASGIApp, config: Callable[[], Config]) -> None:
        self._app = app
        self._config = config

    def __repr__(self) -> str:
        return f"<Guard of {self._app!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403."""
        if scope["type"] == "http" and scope["path"] != OPEN:
            config = self._config()
            listeners = (config.server.host, config.management.host or "")
            hosts = {*map(str.lower, listeners), *config.management.allowed_hosts}
            fault = fault_of(scope["method"], Headers(scope=scope), hosts, config.management.trusted_origins)
            if fault:
                scope["state"]["actor"] = "a foreign page"
                await answer(scope, Refused(403, "foreign_page", fault))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def fault_of(
    method: str, headers: Headers, own_hosts: Collection[str] = (), trusted_origins: Collection[str] = ()
) -> str:
    """Say why a request looks like one of a foreign page; empty if it does not.

    Args:
        method: The request's method.
        headers: Its headers.
        own_hosts: Host names that are ours beside the local ones, in lower case.
        trusted_origins: Origins of pages that are ours beside those of the host that is asked.

    Example:
        >>> fault_of("GET", Headers({"host": "localhost:8000"}))
        ''
        >>> fault_of("POST", Headers({"host": "localhost:8000", "origin": "https://evil.example"})).partition(";")[0]
        "a page of 'https://evil.example' may not use the management API"
    """
    host, _ = _authority(headers.get("host", ""))
    if not host or not (_is_local(host) or host in own_hosts):
        return f"{host!r} is not known as a name of this proxy: use its address, or add it to management.allowed_hosts"
    origin = headers.get("origin")
    if origin is not None and canonical_origin(origin) in trusted_origins:
        return ""
    if origin is not None and not _is_same(origin, headers.get("host", "")):
        return f"a page of {origin[:80]!r} {_MAY_NOT}"
    if headers.get("sec-fetch-site") in {"cross-site", "same-site"} and not _is_link(method, headers):
        return f"a page of another site {_MAY_NOT}"
    return ""


def _authority(value: str) -> tuple[str, int | None]:
    """Host, lower-case and without brackets, and port of `host:port`; an empty host if it is no such thing."""
    try:
        parts = urlsplit(f"//{value}")
        port = parts.port
    except ValueError:
        return "", None
    return parts.hostname or "", port


def _is_local(host: str) -> bool:
    """Whether a name can't be that of a rebinding page: an address, or a name that no public DNS server answers for.

    Example:
        >>> _is_local("10.0.0.7"), _is_local("gpu-box"), _is_local("proxy.svc.cluster.local"), _is_local("evil.example")
        (True, True, True, False)
    """
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "." not in host or host.endswith(_LOCAL_SUFFIXES)
    return True


def _is_same(origin: str, host: str) -> bool:
    """Whether a page comes from where it sends its request to."""
    scheme, _, authority = origin.partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    if port is None:
        return False
    (name, own_port), (asked, asked_port) = _authority(authority), _authority(host)
    return name == asked and (own_port or port) == (asked_port or port)


def _is_link(method: str, headers: Headers) -> bool:
    """Whether the user follows a link to here: the page it is on reads nothing of the answer."""
    return (
        method == "GET" and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    )
