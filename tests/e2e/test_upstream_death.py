"""An engine that dies at work: no client takes half an answer for a whole one, and the next request starts it anew."""

import asyncio
import os
import signal
from contextlib import suppress

import httpx
import psutil
import pytest

from ai_proxy.runtimes.process.ports import free_port
from tests.e2e.clients import asking, chat, error_of, streaming
from tests.e2e.conftest import Serve
from tests.e2e.harness import GUARD_S, Proxy, external, process, until
from tests.fakes.upstream import Peer, Upstream, answering_once
from tests.proxy.serving import Client

pytestmark = pytest.mark.slow

ENGINE = process()["command"][3]


def engine_pid(proxy: Proxy) -> int:
    """The pid of the one engine that a proxy runs; its guard has another."""
    (pid,) = (pid for pid in proxy.processes() if psutil.Process(pid).cmdline()[3:4] == [ENGINE])
    return pid


async def collect(client: Client, chunks: list[bytes]) -> None:
    """Gather chunks up to the proper end of an answer."""
    while chunk := await client.chunk():
        chunks.append(chunk)


async def test_b12_a_stream_ends_with_an_error_event_and_is_cut_never_completed(serve: Serve) -> None:
    proxy = serve({"services": {"chat": process("--chunks", "1000000", "--interval", "0.01")}})
    async with streaming(proxy, "chat") as client:
        os.kill(engine_pid(proxy), signal.SIGKILL)
        chunks: list[bytes] = []
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)) as cut:
            await collect(client, chunks)
    last = chunks[-1]
    assert b'"code":"upstream_broken"' in last
    assert last.startswith(b"data: ")
    assert last.endswith(b"\n\n")
    assert b"[DONE]" not in last
    assert not getattr(cut.value, "partial", b"")
    proxy.await_quiet()
    until(lambda: "end=upstream_broke" in proxy.log, lambda: proxy.log)


async def test_b61_a_request_without_an_answer_yet_gets_a_bad_gateway(serve: Serve) -> None:
    proxy = serve({"services": {"chat": process("--first-byte-after", "3600")}})
    async with asking(proxy) as client:
        asked = asyncio.create_task(chat(client, "chat"))
        while (not asked.done() and proxy.state("chat") != "ready") or not proxy.stats("chat")["open"]:
            await asyncio.sleep(0.01)
        os.kill(engine_pid(proxy), signal.SIGKILL)
        answer = await asked
    assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_broken")
    assert "127.0.0.1" not in answer.text


async def test_the_next_request_starts_it_again_no_later_than_it_was_told(serve: Serve) -> None:
    proxy = serve({"services": {"chat": process()}})
    async with asking(proxy) as client:
        answer = await chat(client, "chat")
        while answer.status_code == 200:  # its first back-off may be over before it is asked again; each is longer
            os.kill(engine_pid(proxy), signal.SIGKILL)
            proxy.await_state("chat", "failed")
            answer = await chat(client, "chat")
        error = error_of(answer)
        assert (answer.status_code, error["code"]) == (503, "start_failed")
        assert "killed by signal 9" in error["message"]
        assert error["retry_after_s"] == int(answer.headers["retry-after"])
        await asyncio.sleep(error["retry_after_s"])
        assert (await chat(client, "chat")).status_code == 200


HALVES = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf of it\r\n",
)


async def test_b09_b10_half_an_answer_is_not_completed_however_it_was_cut(serve: Serve) -> None:
    scripts = [answering_once(half, then=end) for half in HALVES for end in (Peer.close, Peer.rst)]
    async with Upstream(*scripts) as upstream:
        proxy = serve({"services": {"files": external(upstream.port)}})
        for _ in scripts:
            async with Client.to(proxy.port) as client:
                with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                    await client.ask(b"GET /files/x HTTP/1.1\r\nHost: p\r\n\r\n")
    assert len(upstream.peers) == len(scripts)


async def in_its_place(port: int, heard: list[bytes]) -> asyncio.Server:
    """Take over a port as soon as it is free, and keep what comes there."""

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        with suppress(ConnectionError):
            data = await reader.read(1000)
        heard.append(data)
        writer.close()

    async with asyncio.timeout(GUARD_S):
        while True:
            try:
                return await asyncio.start_server(hear, "127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0)


async def test_l22_a_port_that_another_program_took_over_is_asked_nothing(serve: Serve) -> None:
    """Not even before anybody can know of the engine's death: who would tell of it is stopped."""
    port = free_port(())
    command = [word.replace("{port}", str(port)) for word in process()["command"]]
    proxy = serve({"services": {"chat": process(command=command, port=port)}})
    heard: list[bytes] = []
    answers: list[httpx.Response] = []

    async def keep_asking(client: httpx.AsyncClient) -> None:
        text = ""
        while "in use by another program" not in text:
            with suppress(httpx.RemoteProtocolError):  # its engine died in the middle of its answer
                answers.append(await chat(client, "chat"))
                text = answers[-1].text
            await asyncio.sleep(0.01)

    async with asking(proxy) as client, asyncio.timeout(GUARD_S):
        assert (await chat(client, "chat")).status_code == 200
        engine = engine_pid(proxy)
        guard = psutil.Process(engine).ppid()
        asked = [asyncio.create_task(keep_asking(client)) for _ in range(4)]
        while len(answers) < len(asked):
            await asyncio.sleep(0.01)
        os.kill(guard, signal.SIGSTOP)
        os.kill(engine, signal.SIGKILL)
        async with await in_its_place(port, heard):
            while not heard:
                await asyncio.sleep(0.01)
            os.kill(guard, signal.SIGCONT)
            await asyncio.gather(*asked)
    assert not any(heard)
    failures = [answer for answer in answers if answer.status_code != 200]
    causes = {(answer.status_code, error_of(answer)["code"]) for answer in failures}
    assert any("'chat' has just ended" in answer.text for answer in failures)
    assert causes <= {(502, "upstream_unreachable"), (502, "upstream_broken"), (503, "start_failed")}
