"""A restart on a socket that somebody else holds, as systemd does: clients wait, and none is lost."""

import asyncio
import json
import signal
import socket
from pathlib import Path

import pytest

from tests.e2e.clients import question, streaming
from tests.e2e.harness import GUARD_S, Proxy, external
from tests.fakes import engine
from tests.proxy.serving import Client

pytestmark = pytest.mark.slow

CLIENTS = 8
READY = b"READY=1"
STOPPING = b"STOPPING=1"


class Caller:
    """Asks one stream after the other, on one connection for as long as it is not told to make another."""

    def __init__(self, port: int) -> None:
        self.heads: list[bytes] = []
        self._port = port

    async def run(self, enough: asyncio.Event) -> None:
        while not enough.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            closes = False
            while not (closes or enough.is_set()):
                writer.write(question("small", stream=True))
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                closes = b"connection: close" in head
                assert b"[DONE]" in await reader.readuntil(b"\r\n0\r\n\r\n")
            writer.close()
            await writer.wait_closed()


async def all_have(callers: list[Caller], count: int) -> None:
    """Wait until each has this many answers."""
    async with asyncio.timeout(GUARD_S):
        while any(len(caller.heads) < count for caller in callers):
            await asyncio.sleep(0.01)


async def test_b62_a_restart_under_load_on_a_socket_that_was_passed_loses_no_request(tmp_path: Path) -> None:
    """RFC 9112 §9.6: who was not told that the connection closes may send another request on it."""
    with (
        engine.running("--chunks", "5", "--interval", "0.01") as running,
        socket.create_server(("127.0.0.1", 0), backlog=CLIENTS) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(GUARD_S)
        proxy = Proxy(tmp_path, {"server": {"on_exit": "keep"}, "services": {"small": external(running.port)}})
        proxy.start_on(listener, NOTIFY_SOCKET=str(tmp_path / "notify"))
        callers = [Caller(proxy.port) for _ in range(CLIENTS)]
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for caller in callers:
                group.create_task(caller.run(enough))
            assert await asyncio.to_thread(manager.recv, 100) == READY
            await all_have(callers, 3)
            proxy.signal(signal.SIGTERM)
            assert await asyncio.to_thread(manager.recv, 100) == STOPPING
            assert await asyncio.to_thread(proxy.wait) == 0
            proxy.start_on(listener)
            await all_have(callers, max(len(caller.heads) for caller in callers) + 3)
            enough.set()
        await asyncio.to_thread(proxy.close)

    assert {head[:12] for caller in callers for head in caller.heads} == {b"HTTP/1.1 200"}
    assert all(any(b"connection: close" in head for head in caller.heads) for caller in callers)
    assert "Traceback" not in proxy.log


async def test_b12_b62_who_waits_or_streams_at_the_drain_deadline_is_told_why_it_ends(tmp_path: Path) -> None:
    with (
        engine.running("--chunks", "10000", "--interval", "0.02") as running,
        socket.create_server(("127.0.0.1", 0)) as nobody,
    ):
        never = external(nobody.getsockname()[1], health={"path": "/health"})
        services = {"never": never, "endless": external(running.port)}
        proxy = Proxy(tmp_path, {"server": {"drain_timeout_s": 1}, "services": services}).start()
        async with Client.to(proxy.port) as waiting, streaming(proxy, "endless") as open_one:
            await waiting.send(question("never"))
            while len(await asyncio.to_thread(proxy.requests)) < 2:
                await asyncio.sleep(0.01)
            proxy.signal(signal.SIGTERM)
            answer = await waiting.answer()
            last = (await open_one.rest()).rsplit(b"data: ", 1)[1]
        assert await asyncio.to_thread(proxy.wait) == 0

    assert (answer.status, answer.header(b"connection")) == (503, b"close")
    assert answer.header(b"retry-after") is not None
    assert json.loads(answer.body)["error"]["code"] == "draining"
    assert json.loads(last[: last.rindex(b"}") + 1])["error"]["code"] == "draining"
    assert not last.endswith(b"0\r\n\r\n")
