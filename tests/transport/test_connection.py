"""One connection, driven by hand: what it writes, and what becomes of it at every possible end."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.transport.connection import Connection
from ai_proxy.transport.errors import (
    ExchangeClosed,
    FirstByteTimeout,
    IdleTimeout,
    ProtocolError,
    UpstreamClosed,
    WriteError,
)
from ai_proxy.transport.exchange import Exchange
from ai_proxy.transport.limits import Limits, Timeouts
from ai_proxy.transport.origin import Origin
from tests.fakes.transport import FakeTransport

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
HEAD_OF_OK = OK[:-5]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


class Ledger:
    """An owner that keeps what its connection reported."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def made(self, connection: Connection) -> None:
        self.heard.append("made")

    def released(self, connection: Connection) -> None:
        self.heard.append("released")

    def lost(self, connection: Connection) -> None:
        self.heard.append("lost")


class Wire:
    """A connection between a fake transport and a ledger."""

    def __init__(self, **limits: int) -> None:
        self.owner = Ledger()
        self.transport = FakeTransport()
        self.connection = Connection(asyncio.get_running_loop(), Origin("http", "x", 80), self.owner, Limits(**limits))
        self.connection.connection_made(self.transport)

    def send(self, head: bytes = GET, body: bytes | AsyncIterator[bytes] | None = None) -> Exchange:
        method = head.split(b" ", 1)[0]
        chunked = b"chunked" in head
        return self.connection.start(head, body, method=method, timeouts=Timeouts(), chunked=chunked)

    @property
    def fate(self) -> str:
        assert not (self.transport.aborted and "released" in self.owner.heard)
        if self.transport.aborted:
            return "closed"
        return "kept" if self.owner.heard[-1] == "released" else "open"


async def read_all(exchange: Exchange) -> bytes:
    pieces = []
    while piece := await exchange.read():
        pieces.append(piece)
    return b"".join(pieces)


async def test_head_and_body_leave_in_one_write() -> None:
    wire = Wire()
    wire.send(POST, b"hello")
    assert wire.transport.written == [POST + b"hello"]


async def test_a_large_body_is_not_copied_behind_its_head() -> None:
    wire = Wire()
    wire.send(POST, b"x" * 100_000)
    assert [len(piece) for piece in wire.transport.written] == [len(POST), 100_000]


@pytest.mark.parametrize("response", [OK, CHUNKED, b"HTTP/1.1 204 No Content\r\n\r\n"])
async def test_a_complete_response_keeps_the_connection(response: bytes) -> None:
    wire = Wire()
    exchange = wire.send()
    wire.connection.data_received(response)
    assert (wire.fate, exchange.complete) == ("kept", True)
    assert repr(wire.connection) == "<Connection http://x:80#0: idle, 1 exchanges>"


async def test_the_response_is_there_to_be_read_after_the_connection_went_back() -> None:
    wire = Wire()
    exchange = wire.send()
    wire.connection.data_received(OK)
    wire.connection.abort()
    assert (exchange.status, exchange.reason, exchange.http_version) == (200, b"OK", "1.1")
    assert await read_all(exchange) == b"hello"


@pytest.mark.parametrize(
    "response",
    [
        OK + b"HTTP/1.1 200 OK\r\n\r\n",
        OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        OK.replace(b"1.1", b"1.0"),
        CHUNKED + b"\r\n",
    ],
    ids=["leftover", "connection-close", "http-1.0", "leftover-crlf"],
)
async def test_b34_a_response_that_ends_unclean_or_says_so_closes_the_connection(response: bytes) -> None:
    wire = Wire()
    exchange = wire.send()
    wire.connection.data_received(response)
    assert wire.fate == "closed"
    assert await read_all(exchange) == b"hello"


async def test_the_answer_to_head_has_no_body_and_keeps_the_connection() -> None:
    wire = Wire()
    exchange = wire.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    wire.connection.data_received(HEAD_OF_OK)
    assert (wire.fate, await exchange.read()) == ("kept", b"")
    wire.send()
    wire.connection.data_received(HEAD_OF_OK)
    assert wire.owner.heard.count("released") == 1


