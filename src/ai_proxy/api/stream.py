"""Answers that go on: the event bus and engines' output as server-sent events.

A reader that is too slow loses the oldest events and is told how many; it never slows anyone down. A comment every
few seconds keeps the connection alive. An answer ends when its source ends, its reader leaves or the proxy closes,
and takes its source with it.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import asdict
from typing import Final, cast

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from ai_proxy.errors import CannotServe
from ai_proxy.events import Event, EventBus

KEEP_ALIVE_S: Final = 10.0
LAST_SEND_S: Final = 1.0
_ALIVE: Final = b": alive\n\n"


class EventStream(Response):
    """An answer of server-sent events.

    Args:
        source: The events, one piece of bytes each; closed with the answer.
        closing: Is set when the proxy is shutting down.
    """

    media_type = "text/event-stream"

    def __init__(self, source: AsyncGenerator[bytes], closing: asyncio.Event) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._source = source
        self._closing = closing

    def __repr__(self) -> str:
        return f"<EventStream of {self._source!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's signature
        """Send until the first of the three ends comes."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.create_task(self._pass_on(send))
        leaving = asyncio.create_task(_until_gone(receive))
        closing = asyncio.create_task(self._closing.wait())
        tasks = {sending, leaving, closing}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._source.aclose()
        if not sending.cancelled():
            sending.result()
        if not leaving.done() or leaving.cancelled():
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_SEND_S):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass_on(self, send: Send) -> None:
        async for piece in self._source:
            await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def events_as_sse(bus: EventBus) -> AsyncGenerator[bytes]:
    """Yield the events of a bus from now on."""
    subscription = bus.open()
    lost = 0
    try:
        yield b": connected\n\n"
        async with aclosing(ticking(subscription.next)) as events:
            async for event in events:
                if subscription.lost != lost:
                    yield sse("lost", {"events": subscription.lost - lost})
                    lost = subscription.lost
                yield _ALIVE if event is None else sse(event.kind, _fields(event))
    finally:
        bus.close(subscription)


async def lines_as_sse(lines: AsyncIterator[str], *, skip: int = 0) -> AsyncGenerator[bytes]:
    """Yield lines as they come, but for the first `skip`, until they end."""
    async with (
        aclosing(cast("AsyncGenerator[str]", lines)) as source,
        aclosing(ticking(source.__anext__)) as ticks,
    ):
        try:
            async for line in ticks:
                if line is None:
                    yield _ALIVE
                elif skip:
                    skip -= 1
                else:
                    yield sse("line", {"text": line})
        except CannotServe as error:
            yield sse("error", {"detail": error.message})
        yield sse("end", {})


async def ticking[T](following: Callable[[], Awaitable[T]], every_s: float = KEEP_ALIVE_S) -> AsyncGenerator[T | None]:
    """Yield what `following` brings, one after the other, and None now and then while nothing comes.

    Ends when `following` raises StopAsyncIteration.
    """
    pending: asyncio.Future[T] = asyncio.ensure_future(following())
    try:
        while True:
            done, _ = await asyncio.wait({pending}, timeout=every_s)
            if not done:
                yield None
                continue
            try:
                item = pending.result()
            except StopAsyncIteration:
                return
            pending = asyncio.ensure_future(following())
            yield item
    finally:
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)


def sse(kind: str, data: dict[str, object]) -> bytes:
    r"""One server-sent event.

    Example:
        >>> sse("line", {"text": "a\nb"})
        b'event: line\ndata: {"text":"a\\nb"}\n\n'
    """
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _fields(event: Event) -> dict[str, object]:
    return {"type": event.kind, **asdict(event)}
