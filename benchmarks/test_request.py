"""What a whole proxied request costs in process: client, proxy and upstream on one loop, over real sockets.

Client and upstream are a few lines each, so most of the figure is the proxy's; `test_direct` is what they cost
without it.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture
from uvicorn.config import Config as UvicornConfig
from uvicorn.server import ServerState

from ai_proxy.config.models import Config
from ai_proxy.gate import RequestInfo
from ai_proxy.metrics import Metrics
from ai_proxy.proxy.app import ProxyApp
from ai_proxy.proxy.protocol import ProxyProtocol
from ai_proxy.routing.table import RouteTable
from ai_proxy.transport.origin import Origin
from ai_proxy.transport.pool import Pool

REQUESTS = 200
CLIENTS = 8
CHUNKS = 100

PROMPT = b'{"model":"%b","messages":[{"role":"user","content":"' + b"b" * 500 + b'"}],"stream":false}'
HEAD = (
    b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nAccept: */*\r\nUser-Agent: bench/1\r\nAuthorization: Bearer k\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)
BODY = b'{"id":"c","choices":[{"message":{"content":"' + b"a" * 540 + b'"}}]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"cd\r\n" + b"data: " + b"e" * 197 + b"\n\n" + b"\r\n"


def request(path: bytes = b"/v1/chat/completions", model: bytes = b"chat") -> bytes:
    body = PROMPT % model
    return HEAD % (path, len(body)) + body


class Grants:
    """A gate that always grants."""

    base_path = b""
    start_s = 0.0

    def __init__(self, origin: Origin) -> None:
        self.origin = origin

    def try_admit(self, request: RequestInfo) -> "Grants":  # noqa: ARG002  # the gate's signature
        return self

    async def admit(self, request: RequestInfo) -> "Grants":  # noqa: ARG002  # the gate's signature
        return self

    def renew(self) -> bool:
        return True

    def close(self) -> None: ...


class Upstream(asyncio.Protocol):
    """Answers every read at once; a request for `stream` with events, one a turn of the loop."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # streams get no other
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if b"/stream" in data:
            self.transport.write(EVENTS)
            self.loop = asyncio.get_running_loop()
            self.loop.call_soon(self.send_event, CHUNKS)
        else:
            self.transport.write(ANSWER)

    def send_event(self, left: int) -> None:
        self.transport.write(EVENT if left else b"0\r\n\r\n")
        if left:
            self.loop.call_soon(self.send_event, left - 1)


class Client(asyncio.Protocol):
    """Sends the next request when the last one's answer has ended."""

    def __init__(self, request: bytes, end: bytes, count: int) -> None:
        self.request, self.end, self.left = request, end, count
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # streams get no other
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if data.endswith(self.end):
            self.left -= 1
            if self.left:
                self.transport.write(self.request)
            else:
                self.transport.close()
                self.done.set_result(None)


class Bench:
    """A loop with an upstream and a proxy on it."""

    def __init__(self, services: int) -> None:
        self.loop = uvloop.new_event_loop()
        self.servers: list[asyncio.AbstractServer] = []
        self.upstream = self._run(self._listen(Upstream))
        extra = {f"s{n}": {"image": "i"} for n in range(services - 1)}
        chat = {"image": "i", "models": {"chat": None, "gpt": "Qwen/Qwen3"}}
        config = Config.model_validate({"services": {**extra, "chat": chat}})
        self.pool = Pool()
        app = ProxyApp(
            config,
            RouteTable(config),
            gate=Grants(Origin("http", "127.0.0.1", self.upstream)),
            pool=self.pool,
            metrics=Metrics(config.services),
            access=deque[object](maxlen=1).append,
            states=str,
        )
        uvicorn = UvicornConfig(app, log_config=None, access_log=False, ws="none", proxy_headers=False)
        uvicorn.load()
        state = ServerState()
        self.proxy = self._run(self._listen(lambda: ProxyProtocol(uvicorn, state, {}, self.loop)))

    def ask(self, port: int, data: bytes, *, end: bytes = b"}]}", count: int = REQUESTS // CLIENTS) -> None:
        self._run(self._ask(port, data, end, count))

    def close(self) -> None:
        for server in self.servers:
            server.close()
        self._run(self.pool.aclose())
        self._run(asyncio.sleep(0.05))
        self.loop.close()

    async def _ask(self, port: int, data: bytes, end: bytes, count: int) -> None:
        clients = [Client(data, end, count) for _ in range(CLIENTS)]
        for client in clients:
            await self.loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]  # a default binds it
        await asyncio.gather(*[client.done for client in clients])

    async def _listen(self, protocol: Callable[[], asyncio.Protocol]) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=CLIENTS)
        self.servers.append(await self.loop.create_server(protocol, sock=listener))
        port: int = listener.getsockname()[1]
        return port

    def _run[T](self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)


@pytest.fixture(params=[1, 1000], ids=lambda count: f"{count} services")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(request.param)
    yield made
    made.close()


def test_direct(benchmark: BenchmarkFixture, bench: Bench) -> None:
    benchmark(bench.ask, bench.upstream, request())


def test_by_model(benchmark: BenchmarkFixture, bench: Bench) -> None:
    benchmark(bench.ask, bench.proxy, request())


def test_by_model_with_another_name_for_the_engine(benchmark: BenchmarkFixture, bench: Bench) -> None:
    benchmark(bench.ask, bench.proxy, request(model=b"gpt"))


def test_by_prefix(benchmark: BenchmarkFixture, bench: Bench) -> None:
    benchmark(bench.ask, bench.proxy, request(b"/services/chat/v1/chat/completions"))


def test_events(benchmark: BenchmarkFixture, bench: Bench) -> None:
    benchmark(bench.ask, bench.proxy, request(b"/services/chat/stream"), end=b"0\r\n\r\n", count=1)


def test_events_direct(benchmark: BenchmarkFixture, bench: Bench) -> None:
    benchmark(bench.ask, bench.upstream, request(b"/services/chat/stream"), end=b"0\r\n\r\n", count=1)
