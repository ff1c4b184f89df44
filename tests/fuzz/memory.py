"""A client, the whole data plane and an engine in one memory: no sockets, no time, thousands of talks a second.

Everything between the two wires is the real thing. What a wire's other end says and when is the caller's, so a talk
has one outcome, and whatever throws, never settles or is left over afterwards is a `Finding`.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from uvicorn.config import Config as ServerConfig
from uvicorn.server import ServerState

from ai_proxy.proxy.protocol import ProxyProtocol
from ai_proxy.transport.connection import Connection
from ai_proxy.transport.pool import Origin, Pool
from tests.fuzz.judges import RENAMED, Finding, Message, Reader
from tests.proxy.plane import Plane, make

type Answering = Callable[[Message], list[bytes]]

ENGINE = Origin("http", "engine.test", 80)
SERVICES = {
    "chat": {"image": "i", "type": "vllm", "models": {"chat": None, "gpt": RENAMED.decode()}},
    "files": {"image": "i"},
}
_TURNS = 2_000


class _Socket:
    """What the proxy asks of a client's socket; its descriptor is of one whose other end never speaks."""

    def __init__(self) -> None:
        self._ends = socket.socketpair()

    def fileno(self) -> int:
        return self._ends[0].fileno()

    def getpeername(self) -> tuple[str, int]:
        return ("127.0.0.1", 5)

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 80)

    def setsockopt(self, *_: object) -> None:
        pass

    def close(self) -> None:
        for end in self._ends:
            end.close()


class Wire(asyncio.Transport):
    """One end of a connection.

    Attributes:
        written: What was written to it.
        is_paused: Its protocol wants no bytes.
        is_lost: Its protocol knows that it has ended.
    """

    def __init__(self, protocol: asyncio.Protocol, heard: Callable[[bytes], None], sock: object = None) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_paused = False
        self.is_lost = False
        self._loop = asyncio.get_running_loop()
        self._protocol: Any = protocol
        self._heard = heard
        self._socket = sock
        self._closing = False
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket if name == "socket" and self._socket is not None else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self.written += data
            self._heard(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._lose)

    def abort(self) -> None:
        self.close()

    def say(self, data: bytes) -> None:
        """Let the protocol read this."""
        if not self._closing:
            self._protocol.data_received(data)

    def end(self) -> None:
        """Let the protocol read the end."""
        if not self._closing and not self._protocol.eof_received():
            self.close()

    def _lose(self) -> None:
        self.is_lost = True
        self._protocol.connection_lost(None)


def with_its_target(asked: Message) -> list[bytes]:
    """An answer that tells what it answers."""
    body = b"" if asked.method == b"HEAD" else asked.target
    return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(asked.target), body)]


class MemoryPool(Pool):
    """A pool whose every connection leads to an engine in memory.

    Attributes:
        engines: Those that were connected to, in order.

    Args:
        answering: What engines say, piece by piece; an empty piece ends the connection.
    """

    def __init__(self, answering: Answering) -> None:
        super().__init__()
        self.engines: list[Engine] = []
        self._answering = answering

    async def _open_socket(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> None:
        self.engines.append(Engine(connection, self._answering))


class Engine:
    """Answers each request, and hears nothing before it has begun to.

    Attributes:
        heard: All bytes of its connection.
        asked: The requests in them.
        fault: What should not have been sent to it.
    """

    def __init__(self, connection: Connection, answering: Answering) -> None:
        self.heard = bytearray()
        self.asked: list[Message] = []
        self.fault = ""
        self._reader = Reader()
        self._answering = answering
        self._is_answering = False
        self._wire = Wire(connection, self._hear)

    def _hear(self, data: bytes) -> None:
        self.heard += data
        asked = self._reader.feed(data)
        if self._is_answering or len(asked) > 1:
            self.fault = self.fault or "more than the one request that it was to answer"
        elif self._reader.fault:
            self.fault = self.fault or f"what h11 refuses: {self._reader.fault}"
        elif asked:
            self.asked += asked
            self._is_answering = True
            asyncio.get_running_loop().call_soon(self._answer, asked[0])

    def _answer(self, asked: Message) -> None:
        self._is_answering = False
        self._say(iter(self._answering(asked)))

    def _say(self, pieces: Iterator[bytes]) -> None:
        """Say one piece, and the next when that was heard."""
        piece = next(pieces, None)
        if piece is None:
            return
        if piece:
            self._wire.say(piece)
        else:
            self._wire.end()
        asyncio.get_running_loop().call_soon(self._say, pieces)


@dataclass(slots=True)
class Talk:
    """What came of a client's bytes.

    Attributes:
        answered: What the client was sent.
        engines: Those that were asked.
    """

    answered: bytes
    engines: list[Engine]

    @property
    def asked(self) -> list[Message]:
        """The requests that reached engines whole, in the order of a connection."""
        return [message for engine in self.engines for message in engine.asked]


@dataclass
class World:
    """A data plane in a loop of its own, for any number of talks; close it in the end."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.SelectorEventLoop)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop.set_exception_handler(lambda _, context: self.faults.append(repr(context)))
        self._socket = _Socket()
        self._plane = self.loop.run_until_complete(self._build())
        self._server = ServerConfig(
            app=self._plane.app, lifespan="off", ws="none", proxy_headers=False, access_log=False, log_config=None
        )
        self._server.load()

    async def _build(self) -> Plane:
        plane = make(services=SERVICES, default_service="files", server={"trusted_proxies": ["127.0.0.1"]})
        plane.gate.ready = {"chat": ENGINE, "files": ENGINE}
        return plane

    def close(self) -> None:
        """Let go of loop and sockets."""
        self.loop.close()
        self._socket.close()

    def talk(self, pieces: Iterable[bytes], answering: Answering = with_its_target) -> Talk:
        """Have a client send these pieces and leave.

        Args:
            pieces: What it sends; each when nothing else is left to do.
            answering: What engines say.

        Raises:
            Finding: Something threw, never came to rest or was left over.
        """
        return self.loop.run_until_complete(self._talk(pieces, answering))

    async def _talk(self, pieces: Iterable[bytes], answering: Answering) -> Talk:
        pool = MemoryPool(answering)
        plane, state, app_state = self._plane, ServerState(), dict[str, Any]()
        # Each talk is a first one: the same bytes give the same answers.
        plane.app._pool, plane.app._ids = pool, count(1)
        plane.entries.clear()
        wire = Wire(ProxyProtocol(self._server, state, app_state), lambda _: None, self._socket)
        for piece in pieces:
            if wire.is_paused and not wire.is_closing():
                raise Finding("the client is not read, and nothing is left that would read it")
            wire.say(piece)
            await self._settle()
        wire.end()
        await self._settle()
        wire.close()
        await self._settle()
        left = (plane.gate.open, state.tasks, state.connections, pool.active, plane.app._budget.taken)
        if any(left) or self.faults:
            raise Finding(f"left over {left}, logged {self.faults}")
        for engine in pool.engines:
            if engine.fault:
                raise Finding(f"an engine was sent {engine.fault}: {bytes(engine.heard)!r}")
        await pool.aclose()
        return Talk(bytes(wire.written), pool.engines)

    async def _settle(self) -> None:
        ready = self.loop._ready  # type: ignore[attr-defined]  # how asyncio's loop knows that it may rest
        for _ in range(_TURNS):
            await asyncio.sleep(0)
            if not ready:
                return
        raise Finding("no rest")
