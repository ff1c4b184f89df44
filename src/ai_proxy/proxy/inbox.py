"""Notices lost clients on ASGI servers that tell them only through `receive`.

One task reads one message ahead, so a disconnect is seen while nobody reads the body. On our own protocol nothing of
this is used.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

type Message = Mapping[str, Any]


class Inbox:
    """`receive`, one message ahead.

    Args:
        receive: The ASGI server's.
        gone: Called once the client is gone.
    """

    def __init__(self, receive: Callable[[], Awaitable[Message]], gone: Callable[[], None]) -> None:
        self._receive = receive
        self._gone = gone
        self._messages: asyncio.Queue[Message | BaseException] = asyncio.Queue(1)
        self._reading = asyncio.create_task(self._read(), name="inbox")

    def __repr__(self) -> str:
        return f"<Inbox: {self._messages.qsize()} waiting>"

    async def receive(self) -> Message:
        """Give the next message.

        Raises:
            BaseException: What the server's own `receive` raised.
        """
        message = await self._messages.get()
        if isinstance(message, BaseException):
            raise message
        return message

    async def aclose(self) -> None:
        """Read no more."""
        self._reading.cancel()
        await asyncio.wait({self._reading})

    async def _read(self) -> None:
        try:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._gone()
                    return
                await self._messages.put(message)
        except Exception as error:  # noqa: BLE001 (it is raised where the message would have been)
            await self._messages.put(error)