async def test_b31_b34_a_body_after_the_answer_to_head_closes_the_connection() -> None:
    wire = Wire()
    wire.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    wire.connection.data_received(OK)
    assert wire.fate == "closed"


async def test_b34_bytes_on_an_idle_connection_close_it() -> None:
    wire = Wire()
    wire.send()
    wire.connection.data_received(OK)
    wire.owner.heard.clear()
    wire.connection.data_received(b"H")
    assert (wire.fate, wire.connection.usable) == ("closed", False)


async def test_an_answer_before_the_request_left_closes_the_connection() -> None:
    wire = Wire()
    exchange = wire.send(POST, b"x" * 100_000)
    wire.transport.unsent = 30_000
    wire.connection.data_received(OK)
    assert (wire.fate, await read_all(exchange)) == ("closed", b"hello")


async def test_b33_a_refused_response_closes_the_connection_and_says_why() -> None:
    wire = Wire()
    exchange = wire.send()
    wire.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n")
    assert wire.fate == "closed"
    with pytest.raises(ProtocolError, match="Content-Length"):
        await exchange.wait_head()


async def test_b52_an_end_before_any_byte_of_the_first_exchange_is_not_stale() -> None:
    wire = Wire()
    exchange = wire.send()
    wire.connection.connection_lost(None)
    with pytest.raises(UpstreamClosed, match="before its response") as caught:
        await exchange.wait_head()
    assert (caught.value.started, caught.value.stale) == (False, False)


@pytest.mark.parametrize("reset", [False, True])
async def test_b52_an_end_before_any_byte_of_a_later_exchange_is_stale(reset: bool) -> None:
    wire = Wire()
    wire.send()
    wire.connection.data_received(OK)
    exchange = wire.send()
    if reset:
        wire.connection.connection_lost(ConnectionResetError())
    else:
        wire.connection.eof_received()
    with pytest.raises(UpstreamClosed) as caught:
        await exchange.wait_head()
    assert (caught.value.started, caught.value.stale) == (False, True)


