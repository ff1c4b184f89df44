"""An exchange whose owner lets pieces of the body pass by while it waits."""

import asyncio

import pytest

from ai_proxy.transport.errors import UpstreamClosed
from ai_proxy.transport.exchange import Exchange
from ai_proxy.transport.limits import Limits, Timeouts
from ai_proxy.transport.reader import ResponseReader


class Line:
    """A connection that only counts."""

    def __init__(self) -> None:
        self.expected = 0
        self.paused = False

    def expect_bytes(self, within_s: float) -> None:
        self.expected += 1

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def abandon(self) -> None: ...


class Owner:
    """Reads with a sink that takes so many pieces."""

    def __init__(self, takes: int) -> None:
        loop = asyncio.get_running_loop()
        reader = ResponseReader(Limits(), bodiless=False, on_informational=None)
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        self.line = Line()
        self.exchange = Exchange(loop, self.line, reader, Timeouts(), high_water_bytes=4)
        self.passed: list[bytes] = []
        self._takes = takes

    def sink(self, data: bytes) -> bool:
        self.passed.append(data)
        return len(self.passed) < self._takes

    async def reading(self) -> "asyncio.Task[bytes]":
        task = asyncio.create_task(self.exchange.read(self.sink))
        await asyncio.sleep(0)
        return task

    def gain(self, *pieces: bytes) -> list[bool]:
        """What the connection does for each read, and whether the owner must look."""
        looks = []
        for piece in pieces:
            looks.append(self.exchange.gain(piece))
            if looks[-1]:
                self.exchange.wake()
        return looks


async def test_pieces_pass_by_a_waiting_reader_and_the_deadline_moves() -> None:
    owner = Owner(takes=9)
    task = await owner.reading()

    assert owner.gain(b"a", b"b") == [False, False]
    assert owner.passed == [b"a", b"b"]
    assert owner.line.expected == 3
    task.cancel()
    await asyncio.wait({task})


async def test_the_last_piece_is_the_reader_s() -> None:
    owner = Owner(takes=9)
    task = await owner.reading()
    owner.gain(b"a")
    owner.exchange.detach()
    owner.gain(b"z")

    assert await task == b"z"
    assert owner.passed == [b"a"]


async def test_a_sink_that_has_enough_gets_nothing_more_and_order_is_kept() -> None:
    owner = Owner(takes=2)
    task = await owner.reading()

    assert owner.gain(b"a", b"b", b"c", b"d") == [False, False, True, True]
    assert await task == b"cd"
    assert owner.passed == [b"a", b"b"]


async def test_what_a_full_sink_leaves_is_held_up_to_the_high_water_mark() -> None:
    owner = Owner(takes=1)
    task = await owner.reading()
    owner.gain(b"a", b"bcdef")

    assert owner.line.paused
    assert await task == b"bcdef"
    assert not owner.line.paused


async def test_nothing_passes_by_once_nobody_reads() -> None:
    owner = Owner(takes=9)
    task = await owner.reading()
    owner.gain(b"a")
    owner.exchange.fail(UpstreamClosed("gone", started=True))
    with pytest.raises(UpstreamClosed):
        await task

    assert owner.gain(b"b") == [True]
    assert owner.passed == [b"a"]


async def test_a_cancelled_reader_takes_no_more() -> None:
    owner = Owner(takes=9)
    task = await owner.reading()
    task.cancel()
    await asyncio.wait({task})

    owner.gain(b"a")
    assert owner.passed == []
