"""The line for a capped origin, turn by turn and without sockets."""

import asyncio

import pytest

from ai_proxy.transport.connection import Connection
from ai_proxy.transport.errors import PoolClosed
from ai_proxy.transport.lane import Lane
from ai_proxy.transport.limits import Limits
from ai_proxy.transport.origin import Origin
from tests.fakes.transport import FakeTransport

ORIGIN = Origin("http", "x", 80)


class Road:
    """A lane, and whether it said that it is empty."""

    def __init__(self, limits: Limits) -> None:
        self.emptied = 0
        self.lane = Lane(asyncio.get_running_loop(), ORIGIN, limits, self._on_empty)
        self.limits = limits

    def _on_empty(self, lane: Lane) -> None:
        self.emptied += 1

    def connection(self) -> Connection:
        """A connection on a turn of its own."""
        assert self.lane.take_turn()
        connection = Connection(asyncio.get_running_loop(), ORIGIN, self.lane, self.limits)
        connection.connection_made(FakeTransport())
        return connection


def capped(max_connections: int = 1, idle_expiry_s: float = 4.0) -> Road:
    return Road(Limits(max_connections=max_connections, idle_expiry_s=idle_expiry_s))


async def test_a_released_connection_goes_straight_to_the_first_in_line() -> None:
    road = capped()
    connection = road.connection()
    first, second = road.lane.stand_in_line(fresh=False), road.lane.stand_in_line(fresh=False)
    road.lane.released(connection)
    assert (first.result(), second.done(), road.lane.take_idle()) == (connection, False, None)
    assert repr(road.lane) == "<Lane http://x:80#0: 1 active, 0 idle, 1 waiting>"


async def test_the_place_of_a_lost_connection_goes_to_the_first_in_line() -> None:
    road = capped()
    connection = road.connection()
    turn = road.lane.stand_in_line(fresh=False)
    connection.connection_lost(None)
    assert (turn.result(), road.lane.turns, road.lane.take_turn()) == (None, 1, False)


async def test_who_needs_a_new_connection_gets_the_place_of_the_released_one() -> None:
    road = capped()
    connection = road.connection()
    turn = road.lane.stand_in_line(fresh=True)
    road.lane.released(connection)
    assert (turn.done(), connection.usable) == (False, False)
    connection.connection_lost(None)
    assert turn.result() is None


async def test_who_gave_up_is_passed_over() -> None:
    road = capped()
    connection = road.connection()
    first, second = road.lane.stand_in_line(fresh=False), road.lane.stand_in_line(fresh=False)
    first.cancel()
    road.lane.released(connection)
    assert second.result() is connection


async def test_a_connection_that_comes_too_late_is_passed_on() -> None:
    road = capped()
    connection = road.connection()
    first, second = road.lane.stand_in_line(fresh=False), road.lane.stand_in_line(fresh=False)
    road.lane.released(connection)
    road.lane.leave_line(first)
    assert second.result() is connection


async def test_a_place_that_comes_too_late_is_passed_on_or_freed() -> None:
    road = capped()
    connection = road.connection()
    first, second = road.lane.stand_in_line(fresh=False), road.lane.stand_in_line(fresh=False)
    connection.connection_lost(None)
    road.lane.leave_line(first)
    assert (second.result(), road.emptied) == (None, 0)
    road.lane.leave_line(second)
    assert (road.lane.turns, road.emptied) == (0, 1)


async def test_a_connection_that_died_on_its_way_to_the_next_gives_its_place_once() -> None:
    road = capped()
    connection = road.connection()
    turn = road.lane.stand_in_line(fresh=False)
    road.lane.released(connection)
    connection.connection_lost(None)
    road.lane.leave_line(turn)
    assert (road.lane.turns, road.emptied) == (0, 1)


async def test_a_closed_lane_answers_those_in_line_and_those_who_come_late() -> None:
    road = capped()
    connection = road.connection()
    waiting = road.lane.stand_in_line(fresh=False)
    road.lane.close(abort=False)
    late = road.lane.stand_in_line(fresh=False)
    for turn in (waiting, late):
        with pytest.raises(PoolClosed):
            turn.result()
    road.lane.released(connection)
    assert (road.lane.take_idle(), connection.usable) == (None, False)


async def test_b53_a_connection_idle_for_too_long_is_not_taken_even_before_the_sweep() -> None:
    road = capped(idle_expiry_s=0)
    connection = road.connection()
    road.lane.released(connection)
    assert (road.lane.take_idle(), connection.usable) == (None, False)


async def test_the_sweep_closes_what_has_expired_and_keeps_the_rest() -> None:
    road = capped(2, idle_expiry_s=0.02)
    older, newer = road.connection(), road.connection()
    road.lane.released(older)
    road.lane.released(newer)
    newer.idle_since += 1000
    async with asyncio.timeout(20):
        while older.usable:
            await asyncio.sleep(0.005)
    assert list(road.lane.idle) == [newer]
    road.lane.close(abort=True)


async def test_a_connection_cut_off_while_it_was_made_gives_its_place_back_once() -> None:
    """Whether the loop then reports the loss late, as asyncio does, or never, as uvloop."""
    road = capped()
    connection = road.connection()
    road.lane.give_up(connection)
    assert (road.lane.turns, road.emptied) == (0, 1)
    connection.connection_lost(None)
    assert (road.lane.turns, road.emptied) == (0, 1)


async def test_a_socket_that_stands_after_it_was_given_up_is_closed() -> None:
    road = capped()
    assert road.lane.take_turn()
    connection = Connection(asyncio.get_running_loop(), ORIGIN, road.lane, road.limits)
    road.lane.give_up(connection)
    transport = FakeTransport()
    connection.connection_made(transport)
    assert (transport.aborted, road.lane.connections, road.emptied) == (True, set(), 1)
