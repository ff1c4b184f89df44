"""A client that leaves, in each phase of its request: its engine is told at once, and nothing of it stays behind.

The engine itself says what it saw; asked later, it must have seen the end before it was asked.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, at_rest, external, process, until
from tests.fakes.upstream import Peer, Upstream
from tests.proxy.serving import Client

pytestmark = pytest.mark.slow

BOTH_ON_ONE = {"gpus": 1, "vram_required_mb": 1000}
ENDLESS = ("--chunks", "1000000", "--interval", "0.01")
MIB = 1 << 20


type Leave = Callable[[Client], Awaitable[None]]


async def leave_by_fin(client: Client) -> None:
    client.writer.close()
    await client.writer.wait_closed()


async def leave_by_rst(client: Client) -> None:
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await leave_by_fin(client)


@pytest.fixture(scope="module", params=[False, True], ids=["our protocol", "plain uvicorn"])
def proxy(request: pytest.FixtureRequest, serve_module: Serve, tmp_path_factory: pytest.TempPathFactory) -> Proxy:
    services = {
        "thinks": process("--first-byte-after", "3600"),
        "streams": process(*ENDLESS),
        "loads": process("--ready-file", str(tmp_path_factory.mktemp("ready") / "file")),
        "holder": process(*ENDLESS, resources=BOTH_ON_ONE),
        "queues": process(resources=BOTH_ON_ONE),
    }
    devices = [{"id": "0", "vram_mb": 1500}]
    settings = {"devices": devices, "scheduling": {"headroom_mb": 0}, "services": services}
    return serve_module(settings, under_uvicorn=request.param)


@pytest.fixture(params=[leave_by_fin, leave_by_rst])
def leave(request: pytest.FixtureRequest) -> Leave:
    leave: Leave = request.param
    return leave


def ask(model: str, *, stream: bool = True) -> bytes:
    body = json.dumps({"model": model, "stream": stream, "messages": []}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: p\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def await_stats(proxy: Proxy, service: str, **expected: int) -> None:
    def look() -> bool:
        stats: dict[str, int] = proxy.stats(service)
        return stats.items() >= expected.items()

    until(look, lambda: (proxy.stats(service), expected, proxy.log[-2000:]))


def running(proxy: Proxy, service: str) -> Any:
    """The counts of a service's engine, started if it was not."""
    proxy.post(f"/api/v1/service/{service}/start?wait=true")
    return proxy.stats(service)


async def test_b01_while_it_waits_for_the_answers_head(proxy: Proxy, leave: Leave) -> None:
    before = running(proxy, "thinks")
    async with Client.to(proxy.port) as client:
        await client.send(ask("thinks", stream=False))
        await_stats(proxy, "thinks", open=1)
        await leave(client)
        await_stats(proxy, "thinks", open=0, aborted=before["aborted"] + 1)
    proxy.await_quiet()
    assert proxy.service("thinks")["in_flight"] == 0


async def test_b02_in_the_middle_of_a_stream(proxy: Proxy, leave: Leave) -> None:
    before = running(proxy, "streams")
    async with Client.to(proxy.port) as client:
        await client.send(ask("streams"))
        assert (await client.head())[0] == 200
        assert b"token0" in await client.chunk()
        await leave(client)
        await_stats(proxy, "streams", open=0, aborted=before["aborted"] + 1)
    proxy.await_quiet()
    assert proxy.service("streams")["in_flight"] == 0


async def test_b02_while_it_uploads(proxy: Proxy, leave: Leave) -> None:
    before = running(proxy, "thinks")
    async with Client.to(proxy.port) as client:
        await client.send(b"POST /thinks/upload HTTP/1.1\r\nHost: p\r\nContent-Length: %d\r\n\r\n" % (8 * MIB))
        await client.send(bytes(MIB))
        await_stats(proxy, "thinks", received=before["received"] + 1)
        await leave(client)
        await_stats(proxy, "thinks", cut=before["cut"] + 1)
    proxy.await_quiet()


async def test_while_it_uploads_what_names_its_model(proxy: Proxy, leave: Leave) -> None:
    """No engine has heard of it yet, and none ever does."""
    before = running(proxy, "thinks")
    async with Client.to(proxy.port) as client:
        await client.send(ask("thinks")[:-10])
        await leave(client)
    until(lambda: proxy.metric('ai_proxy_endings_total{reason="client_gone",service="-"}'), lambda: proxy.log)
    assert proxy.stats("thinks")["started"] == before["started"]


async def test_b03_while_its_model_loads(proxy: Proxy) -> None:
    """The load goes on: it is paid for, and who asks next will have it."""
    async with Client.to(proxy.port) as client:
        await client.send(ask("loads"))
        proxy.await_state("loads", "loading")
        assert proxy.service("loads")["waiting"] == 1
        await leave_by_fin(client)
        proxy.await_quiet()
        assert proxy.service("loads")["waiting"] == 0
    Path(proxy.get("/api/v1/config")["services"]["loads"]["command"][-1]).touch()
    proxy.await_state("loads", "ready")
    assert proxy.stats("loads")["started"] == 0


async def test_b03_while_it_queues_for_room(proxy: Proxy) -> None:
    """Its start has not begun, so it never does."""
    async with Client.to(proxy.port) as holder, Client.to(proxy.port) as client:
        await holder.send(ask("holder"))
        assert (await holder.head())[0] == 200
        await client.send(ask("queues"))
        proxy.await_state("queues", "queued")
        await leave_by_rst(client)
        proxy.await_state("queues", "stopped")
        assert proxy.service("queues")["waiting"] == 0
        assert proxy.state("holder") == "ready"
        await leave_by_fin(holder)
    proxy.await_quiet()


@pytest.mark.parametrize("under_uvicorn", [False, True], ids=["our protocol", "plain uvicorn"])
async def test_b02_while_it_reads_so_slowly_that_nothing_flows(serve: Serve, under_uvicorn: bool) -> None:
    written = 0

    async def pour(peer: Peer) -> None:
        nonlocal written
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
        with suppress(ConnectionError):
            while True:
                await peer.send(bytes(MIB))
                written += MIB
        peer.saw_eof.set()

    async with Upstream(pour) as upstream:
        proxy = serve({"services": {"files": external(upstream.port)}}, under_uvicorn=under_uvicorn)
        async with Client.to(proxy.port) as client:
            await client.send(b"GET /files/down HTTP/1.1\r\nHost: p\r\n\r\n")
            assert (await client.head())[0] == 200
            await at_rest(lambda: written)
            await leave_by_rst(client)
        await (await upstream.accepted(1)).gone()
        await asyncio.to_thread(proxy.await_quiet)
