"""Keeps a stream alive whose service is not ready yet: its head goes out early, then a comment now and then.

Owns when that begins, what is said, and what may still follow: the events of a 200, or an error in the words of the
API that was called. It must not know what is waited for; that is told to it in words.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec

from ai_proxy.errors import UpstreamRefused
from ai_proxy.proxy.request import Request
from ai_proxy.routing.endpoints import MESSAGES
from ai_proxy.transport.exchange import Exchange

type Words = Callable[[str], str]
"""What a request for a service waits for, for people: `loading chat, 41 %, about 12 s`."""

_MOST_WORDS: Final = 200
_MOST_READ_BYTES: Final = 64 * 1024
_MOST_READ_S: Final = 5.0
_MOST_QUOTED: Final = 1000
_PLAIN: Final = frozenset({b"", b"identity"})


class Heartbeat:
    """The heartbeats of one request that waits; a timer until the first is due.

    Args:
        request: Who waits.
        every_s: When the first is due, and how long after it each other one.
        words: Says what is waited for.
    """

    def __init__(self, request: Request, every_s: float, words: Words) -> None:
        self._request = request
        self._every_s = every_s
        self._words = words
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(every_s, self._begin)
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Heartbeat of {self._request.id}: {self._request.beats} beats, every {self._every_s:g} s>"

    def granted(self) -> None:
        """The wait is over: what has not begun never will, what has goes on until the answer comes."""
        self._timer.cancel()

    def stop(self) -> None:
        """Beat no more, from this step on."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        if self._request.body.asks_for_stream():
            self._task = self._loop.create_task(self._beat(), name=f"heartbeat of {self._request.id}")

    async def _beat(self) -> None:
        request = self._request
        await request.send({"type": "http.response.start", "status": 200, "headers": _head(request)})
        request.status, request.is_early = 200, True
        while True:
            request.beats += 1
            await request.send_piece(comment(self._words(request.service or "")))
            await asyncio.sleep(self._every_s)


def comment(words: str) -> bytes:
    r"""Write a comment of an event stream: one line, no matter what is said.

    Example:
        >>> comment("loading chat, 41 %\ndata: forged")
        b': loading chat, 41 % data: forged\n\n'
    """
    line = " ".join("".join(char if char.isprintable() else " " for char in words[:_MOST_WORDS]).split())
    return b": %b\n\n" % line.encode("ascii", "replace")


async def take_over(exchange: Exchange, request: Request) -> bool:
    """Beat no more, and let an answer's body follow if a head was sent before there was an answer.

    Returns:
        Whether one was, so that the answer's own is not sent any more.

    Raises:
        UpstreamRefused: It is not what the head promised.
        TransportError: It broke off before it was known what it says.
    """
    request.quieten()
    if not request.is_early:
        return False
    fields = {name.lower(): value for name, value in exchange.headers}
    is_events = fields.get(b"content-type", b"").lower().startswith(b"text/event-stream")
    if exchange.status == 200 and is_events and fields.get(b"content-encoding", b"").lower() in _PLAIN:
        request.is_early = False
        return True
    said = said_in(await _beginning(exchange))
    raise UpstreamRefused(
        f"service {request.service!r} answered the stream with status {exchange.status}{f': {said}' if said else ''}",
        service=request.service,
    )


def said_in(body: bytes) -> str:
    """The message of an engine's error, in whatever shape it is; empty where there is none.

    Example:
        >>> said_in(b'{"error": {"message": "context too long", "code": 400}}'), said_in(b'{"error": "no such model"}')
        ('context too long', 'no such model')
        >>> said_in(b'{"detail": "busy"}'), said_in(b'<html>')
        ('busy', '')
    """
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    return found[:_MOST_QUOTED] if isinstance(found, str) else ""


async def _beginning(exchange: Exchange) -> bytes:
    """All of a small body; nothing of a large or a slow one."""
    body = b""
    try:
        async with asyncio.timeout(_MOST_READ_S):
            while len(body) <= _MOST_READ_BYTES and (piece := await exchange.read()):
                body += piece
    except TimeoutError:
        return b""
    return body if len(body) <= _MOST_READ_BYTES else b""


def _head(request: Request) -> list[tuple[bytes, bytes]]:
    request_id = request.id.encode("ascii")
    fields = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        # Without it nginx would keep the comments to itself
        (b"x-accel-buffering", b"no"),
        (b"x-request-id", request_id),
        (b"x-ai-proxy-service", (request.service or "").encode()),
    ]
    return [*fields, (b"request-id", request_id)] if request.path in MESSAGES else fields
