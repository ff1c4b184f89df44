"""Clients are let in as long as there is room, and wait without harm beyond that."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast, override

import pytest

from ai_proxy.proxy.intake import Intake
from tests.proxy.serving import until


class Failing(socket.socket):
    """A listening socket that fails to accept, so many times."""

    failures: list[int]

    @override
    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            raise OSError(self.failures.pop(), "on order")
        return super().accept()


class Greeting(asyncio.Protocol):
    """Says hello, and lists itself as long as it is connected."""

    def __init__(self, connected: set[asyncio.Protocol]) -> None:
        self._connected = connected

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connected.add(self)
        cast("asyncio.WriteTransport", transport).write(b"hello")

    def connection_lost(self, exc: Exception | None) -> None:
        self._connected.discard(self)


@asynccontextmanager
async def taking_in(most: int, *failures: int) -> AsyncIterator[tuple[int, Intake, set[asyncio.Protocol]]]:
    """Run an intake on a free port; its accepting fails in these ways first."""
    connected: set[asyncio.Protocol] = set()
    with Failing() as listener:
        listener.failures = list(failures)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        intake = Intake(listener, lambda: Greeting(connected), connected=connected, most=most)
        try:
            yield listener.getsockname()[1], intake, connected
        finally:
            intake.close()
            await intake.wait_closed()


async def greeted(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        return await reader.readexactly(5)


async def test_l18_a_client_too_many_waits_until_another_leaves() -> None:
    async with taking_in(2) as (port, intake, connected):
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        first, second, third = clients
        assert [await greeted(reader) for reader, _ in (first, second)] == [b"hello"] * 2
        await until(lambda: "full" in repr(intake))
        assert len(connected) == 2
        first[1].close()
        assert await greeted(third[0]) == b"hello"
        for _, writer in clients:
            writer.close()
        await until(lambda: not connected)


async def test_l18_without_a_descriptor_for_another_client_it_rests_and_then_goes_on() -> None:
    async with taking_in(9, errno.EMFILE, errno.ECONNABORTED) as (port, intake, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: "full" in repr(intake))
        assert await greeted(reader) == b"hello"
        writer.close()


async def test_an_intake_that_closes_while_it_rests_accepts_nobody_any_more() -> None:
    async with taking_in(1) as (port, intake, connected):
        _, kept = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: "full" in repr(intake))
        intake.close()
        kept.close()
        await until(lambda: not connected)
        writer.write(b"is anybody there?")
    with pytest.raises(ConnectionResetError):
        await greeted(reader)
    writer.close()
