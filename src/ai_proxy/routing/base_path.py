"""How a request's path goes below the base path of a service that runs elsewhere. Pure; bytes in, bytes out."""

_VERSION = b"/v1"


def join_path(base: bytes, path: bytes) -> bytes:
    """Put a base path before a request target.

    A base that ends in `/v1`, as SDKs want their base URLs, means the API's root: `/v1` is not doubled.

    Args:
        base: Without a trailing slash; empty for most services.
        path: The request's path with its query, from its first slash on.

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
    if base.endswith(_VERSION) and path.startswith(_VERSION) and path[3:4] in {b"", b"/", b"?"}:
        return base + path[3:]
    return base + path
