"""The request's body: read as far as its model needs it, or passed on as it comes.

Owns the limits of what is held. Finding a name in bytes is `routing.extract`'s, waiting for the client is the ASGI
server's.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from ai_proxy.errors import BodyTooLarge, EncodingNotSupported
from ai_proxy.proxy.budget import Budget
from ai_proxy.routing.extract import ModelFinder, finder_for
from ai_proxy.routing.json_body import JsonFinder
from ai_proxy.routing.multipart import MultipartFinder

type Body = bytes | AsyncIterator[bytes] | None
type Receive = Callable[[], Awaitable[Mapping[str, Any]]]

_IDENTITY: Final = frozenset({b"", b"identity"})


class ClientGone(Exception):
    """The client left before its request was complete."""


class Outgoing(NamedTuple):
    """A body as it goes upstream.

    Attributes:
        content: All of it, or its pieces as they come, or None if there is none.
        length: Its length where it is not the client's framing any more.
    """

    content: Body
    length: int | None


class RequestBody:
    """One request's body.

    Attributes:
        received: Bytes that came so far.

    Args:
        receive: The ASGI server's.
        fields: The request's fields, names in lower case.
        budget: Where held bytes are counted.
    """

    __slots__ = (
        "_budget",
        "_complete",
        "_declared",
        "_expected",
        "_fields",
        "_finder",
        "_held",
        "_receive",
        "received",
    )

    def __init__(self, receive: Receive, fields: Mapping[bytes, bytes], budget: Budget) -> None:
        self._receive = receive
        self._fields = fields
        self._budget = budget
        self._held = 0
        self._finder: ModelFinder | None = None
        length = fields.get(b"content-length")
        self._declared = None if length is None else int(length)
        self._expected = length is not None or b"transfer-encoding" in fields
        self._complete = False
        self.received = 0

    def __repr__(self) -> str:
        return f"<RequestBody: {self.received} bytes, {'complete' if self._complete else 'open'}, {self._held} held>"

    @property
    def is_complete(self) -> bool:
        """Whether nothing of it is still to come from the client."""
        return self._complete or not self._expected

    async def find_model(self, max_bytes: int) -> str | None:
        """Read until the model is known.

        Args:
            max_bytes: How much may be read for it.

        Returns:
            The name, or None if the body names none.

        Raises:
            BodyTooLarge: It is not known by then.
            EncodingNotSupported: The body is compressed.
            MalformedRequest: The body is not what it says it is.
            QueueFull: No room to hold it came free.
            ClientGone: The client left.
        """
        if not self._expected:
            return None
        if self._fields.get(b"content-encoding", b"").lower() not in _IDENTITY:
            raise EncodingNotSupported(
                "a compressed body can't be routed by its model; send it plain, or to /{service}/…",
                param="content-encoding",
            )
        finder = self._finder = finder_for(self._fields.get(b"content-type"))
        declared = self._declared
        if declared is not None and not isinstance(finder, MultipartFinder):
            _check_size(declared, max_bytes)
            await self._hold(declared)
        while True:
            chunk = await self._next()
            if self.received > self._held:
                _check_size(self.received, max_bytes)
                await self._hold(self.received - self._held)
            if finder.feed(chunk):
                break
            if self._complete:
                finder.finish()
                break
        return finder.name

    def beginning(self, size: int) -> bytes:
        """The first bytes of what was read for the model; none of a form, which begins with what chance chose."""
        finder = self._finder
        return finder.beginning(size) if isinstance(finder, JsonFinder) else b""

    def names_rivals(self) -> bool:
        """Whether it is JSON that names what some engines take for the model beside what was found."""
        finder = self._finder
        return isinstance(finder, JsonFinder) and finder.has_rivals()

    def asks_for_stream(self) -> bool:
        """Whether it is JSON that was read for its model and says `stream: true`."""
        finder = self._finder
        return isinstance(finder, JsonFinder) and self._complete and finder.asks_for_stream()

    async def outgoing(self, rename: str | None = None) -> Outgoing:
        """Say what goes upstream, having read no more than its first bytes.

        Args:
            rename: Name to put in the place of the model that was found.

        Raises:
            ClientGone: The client left.
        """
        if not self._expected:
            return Outgoing(None, None)
        read = self.received
        first = await self._next() if self._finder is None else self._finder.take(rename)
        if not self._complete:
            declared = self._declared
            if declared is not None and rename is not None:
                return Outgoing(self._stream(first), declared - read + len(first))
            return Outgoing(self._stream(first), None)
        reframed = rename is not None or b"transfer-encoding" in self._fields
        return Outgoing(first, len(first) if reframed else None)

    def close(self) -> None:
        """Let go of what is held."""
        if self._held:
            self._budget.give_back(self._held)
            self._held = 0

    async def _hold(self, size: int) -> None:
        if not self._budget.try_take(size):
            await self._budget.take(size)
        self._held += size

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        self._complete = not message.get("more_body", False)
        self.received += len(chunk)
        return chunk

    async def _stream(self, first: bytes) -> AsyncIterator[bytes]:
        yield first
        form = self._finder if isinstance(self._finder, MultipartFinder) else None
        while not self._complete:
            chunk = await self._next()
            if form is not None:
                # A second model would be the first to some engines: who may use one could then ask for another.
                form.feed(chunk)
            yield chunk


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise BodyTooLarge(
            f"a body that is read for its model may have {max_bytes} bytes; /{{service}}/… takes any size",
        )
