"""How a client connection ends: by the client, by a deadline, by a shutdown."""

import asyncio
import json
from typing import Any

import pytest

from ai_proxy.proxy.limits import ConnectionLimits
from tests.proxy.serving import GET, GUARD_S, Client, connections, echo, serving, until

# Clients that leave


class Watcher:
    """An app that says when its client has gone, and waits for what it is told to wait for."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.gone = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"]["ai_proxy.disconnect"](self.gone.set)
        self.called.set()
        await asyncio.wait_for(self.gone.wait(), GUARD_S)


@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
async def test_b01_b14_a_client_that_leaves_is_told_to_the_app(how: str) -> None:
    app = Watcher()
    async with serving(app) as server, Client.to(server.port) as client:
        await client.send(GET)
        await app.called.wait()
        if how == "reset":
            client.reset()
        elif how == "half_close":
            client.writer.write_eof()
        else:
            client.writer.close()
        await asyncio.wait_for(app.gone.wait(), GUARD_S)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_b02_a_client_that_leaves_is_noticed_while_its_socket_is_not_read(how: str) -> None:
    app = Watcher()
    async with serving(app) as server, Client.to(server.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 200_000)
        await app.called.wait()
        (connection,) = await connections(server.state)
        await until(lambda: connection.flow.read_paused)
        client.reset() if how == "reset" else client.writer.close()
        await asyncio.wait_for(app.gone.wait(), GUARD_S)


async def test_b15_a_client_that_leaves_with_requests_in_line_is_noticed() -> None:
    app = Watcher()
    async with serving(app) as server, Client.to(server.port) as client:
        await client.send(GET * 3)
        await app.called.wait()
        client.writer.close()
        await asyncio.wait_for(app.gone.wait(), GUARD_S)


async def test_a_callback_registered_too_late_is_called_at_once() -> None:
    called = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        scope["extensions"]["ai_proxy.disconnect"](called.set)

    async with serving(app) as server, Client.to(server.port) as client:
        await client.send(GET)
        (connection,) = await connections(server.state)
        await until(lambda: connection._cycle is not None)
        client.writer.close()
        await asyncio.wait_for(called.wait(), GUARD_S)


async def test_b09_an_abort_leaves_a_chunked_body_without_its_end() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        scope["extensions"]["ai_proxy.abort"]()

    async with serving(app) as server, Client.to(server.port) as client:
        await client.send(GET)
        await client.head()
        assert await client.rest() == b"2\r\nab\r\n"


async def test_b11_an_abort_to_http_1_0_is_a_reset() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        scope["extensions"]["ai_proxy.abort"]()

    async with serving(app) as server, Client.to(server.port) as client:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await client.rest()


# Deadlines


async def test_b57_a_head_that_does_not_arrive_is_a_408() -> None:
    async with serving(echo, ConnectionLimits(head_s=0.05)) as server, Client.to(server.port) as client:
        answer = await client.ask(b"GET / HT")

        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (408, "client_too_slow")
        assert await client.rest() == b""


async def test_b57_a_head_that_trickles_is_a_408_all_the_same() -> None:
    async with serving(echo, ConnectionLimits(head_s=0.1)) as server, Client.to(server.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nA: ")

        async def trickle() -> None:
            while True:
                await client.send(b"x")
                await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        assert (await client.answer()).status == 408
        trickling.cancel()


async def test_b57_a_body_that_stops_is_a_408() -> None:
    async with serving(echo, ConnectionLimits(body_idle_s=0.05)) as server, Client.to(server.port) as client:
        answer = await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")

        assert answer.status == 408
        assert await client.rest() == b""


async def test_b57_an_idle_connection_is_closed_without_a_word() -> None:
    limits = ConnectionLimits(keep_alive_s=0.05)
    async with serving(echo, limits) as server, Client.to(server.port) as client:
        assert (await client.ask(GET)).status == 200
        assert await client.rest() == b""


async def test_a_slow_answer_outlives_the_deadlines_of_receiving() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    limits = ConnectionLimits(head_s=0.2, body_idle_s=0.2, keep_alive_s=0.2)
    async with serving(app, limits) as server, Client.to(server.port) as client:
        await client.send(GET)
        (connection,) = await connections(server.state)
        await until(lambda: connection._deadline._timer is None)
        go.set()
        assert (await client.answer()).status == 200


async def test_a_client_that_takes_nothing_is_given_up() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        scope["extensions"]["ai_proxy.disconnect"](gone.set)
        while not gone.is_set():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

    gone = asyncio.Event()
    async with serving(app, ConnectionLimits(stall_s=0.05)) as server, Client.to(server.port, limit=1024) as client:
        await client.send(GET)
        await asyncio.wait_for(gone.wait(), GUARD_S)


async def test_b57_a_head_that_we_do_not_read_yet_is_not_late() -> None:
    go, now = asyncio.Event(), asyncio.get_running_loop().time

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    async with serving(app, ConnectionLimits(head_s=0.2)) as server, Client.to(server.port) as client:
        await client.send(GET + GET + GET[:10])
        (connection,) = await connections(server.state)
        passed = connection._deadline._timer
        await until(lambda: connection._deadline._timer is not passed)
        due, began = connection._deadline._due, now()
        await until(lambda: now() > began)
        go.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
        assert connection._deadline._due > due  # it is only waited for from then on
        assert (await client.ask(GET[10:])).status == 200


async def test_b13_a_slow_reader_gets_an_early_answer_whole_though_the_connection_ends() -> None:
    size = 16 * 1024 * 1024

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * size})

    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    async with serving(app, ConnectionLimits(linger_s=0)) as server, Client.to(server.port, limit=1024) as client:
        await client.send(head)
        (connection,) = await connections(server.state)
        await until(lambda: connection._deaf)
        assert len((await client.answer()).body) == size


@pytest.mark.parametrize("how", ["abort", "half_close"])
async def test_a_client_that_takes_nothing_does_not_keep_a_connection_that_has_ended(how: str) -> None:
    written, go = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x" * 32 * 1024 * 1024, "more_body": True})
        written.set()
        await go.wait()
        scope["extensions"]["ai_proxy.abort"]()

    async with serving(app, ConnectionLimits(stall_s=0.05)) as server, Client.to(server.port, limit=1024) as client:
        (connection,) = await connections(server.state)
        # As if it were little enough to be no reason to pause.
        connection.transport.set_write_buffer_limits(64 * 1024 * 1024)
        await client.send(GET)
        await written.wait()
        if how == "half_close":
            client.writer.write_eof()
        else:
            go.set()
        await until(lambda: not server.state.connections)


# Shutdown


LAST_CALL = ConnectionLimits(last_call_s=0.02)
NO_HURRY = ConnectionLimits(last_call_s=60)


async def test_b62_shutdown_closes_idle_connections_and_lets_open_ones_finish() -> None:
    go, called = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.set()
        await go.wait()
        await echo(scope, receive, send)

    async with serving(app, LAST_CALL) as server, Client.to(server.port) as idle, Client.to(server.port) as busy:
        await busy.send(GET)
        await called.wait()
        await until(lambda: len(server.state.connections) == 2)
        await server.shut_down()
        assert await idle.rest() == b""
        go.set()
        assert (await busy.answer()).header(b"connection") == b"close"
        assert await busy.rest() == b""


async def test_b62_a_request_that_was_on_its_way_at_the_shutdown_is_answered_and_its_connection_ends() -> None:
    async with serving(echo, NO_HURRY) as server, Client.to(server.port) as used, Client.to(server.port) as new:
        assert (await used.ask(GET)).header(b"connection") is None
        await until(lambda: len(server.state.connections) == 2)
        await server.shut_down()
        await server.shut_down()
        for client in (used, new):
            assert (await client.ask(GET)).header(b"connection") == b"close"
            assert await client.rest() == b""


async def test_b62_a_head_that_was_begun_before_the_shutdown_may_be_finished() -> None:
    async with serving(echo, LAST_CALL) as server, Client.to(server.port) as client, Client.to(server.port) as idle:
        await client.send(GET[:10])
        await until(lambda: any(connection._in_head for connection in server.state.connections))  # type: ignore[union-attr]
        await until(lambda: len(server.state.connections) == 2)
        await server.shut_down()
        assert await idle.rest() == b""  # it had its last call
        assert (await client.ask(GET[10:])).header(b"connection") == b"close"


async def test_b62_who_was_told_that_a_connection_goes_on_may_send_once_more_after_the_shutdown() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": b"b"})

    async with serving(app, NO_HURRY) as server, Client.to(server.port) as client:
        await client.send(GET)
        head = await client.head()
        assert await client.chunk() == b"a"
        await server.shut_down()
        go.set()
        assert [await client.chunk(), await client.chunk()] == [b"b", b""]
        await client.reader.readexactly(2)
        answer = await client.ask(GET)

    assert b"connection" not in dict(head[1])
    assert (answer.header(b"connection"), answer.body) == (b"close", b"ab")


async def test_b62_all_requests_that_came_before_the_shutdown_are_answered() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    async with serving(app, NO_HURRY) as server, Client.to(server.port) as client:
        await client.send(GET * 3)
        (connection,) = await connections(server.state)
        await until(lambda: len(connection._waiting) == 2)
        await server.shut_down()
        go.set()
        answers = [await client.answer() for _ in range(3)]
        assert await client.rest() == b""

    assert [answer.header(b"connection") for answer in answers] == [None, None, b"close"]
