"""How a request's path goes below the base path of a service that runs elsewhere. Pure; bytes in, bytes out."""

import re

from ai_proxy.errors import MalformedRequest

_VERSION = b"/v1"
_UPWARDS = re.compile(rb"(?:[/\\]|%2f|%5c)(?:\.|%2e){2}(?:[/\\;]|%2f|%5c|\Z)", re.IGNORECASE)


def climbs(path: bytes) -> bool:
    """Whether a path has a segment `..`, in any spelling: a server that resolves it leaves what comes before.

    Example:
        >>> [climbs(path) for path in (b"/a/../b", b"/a/%2E.", b"/a%2f..%2fb", b"/a/..b/...", b"/a?/../")]
        [True, True, True, False, False]
    """
    return _UPWARDS.search(path.partition(b"?")[0]) is not None


def join_path(base: bytes, path: bytes) -> bytes:
    """Put a base path before a request target.

    A base that ends in `/v1`, as SDKs want their base URLs, means the API's root: `/v1` is not doubled.

    Args:
        base: Without a trailing slash; empty for most services.
        path: The request's path with its query, from its first slash on.

    Raises:
        MalformedRequest: It leads out of the base.

    Example:
        >>> join_path(b"", b"/v1/models")
        b'/v1/models'
        >>> join_path(b"/llm", b"/v1/models?a=1")
        b'/llm/v1/models?a=1'
        >>> join_path(b"/llm/v1", b"/v1/models?a=1")
        b'/llm/v1/models?a=1'
        >>> join_path(b"/v1", b"/v1"), join_path(b"/v1", b"/v1?x"), join_path(b"/v1", b"/v10/x")
        (b'/v1', b'/v1?x', b'/v1/v10/x')
    """
    if not base:
        return path
    if climbs(path):
        raise MalformedRequest("the path has a segment `..`, which would lead out of what this service offers")
    if base.endswith(_VERSION) and path.startswith(_VERSION) and path[3:4] in {b"", b"/", b"?"}:
        return base + path[3:]
    return base + path