@pytest.mark.parametrize("came", [b"H", OK[:20], b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_an_end_within_the_head_is_an_error_and_not_stale(came: bytes) -> None:
    wire = Wire()
    wire.send()
    wire.connection.data_received(OK)
    exchange = wire.send()
    wire.connection.data_received(came)
    wire.connection.eof_received()
    with pytest.raises(UpstreamClosed, match="in the middle") as caught:
        await exchange.wait_head()
    assert (caught.value.started, caught.value.stale) == (True, False)


@pytest.mark.parametrize("response", [OK, CHUNKED])
async def test_b09_b10_an_end_within_the_body_is_an_error_after_what_came(response: bytes) -> None:
    wire = Wire()
    exchange = wire.send()
    wire.connection.data_received(response[: response.index(b"hello") + 3])
    wire.connection.eof_received()
    assert await exchange.read() == b"hel"
    with pytest.raises(UpstreamClosed, match="in the middle"):
        await exchange.read()


async def test_b11_a_fin_ends_a_body_without_framing() -> None:
    wire = Wire()
    exchange = wire.send()
    wire.connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nhello")
    wire.connection.eof_received()
    assert (await read_all(exchange), wire.fate) == (b"hello", "closed")


async def test_b11_a_reset_breaks_a_body_without_framing() -> None:
    wire = Wire()
    exchange = wire.send()
    wire.connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nhello")
    wire.connection.connection_lost(ConnectionResetError())
    assert await exchange.read() == b"hello"
    with pytest.raises(UpstreamClosed):
        await exchange.read()


async def test_the_owner_hears_of_the_lost_socket_once_and_last() -> None:
    wire = Wire()
    wire.send()
    wire.connection.data_received(OK + b"x")
    wire.connection.connection_lost(None)
    assert wire.owner.heard == ["made", "lost"]


async def test_b05_reading_pauses_above_the_high_water_mark_and_goes_on_once_read() -> None:
    wire = Wire(high_water_bytes=10)
    exchange = wire.send()
    wire.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n" + b"x" * 10)
    reading = [wire.transport.reading]
    wire.connection.data_received(b"x")
    reading.append(wire.transport.reading)
    assert repr(exchange) == "<Exchange: 200 status, length, 11 bytes unread>"
    assert exchange.read_nowait() == b"x" * 11
    assert [*reading, wire.transport.reading] == [True, False, True]
    assert exchange.read_nowait() is None


async def test_reading_does_not_pause_for_a_response_that_is_complete() -> None:
    wire = Wire(high_water_bytes=2)
    wire.send()
    wire.connection.data_received(OK)
    assert (wire.transport.reading, wire.fate) == (True, "kept")


async def test_closing_before_the_end_closes_the_connection_at_once_and_only_once() -> None:
    wire = Wire()
    exchange = wire.send()
    wire.connection.data_received(HEAD_OF_OK + b"hel")
    exchange.close()
    exchange.close()
    assert wire.fate == "closed"
    with pytest.raises(ExchangeClosed):
        await exchange.read()


async def test_closing_after_the_end_changes_nothing() -> None:
    wire = Wire()
    exchange = wire.send()
    wire.connection.data_received(OK)
    exchange.close()
    assert (wire.fate, await read_all(exchange)) == ("kept", b"hello")


async def test_closing_wakes_a_reader() -> None:
    wire = Wire()
    exchange = wire.send()
    wire.connection.data_received(HEAD_OF_OK)
    reader = asyncio.create_task(exchange.read())
    await asyncio.sleep(0)
    exchange.close()
    with pytest.raises(ExchangeClosed):
        await reader


@pytest.mark.parametrize("came", [b"", HEAD_OF_OK])
async def test_cancelling_a_wait_closes_the_connection(came: bytes) -> None:
    wire = Wire()
    exchange = wire.send()
    if came:
        wire.connection.data_received(came)
    waiting = asyncio.create_task(exchange.read() if came else exchange.wait_head())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert wire.fate == "closed"


async def test_b55_no_head_in_time_is_a_first_byte_timeout() -> None:
    wire = Wire()
    timeouts = Timeouts(first_byte_s=0.01)
    exchange = wire.connection.start(GET, None, method=b"GET", timeouts=timeouts)
    with pytest.raises(FirstByteTimeout):
        await exchange.wait_head()
    assert wire.fate == "closed"


async def test_b56_a_stalled_body_is_an_idle_timeout() -> None:
    wire = Wire()
    exchange = wire.connection.start(GET, None, method=b"GET", timeouts=Timeouts(idle_s=0.01))
    wire.connection.data_received(HEAD_OF_OK)
    with pytest.raises(IdleTimeout):
        await exchange.read()
    assert wire.fate == "closed"


async def test_a_streamed_body_without_framing_is_refused_before_a_byte_is_written() -> None:
    wire = Wire()

    async def body() -> AsyncIterator[bytes]:
        yield b"never"

    with pytest.raises(WriteError):
        wire.send(GET, body())
    assert (wire.transport.written, wire.connection.usable) == ([], True)


@given(st.lists(st.binary(min_size=1), max_size=5), st.sampled_from([b"", OK[:30], CHUNKED[:60]]))
async def test_garbage_ends_the_exchange_or_the_fin_does_but_it_is_never_pooled(
    garbage: list[bytes], before: bytes
) -> None:
    wire = Wire()
    exchange = wire.send()
    for data in [before, *garbage] if before else garbage:
        wire.connection.data_received(data)
    if wire.fate == "kept":
        # Garbage can complete a length-framed body; any byte beyond would have closed the connection.
        assert exchange.complete
        assert len(b"".join(garbage)) == len(OK) - len(before)
        return
    wire.connection.eof_received()
    assert wire.fate == "closed"
    async with asyncio.timeout(20):
        await asyncio.gather(read_all(exchange), return_exceptions=True)
