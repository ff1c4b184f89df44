"""WebSocket as bytes: what a client asks, what an engine agrees to, and frames as either would send them."""

from ai_proxy.proxy.frames import close_frame
from tests.fakes.upstream import Peer, Script
from tests.proxy.plane import get
from tests.proxy.serving import Client

UPGRADE = ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
ASK = get("/files/ws", *UPGRADE)
AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: y\r\n\r\n"
)
GOING_AWAY = b"\x88"
HELLO = b"\x81\x05hello"
MASKED_HELLO = b"\x81\x85\0\0\0\0hello"
PING = b"\x89\x00"
NORMAL = close_frame(1000)


def message(size: int, *, masked: bool = False) -> bytes:
    """A binary message of many bytes."""
    return b"\x82" + (b"\xff" if masked else b"\x7f") + size.to_bytes(8) + bytes(4 * masked) + bytes(size)


def agreeing(*pieces: bytes) -> Script:
    """An engine that agrees, says this, and hears out what the client says."""

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(AGREED, *pieces)
        await peer.wait_eof()
        peer.close()

    return script


async def echoing(peer: Peer) -> None:
    """An engine that agrees, and says again whatever it hears."""
    await peer.read_request()
    await peer.send(AGREED)
    while data := await peer.read():
        peer._writer.write(data)
        await peer._writer.drain()
    peer.close()


async def upgraded(client: Client, ask: bytes = ASK) -> list[tuple[bytes, bytes]]:
    """Ask for the upgrade, and see it granted."""
    await client.send(ask)
    status, fields = await client.head()
    assert status == 101
    return fields


async def take(client: Client, size: int) -> bytes:
    """Read so many bytes."""
    return await client._guarded(client.reader.readexactly(size))


async def farewell(client: Client) -> tuple[int, bytes]:
    """Read up to the end, which must be one close frame; say its code and reason."""
    data = await client.rest()
    assert data[:1] == GOING_AWAY, data
    assert data[1] == len(data) - 2
    return int.from_bytes(data[2:4]), data[4:]
