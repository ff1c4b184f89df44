"""What a request asks of its way through the gate: how long to wait, at whose cost, and on which replica.

Pure: a request's fields and the first bytes of its body in, plain values out. What has no clear meaning is refused,
whether it would have mattered or not, so that a client learns of it before the day on which it does. It must not know
what comes of a wish.
"""

import re
from collections.abc import Mapping
from typing import Final
from zlib import crc32

from ai_proxy.errors import MalformedRequest

PREFIX_BYTES: Final = 1024
"""Bodies that are alike as far as this count as alike; what is shorter leaves little in an engine's cache."""

_SECONDS: Final = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,6})?")
_PREFERRED: Final = re.compile(rb'(?:^|,)[ \t]*wait[ \t]*=[ \t]*"?([0-9]{1,9})"?[ \t]*(?=$|[,;])', re.IGNORECASE)
_YES: Final = frozenset({b"yes", b"true", b"1"})
_NO: Final = frozenset({b"no", b"false", b"0"})


def max_wait_s(fields: Mapping[bytes, bytes]) -> float | None:
    """How long a request may wait for its service; None where it does not say.

    `X-AI-Proxy-Max-Wait` counts before `Prefer: wait` (RFC 7240), of which whatever is not understood is ignored.

    Args:
        fields: The request's fields, names in lower case.

    Raises:
        MalformedRequest: Our own field is not a number of seconds.

    Example:
        >>> max_wait_s({b"x-ai-proxy-max-wait": b"2.5"}), max_wait_s({b"prefer": b"respond-async, wait=10"})
        (2.5, 10.0)
        >>> max_wait_s({}) is None
        True
    """
    given = fields.get(b"x-ai-proxy-max-wait")
    if given is not None:
        if _SECONDS.fullmatch(given.strip()) is None:
            raise MalformedRequest(
                "X-AI-Proxy-Max-Wait is a number of seconds, like 30 or 2.5", param="x-ai-proxy-max-wait"
            )
        return float(given)
    preferred = fields.get(b"prefer")
    wait = None if preferred is None else _PREFERRED.search(preferred)
    return None if wait is None else float(wait[1])


def may_swap(fields: Mapping[bytes, bytes]) -> bool:
    """Whether a service may be started, and others be made to leave, for a request's sake.

    Args:
        fields: The request's fields, names in lower case.

    Raises:
        MalformedRequest: The field says neither yes nor no.

    Example:
        >>> may_swap({}), may_swap({b"x-ai-proxy-may-swap": b"No"})
        (True, False)
    """
    given = fields.get(b"x-ai-proxy-may-swap")
    if given is None:
        return True
    word = given.strip().lower()
    if word not in _YES and word not in _NO:
        raise MalformedRequest("X-AI-Proxy-May-Swap is yes or no", param="x-ai-proxy-may-swap")
    return word in _YES


def session_of(fields: Mapping[bytes, bytes]) -> bytes | None:
    """What the requests of one session have in common; None for a request outside any.

    Example:
        >>> session_of({b"x-session-id": b"s-1"})
        b's-1'
    """
    return fields.get(b"x-session-id") or None


def prefix_of(beginning: bytes) -> bytes | None:
    """What bodies that begin alike have in common; None for a short one.

    Args:
        beginning: The body's first `PREFIX_BYTES` bytes, as far as there are so many.

    Example:
        >>> prefix_of(b"a" * PREFIX_BYTES) == prefix_of(b"a" * PREFIX_BYTES), prefix_of(b"short")
        (True, None)
    """
    return crc32(beginning).to_bytes(4, "big") if len(beginning) == PREFIX_BYTES else None
