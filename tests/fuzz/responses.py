"""An engine's bytes, whatever they are: one response as any other client reads it, or one clear error.

The first byte of an input says what was asked for: a GET, a HEAD or an upgrade; the second, whether the engine closes
in the end.
"""

import asyncio
from dataclasses import dataclass, field
from functools import cache

import h11

from ai_proxy.transport.connection import Connection
from ai_proxy.transport.errors import ProtocolError, TransportError, UpstreamClosed
from ai_proxy.transport.limits import Limits, Timeouts
from ai_proxy.transport.pool import Exchange, Origin
from tests.fuzz.cutting import cuts
from tests.fuzz.judges import Finding
from tests.fuzz.memory import Wire

_ASKED = ((b"GET", b""), (b"HEAD", b""), (b"GET", b"websocket"), (b"POST", b""))
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_HEAD = b"%b / HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class _Owner:
    released_: int = 0
    lost_: int = 0

    def made(self, connection: Connection) -> None:
        pass

    def released(self, connection: Connection) -> None:
        self.released_ += 1

    def lost(self, connection: Connection) -> None:
        self.lost_ += 1


@dataclass(slots=True)
class Read:
    """What came of an engine's bytes.

    Attributes:
        status: 0 while there is none.
        fields: Of the head.
        body: As far as it came.
        trailers: After it.
        early: After a 101.
        reusable: The connection would serve again.
        error: Why there is no whole response.
    """

    status: int = 0
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    early: bytes = b""
    reusable: bool = False
    error: TransportError | None = None


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop()


def check(data: bytes) -> None:
    """Check what must hold of an engine's bytes.

    Raises:
        Finding: It does not.
    """
    if len(data) < 3:
        return
    (method, upgrade), closes, said = _ASKED[data[0] % 4], bool(data[1] & 1), data[2:]
    whole, cut = (run(pieces, method, upgrade, closes=closes) for pieces in ([said], cuts(said)))
    if (whole.error is None) != (cut.error is None):
        raise Finding(f"cut, it ends otherwise: {whole} or {cut}")
    if whole.error is not None:
        if not cut.body.startswith(whole.body):
            raise Finding(f"cut, it says something else: {whole} or {cut}")
        return
    if cut.early != whole.early:
        whole.early = whole.early[: len(cut.early)]  # the rest of it is read by whoever took the socket over
    if whole != cut:
        raise Finding(f"cut, it means something else: {whole} or {cut}")
    if not upgrade and not _FRAMING & {name.lower() for name, _ in whole.trailers}:
        # h11 reads framing out of trailers too; here it is dropped with others that have no place there.
        _compare(whole, said, method)


def run(pieces: list[bytes], method: bytes, upgrade: bytes, *, closes: bool) -> Read:
    """Read a response that comes in these pieces, in a loop of its own."""
    return _loop().run_until_complete(read(pieces, method, upgrade, closes=closes))


async def read(pieces: list[bytes], method: bytes, upgrade: bytes, *, closes: bool) -> Read:
    """Read a response that comes in these pieces.

    Raises:
        Finding: It is not one, and no clear error either.
    """
    loop, owner = asyncio.get_running_loop(), _Owner()
    connection = Connection(loop, Origin("http", "engine.test", 80), owner, Limits())
    wire = Wire(connection, lambda _: None)
    exchange = connection.start(
        _HEAD % method, None, method=method, timeouts=Timeouts(first_byte_s=60, idle_s=60), upgrade=upgrade
    )
    reading = loop.create_task(_read(exchange))
    for piece in pieces:
        if not wire.is_paused:
            wire.say(piece)
        for _ in range(3):
            await asyncio.sleep(0)
    if owner.released_ > 1:
        raise Finding("released twice")
    reusable = connection.usable
    if closes:
        wire.end()
    else:
        wire.close()
    result = await reading
    result.reusable = reusable
    exchange.close()
    if exchange.raw is None:
        wire.close()
        await asyncio.sleep(0)
    if not isinstance(result.error, (ProtocolError, UpstreamClosed, type(None))):
        raise Finding(f"another error: {result.error!r}")
    return result


async def _read(exchange: Exchange) -> Read:
    result = Read()
    try:
        await exchange.wait_head()
        result.status, result.fields = exchange.status, exchange.headers
        if exchange.raw is not None:
            result.early = exchange.raw.early
            return result
        while data := await exchange.read():
            result.body += data
        result.trailers = exchange.trailers
    except TransportError as error:
        result.error = error
    return result


def _compare(ours: Read, said: bytes, method: bytes) -> None:
    """Compare with h11's reading; after one response that leaves the connection usable, nothing may be left."""
    judge = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    judge.send(h11.Request(method=method, target="/", headers=[("Host", "a"), ("Content-Length", "0")]))
    judge.send(h11.EndOfMessage())
    judge.receive_data(said)
    status, body = 0, b""
    try:
        while not isinstance(event := judge.next_event(), h11.EndOfMessage):
            match event:
                case h11.Response():
                    status = event.status_code
                case h11.Data():
                    body += bytes(event.data)
                case h11.NEED_DATA:
                    judge.receive_data(b"")
                case h11.ConnectionClosed() | h11.PAUSED:
                    raise Finding(f"h11 reads no whole response, ours {ours}")
    except h11.RemoteProtocolError as error:
        if "status line" in str(error):
            return  # what a reason phrase holds is its author's business: it ends here
        raise Finding(f"h11 refuses it ({error}), ours {ours}") from error
    if (ours.status, ours.body) != (status, body):
        raise Finding(f"h11 reads {status} {body!r}, ours {ours}")
    if ours.reusable and judge.trailing_data[0]:
        raise Finding(f"kept with something left: {judge.trailing_data}, ours {ours}")
