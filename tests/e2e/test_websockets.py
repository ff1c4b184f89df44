"""WebSockets between an independent client and an independent server, through a proxy that starts and stops it."""

import asyncio
import signal

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close

from tests.e2e.conftest import Serve
from tests.e2e.harness import GUARD_S, Proxy, Settings
from tests.fakes import socket_engine

pytestmark = pytest.mark.slow

ONE_GPU = {"devices": [{"id": "0", "vram_mb": 1500}], "scheduling": {"headroom_mb": 0, "min_residency_s": 0}}


def talking(**keys: object) -> Settings:
    """A service that speaks WebSocket, and needs the GPU for itself."""
    return {
        "command": [*socket_engine.argv("--port", "{port}")],
        "health": {"path": "/health"},
        "resources": {"gpus": 1, "vram_required_mb": 1000},
        "stop_grace_period": 2,
        **keys,
    }


def connecting(proxy: Proxy, path: str) -> connect:
    return connect(f"ws://127.0.0.1:{proxy.port}{path}", proxy=None, ping_interval=None, open_timeout=GUARD_S)


async def end_of(socket: ClientConnection) -> Close | None:
    """The close frame that the other side sends."""
    with pytest.raises(ConnectionClosed) as closed:
        await asyncio.wait_for(socket.recv(), 20)
    return closed.value.rcvd


async def test_b63_a_socket_wakes_its_service_says_everything_and_makes_room_when_it_is_idle(serve: Serve) -> None:
    services = {
        "a": talking(models=["voice"], timeouts={"upgrade_idle_s": 0.2}),
        "b": talking(limits={"max_wait_s": 20}),
    }
    proxy = serve({**ONE_GPU, "services": services})

    async with connecting(proxy, "/v1/realtime?model=voice") as socket:
        for message in ("text", b"binary" * 5000, "ünïcödé " * 3000):
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(iter(["in ", "three ", "parts"]))
        assert await socket.recv() == "in three parts"
        await asyncio.wait_for(await socket.ping(b"are you there"), 20)
        async with connecting(proxy, "/a/other") as other:
            await other.send("leave")
            assert await end_of(other) == Close(4000, "as asked")

        async with connecting(proxy, "/b/") as guest:
            assert await end_of(socket) == Close(1001, "the service is stopping")
            await guest.send("hello")
            assert await guest.recv() == "hello"
            assert proxy.state("a") == "stopped"

            proxy.signal(signal.SIGTERM)
            await guest.send("still here")
            assert await guest.recv() == "still here"
    assert proxy.wait() == 0
    lines = [line for line in proxy.log.splitlines() if "| access |" in line and " 101 " in line]
    assert len(lines) == 3
    assert sum("end=done" in line for line in lines) == 2
    assert sum("end=cancelled" in line for line in lines) == 1
