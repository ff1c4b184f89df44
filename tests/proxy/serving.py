"""Our server protocol on a real socket, without uvicorn's process around it, and a client that speaks raw bytes."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

from uvicorn.config import Config
from uvicorn.server import ServerState

from ai_proxy.proxy.limits import ConnectionLimits
from ai_proxy.proxy.protocol import ProxyProtocol
from tests.fakes.listening import stop_listening

GUARD_S = 20.0
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass(slots=True)
class Serving:
    """A listening server.

    Attributes:
        port: Where it listens.
        state: uvicorn's view of its connections and tasks.
    """

    port: int
    state: ServerState

    async def shut_down(self) -> None:
        """What uvicorn does to connections when it is asked to stop."""
        for connection in list(self.state.connections):
            connection.shutdown()


@asynccontextmanager
async def serving(
    app: Any, limits: ConnectionLimits | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Serving]:
    """Serve an ASGI app on a free loopback port until the block ends."""
    config = Config(app=app, lifespan="off", ws="none", proxy_headers=False, access_log=False, log_config=None)
    config.load()
    state = ServerState()
    protocol = ProxyProtocol if limits is None else ProxyProtocol.with_limits(limits)
    app_state: dict[str, Any] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol(config, state, app_state), "127.0.0.1", 0, ssl=tls)
    try:
        yield Serving(server.sockets[0].getsockname()[1], state)
    finally:
        await stop_listening(server)
        for connection in list(state.connections):
            connection.transport.abort()
        tasks = list(state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True)
class Answer:
    """A response as it came: nothing joined, renamed or decoded but chunks."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    trailers: list[tuple[bytes, bytes]]

    def header(self, name: bytes) -> bytes | None:
        """The first value of a field."""
        return next((value for key, value in self.headers if key.lower() == name), None)


class Client:
    """A client connection that sends exactly what it is told, and reads with a guard."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int, *, limit: int = 65536, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """Connect to a loopback port."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit, ssl=tls)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, data: bytes, *, to_head: bool = False) -> Answer:
        """Send bytes and read one response."""
        await self.send(data)
        return await self.answer(to_head=to_head)

    async def answer(self, *, to_head: bool = False) -> Answer:
        """Read one response."""
        status, headers = await self.head()
        while status < 200:
            status, headers = await self.head()
        fields = {name.lower(): value for name, value in headers}
        trailers: list[tuple[bytes, bytes]] = []
        body = b""
        if not to_head and status not in (204, 304):
            if fields.get(b"transfer-encoding") == b"chunked":
                while chunk := await self.chunk():
                    body += chunk
                trailers = await self._fields()
            elif b"content-length" in fields:
                body = await self._guarded(self.reader.readexactly(int(fields[b"content-length"])))
            else:
                body = await self.rest()
        return Answer(status, headers, body, trailers)

    async def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Read status line and fields."""
        line = await self._guarded(self.reader.readuntil(b"\r\n"))
        return int(line.split(b" ")[1]), await self._fields()

    async def chunk(self) -> bytes:
        """Read one chunk of a chunked body; empty for the last."""
        size = int(await self._guarded(self.reader.readuntil(b"\r\n")), 16)
        if not size:
            return b""
        return (await self._guarded(self.reader.readexactly(size + 2)))[:-2]

    async def rest(self) -> bytes:
        """Read until the server closes."""
        return await self._guarded(self.reader.read())

    def reset(self) -> None:
        """Go away at once: an ordinary close would queue behind what is unsent."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def _fields(self) -> list[tuple[bytes, bytes]]:
        fields = []
        while (line := await self._guarded(self.reader.readuntil(b"\r\n"))) != b"\r\n":
            name, _, value = line.rstrip(b"\r\n").partition(b": ")
            fields.append((name, value))
        return fields

    async def _guarded(self, awaitable: Coroutine[Any, Any, bytes]) -> bytes:
        return await asyncio.wait_for(awaitable, GUARD_S)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that another task of this loop brings about."""
    async with asyncio.timeout(GUARD_S):
        while not condition():
            await asyncio.sleep(0.001)


async def connections(state: ServerState) -> list[ProxyProtocol]:
    """The connections of a server, once there are any."""
    await until(lambda: state.connections)
    return list(state.connections)  # type: ignore[arg-type]  # uvicorn lists its own protocols only


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what was asked for."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    raw = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["extensions"]["ai_proxy.headers"]]
    about = {
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": headers,
        "raw": raw,
        "body": body.decode("latin-1"),
    }
    content = json.dumps(about).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(content))]})
    await send({"type": "http.response.body", "body": content})
