"""A connection that leaves HTTP: whether the upstream agreed to what was asked, and what is left of it then.

From then on it is a socket like any other: whoever takes it over gives it a protocol of their own.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple


class RawSocket(NamedTuple):
    """A socket that carries no more HTTP; it is not read until its new owner says so.

    Attributes:
        transport: It; its present protocol still wants to hear of its end.
        early: What came after the last byte of HTTP.
        pause: Reads no more.
        resume: Reads on.
        on_read: Wants to hear of each read.
    """

    transport: asyncio.Transport
    early: bytes
    pause: Callable[[], None]
    resume: Callable[[], None]
    on_read: Callable[[], None] | None = None


def tokens(fields: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """List what fields of a name name, in lower case.

    Args:
        fields: Raw fields.
        name: The name in lower case.

    Example:
        >>> tokens([(b"Connection", b"keep-alive, Upgrade"), (b"connection", b"")], b"connection")
        [b'keep-alive', b'upgrade']
    """
    values = (value for field, value in fields if field.lower() == name)
    parts = (part.strip().lower() for value in values for part in value.split(b","))
    return [part for part in parts if part]


def agrees(asked: bytes, fields: list[tuple[bytes, bytes]]) -> bool:
    """Say whether a 101 switches to what was asked for.

    Args:
        asked: The request's Upgrade field.
        fields: The response's fields.

    Example:
        >>> agrees(b"websocket", [(b"Upgrade", b"WebSocket"), (b"Connection", b"upgrade")])
        True
        >>> agrees(b"websocket", [(b"Upgrade", b"h2c"), (b"Connection", b"upgrade")])
        False
    """
    offered = [part.strip() for part in asked.lower().split(b",")]
    chosen = tokens(fields, b"upgrade")
    return len(chosen) == 1 and chosen[0] in offered and b"upgrade" in tokens(fields, b"connection")
