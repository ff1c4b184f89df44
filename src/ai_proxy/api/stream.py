"""Answers that go on: the event bus and engines' output as server-sent events.

A reader that is too slow loses the oldest events and is told how many; it never slows anyone down. A comment every
few seconds keeps the connection alive and shows a gone reader.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict
from typing import Final, cast

from ai_proxy.errors import CannotServe
from ai_proxy.events import Event, EventBus

KEEP_ALIVE_S: Final = 10.0
CLOSING_CHECK_S: Final = 0.5
SSE_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


async def events_as_sse(bus: EventBus, closing: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield the events of a bus from now on, until the proxy ends or the reader leaves."""
    subscription = bus.open()
    lost = 0
    try:
        yield b": connected\n\n"
        async for event in ticking(subscription.next, closing):
            if subscription.lost != lost:
                yield sse("lost", {"events": subscription.lost - lost})
                lost = subscription.lost
            yield b": alive\n\n" if event is None else sse(event.kind, _fields(event))
    finally:
        bus.close(subscription)


async def lines_as_sse(lines: AsyncIterator[str], closing: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield lines as they come, until they end, the proxy ends or the reader leaves."""
    async with aclosing(cast("AsyncGenerator[str]", lines)) as source:
        try:
            async for line in ticking(source.__anext__, closing):
                yield b": alive\n\n" if line is None else sse("line", {"text": line})
        except CannotServe as error:
            yield sse("error", {"detail": error.message})
    yield sse("end", {})


async def ticking[T](following: Callable[[], Awaitable[T]], closing: Callable[[], bool]) -> AsyncGenerator[T | None]:
    """Yield what `following` brings, one after the other, and None now and then when nothing comes.

    Ends when the proxy is closing, or when `following` raises StopAsyncIteration.
    """
    pending: asyncio.Future[T] = asyncio.ensure_future(following())
    silent_s = 0.0
    try:
        while not closing():
            done, _ = await asyncio.wait({pending}, timeout=CLOSING_CHECK_S)
            if done:
                try:
                    item = pending.result()
                except StopAsyncIteration:
                    return
                pending, silent_s = asyncio.ensure_future(following()), 0.0
                yield item
            elif (silent_s := silent_s + CLOSING_CHECK_S) >= KEEP_ALIVE_S:
                silent_s = 0.0
                yield None
    finally:
        pending.cancel()
        await asyncio.wait({pending})


def sse(kind: str, data: dict[str, object]) -> bytes:
    r"""One server-sent event.

    Example:
        >>> sse("line", {"text": "a\nb"})
        b'event: line\ndata: {"text":"a\\nb"}\n\n'
    """
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _fields(event: Event) -> dict[str, object]:
    return {"type": event.kind, **asdict(event)}
