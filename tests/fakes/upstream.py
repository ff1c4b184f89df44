"""A raw upstream that misbehaves on order: it says exactly the bytes it was told, and keeps what it heard.

A script is an async function over a `Peer`, run once for each accepted connection (the last script serves
all further ones). No HTTP is implemented here: what a test sends is in the test.
"""

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ai_proxy.transport.origin import Origin
from tests.fakes.listening import stop_listening

type Script = Callable[["Peer"], Awaitable[None]]

GUARD_S = 20.0
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ ]*([0-9]+)\r\n", re.IGNORECASE)


class Peer:
    """One accepted connection, as its script sees it.

    Attributes:
        received: All bytes that were read so far.
        saw_eof: Set once the client's FIN or RST was seen.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.received = b""
        self.saw_eof = asyncio.Event()
        self._reader = reader
        self._writer = writer

    async def read(self, size: int = 65536) -> bytes:
        """Read what comes, `b""` at the client's end."""
        try:
            data = await self._reader.read(size)
        except ConnectionError:
            data = b""
        if not data:
            self.saw_eof.set()
        self.received += data
        return data

    async def read_request(self) -> bytes:
        """Read one request: its head, and a body framed by Content-Length or chunks. `b""` at the end."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = await self.read()
            if not piece:
                return b""
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        head += b"\r\n\r\n"
        length = _CONTENT_LENGTH.search(head)
        while (length and len(body) < int(length[1])) or (
            b"transfer-encoding: chunked" in head.lower() and not body.endswith(b"0\r\n\r\n")
        ):
            piece = await self.read()
            if not piece:
                break
            body += piece
        return head + body

    async def read_until(self, mark: bytes) -> None:
        """Read until everything received ends with this."""
        async with asyncio.timeout(GUARD_S):
            while not self.received.endswith(mark) and await self.read():
                pass

    def stop_reading(self) -> None:
        """Take nothing more from the socket."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # typed as write-only, but is both

    async def send(self, *pieces: bytes) -> None:
        """Write pieces, each as a segment of its own."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(0)

    async def wait_eof(self) -> None:
        """Read until the client is gone."""
        while await self.read():
            pass

    async def gone(self) -> None:
        """Wait until the script, which must be reading, has seen the client leave."""
        async with asyncio.timeout(GUARD_S):
            await self.saw_eof.wait()

    def fin(self) -> None:
        """Send a FIN; reading goes on."""
        self._writer.write_eof()

    def rst(self) -> None:
        """Reset the connection at once."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


class Upstream:
    """A server of scripts; an async context manager.

    Attributes:
        peers: Connections in the order accepted.
    """

    def __init__(self, *scripts: Script, uds: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.peers: list[Peer] = []
        self._scripts = list(scripts)
        self._uds = uds
        self._tls = tls
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepted = asyncio.Condition()

    async def __aenter__(self) -> Self:
        if self._uds is not None:
            self._server = await asyncio.start_unix_server(self._accept, self._uds)
        else:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_listening(self._server)
        for peer in self.peers:
            peer.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def origin(self) -> Origin:
        """Where it answers."""
        if self._uds is not None:
            return Origin("http", "localhost", 80, uds=str(self._uds))
        return Origin("https" if self._tls else "http", "127.0.0.1", self.port)

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    async def accepted(self, count: int) -> Peer:
        """Wait for the connection of this number, from 1, and return it."""
        async with asyncio.timeout(GUARD_S), self._accepted:
            await self._accepted.wait_for(lambda: len(self.peers) >= count)
        return self.peers[count - 1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append(Peer(reader, writer))
        script = self._scripts[min(len(self.peers), len(self._scripts)) - 1]
        task = asyncio.create_task(self._play(script, self.peers[-1]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, script: Script, peer: Peer) -> None:
        async with self._accepted:
            self._accepted.notify_all()
        with suppress(ConnectionError):
            await script(peer)


def answering(*pieces: bytes) -> Script:
    """Return a script that answers each request with the same bytes, until the client leaves."""

    async def script(peer: Peer) -> None:
        while await peer.read_request():
            await peer.send(*pieces)

    return script


def answering_once(*pieces: bytes, then: Callable[[Peer], None] = Peer.close) -> Script:
    """Return a script that answers one request, then ends the connection its way."""

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(*pieces)
        then(peer)

    return script
