"""What one exchange costs: the transport alone, and over loopback beside a bare protocol doing the same I/O.

Run: `pytest benchmarks/test_transport.py`. The figures over loopback contain the fake server's half too; the
transport's own cost is their difference to the bare protocol.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture
from tests.fakes.transport import FakeTransport

from ai_proxy.transport.connection import Connection
from ai_proxy.transport.limits import Limits, Timeouts
from ai_proxy.transport.pool import Origin, Pool

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: engine\r\ncontent-type: application/json\r\n"
    b"x-request-id: 0123456789abcdef\r\ncontent-length: 500\r\n\r\n"
)
BODY = b"y" * 500
FIELDS = (
    b"HTTP/1.1 200 OK\r\ndate: Fri, 01 Jan 2027 00:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: application/json\r\nx-request-id: 0123456789abcdef\r\n"
)
RESPONSES = {
    "length": FIELDS + b"content-length: 600\r\n\r\n" + b"x" * 600,
    "chunked": FIELDS + b"transfer-encoding: chunked\r\n\r\n258\r\n" + b"x" * 600 + b"\r\n0\r\n\r\n",
}
EVENT = b'data: {"choices":[{"delta":{"content":" token"}}],"object":"chat.completion.chunk"}\n\n'
BATCH = 200


class Answering(asyncio.Protocol):
    """A server that answers every read with the same bytes."""

    def __init__(self, response: bytes) -> None:
        self.response = response

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # of a stream

    def data_received(self, _data: bytes) -> None:
        self.transport.write(self.response)


class Bare(asyncio.Protocol):
    """A client with no HTTP in it: the floor of what an exchange can cost on this loop."""

    waiter: asyncio.Future[None]

    def data_received(self, _data: bytes) -> None:
        self.waiter.set_result(None)


class Owner:
    """An owner that does nothing."""

    def made(self, connection: Connection) -> None: ...
    def released(self, connection: Connection) -> None: ...
    def lost(self, connection: Connection) -> None: ...


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = uvloop.new_event_loop()
    yield loop
    loop.close()


def per_batch(
    benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop, one: Callable[[], Coroutine[None, None, object]]
) -> None:
    """Benchmark a coroutine in batches of `BATCH`; divide the figure shown by it."""

    async def batch() -> None:
        for _ in range(BATCH):
            await one()

    benchmark.extra_info["batch"] = BATCH
    benchmark(lambda: loop.run_until_complete(batch()))


@pytest.fixture(params=RESPONSES)
def port(request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop) -> Iterator[int]:
    response = RESPONSES[request.param]
    server = loop.run_until_complete(loop.create_server(lambda: Answering(response), "127.0.0.1", 0))
    yield server.sockets[0].getsockname()[1]
    server.close()
    loop.run_until_complete(server.wait_closed())


def test_loopback_bare_protocol(benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop, port: int) -> None:
    transport, bare = loop.run_until_complete(loop.create_connection(Bare, "127.0.0.1", port))

    async def one() -> None:
        bare.waiter = loop.create_future()
        transport.write(HEAD + BODY)
        await bare.waiter

    per_batch(benchmark, loop, one)
    transport.abort()


def test_loopback_pooled_exchange(benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop, port: int) -> None:
    pool = Pool()
    origin = Origin("http", "127.0.0.1", port)

    async def one() -> None:
        exchange = await pool.send(origin, HEAD, BODY, method=b"POST")
        while await exchange.read():
            pass
        exchange.close()

    per_batch(benchmark, loop, one)
    assert (pool.idle, pool.active) == (1, 0)
    loop.run_until_complete(pool.aclose())


@pytest.mark.parametrize("framing", RESPONSES)
def test_exchange_without_a_socket(benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop, framing: str) -> None:
    connection, _ = connected(loop)
    response = RESPONSES[framing]
    timeouts = Timeouts()

    def one() -> None:
        exchange = connection.start(HEAD, BODY, method=b"POST", timeouts=timeouts)
        connection.data_received(response)
        exchange.read_nowait()
        exchange.close()

    benchmark(one)
    connection.abort()


def test_streamed_event_without_a_socket(benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop) -> None:
    connection, _ = connected(loop)
    exchange = connection.start(HEAD, BODY, method=b"POST", timeouts=Timeouts())
    connection.data_received(FIELDS + b"transfer-encoding: chunked\r\n\r\n")
    chunk = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)

    def one() -> bytes | None:
        connection.data_received(chunk)
        return exchange.read_nowait()

    assert benchmark(one) == EVENT
    connection.abort()


def connected(loop: asyncio.AbstractEventLoop) -> tuple[Connection, FakeTransport]:
    connection = Connection(loop, Origin("http", "x", 80), Owner(), Limits())
    transport = Discarding()
    connection.connection_made(transport)
    return connection, transport


class Discarding(FakeTransport):
    """A fake transport that keeps nothing, so that a benchmark does not grow."""

    def write(self, data: bytes | bytearray | memoryview) -> None: ...
