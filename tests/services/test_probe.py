"""Probes against a real server and against one that misbehaves: every answer is a finding, none is an error."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from ai_proxy.engines.llama_cpp_server import LLAMA_CPP_SERVER
from ai_proxy.engines.profile import Question
from ai_proxy.runtimes.base import Instance
from ai_proxy.services.probe import Finding, Probe
from tests.fakes.engine import running
from tests.fakes.upstream import Peer, Upstream, answering
from tests.transport.pools import silent

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def probe() -> AsyncIterator[Probe]:
    made = Probe(deadline_s=5)
    yield made
    await made.aclose()


@pytest.fixture
async def hasty() -> AsyncIterator[Probe]:
    """A probe that soon gives up."""
    made = Probe(deadline_s=0.1)
    yield made
    await made.aclose()


@pytest.fixture
def slots() -> Question:
    assert LLAMA_CPP_SERVER.busy is not None
    return LLAMA_CPP_SERVER.busy


def at(port: int, base_path: str = "") -> Instance:
    return Instance("x", "chat", "127.0.0.1", port, base_path=base_path)


@pytest.mark.slow
async def test_an_engine_is_loading_until_it_is_ready(probe: Probe, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with running("--ready-file", str(ready)) as engine:
        loading = await probe.health(at(engine.port), "/health")
        ready.touch()
        loaded = await probe.health(at(engine.port), "/health")
    assert (loading.status, loaded.status) == (503, 200)
    assert loading.detail.startswith('/health answered 503 {"error": {"message": "Loading model"')


@pytest.mark.slow
async def test_an_engine_is_busy_while_a_slot_works(probe: Probe, slots: Question) -> None:
    with running() as engine:
        idle = await probe.busy(at(engine.port), slots)
        engine.post("/fake/busy?slots=1")
        busy = await probe.busy(at(engine.port), slots)
    assert (idle, busy) == (False, True)


async def test_nobody_there_is_a_finding(probe: Probe, slots: Question) -> None:
    async with Upstream(answering(OK)) as gone:
        port = gone.port
    assert await probe.health(at(port), "/health") == Finding(0, "/health can't be reached (ConnectError)")
    assert not await probe.busy(at(port), slots)


async def test_l22_who_answers_in_place_of_a_replica_that_has_ended_is_no_sign_of_it_and_told_nothing(
    probe: Probe,
) -> None:
    async with Upstream(silent) as upstream:
        ended = replace(at(upstream.port), is_alive=lambda: False)
        found = await probe.health(ended, "/health", {"authorization": "Bearer of the service"})
        assert found == Finding(0, "/health can't be reached (ConnectError)")
        await (await upstream.accepted(1)).gone()
        assert upstream.peers[0].received == b""


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", b"SSH-2.0-x\r\n\r\n"])
async def test_who_breaks_off_or_talks_nonsense_is_not_ready(probe: Probe, said: bytes) -> None:
    async def break_off(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(said)
        peer.close()

    async with Upstream(break_off) as upstream:
        assert (await probe.health(at(upstream.port), "/health")).status == 0


async def test_who_never_answers_is_given_up(hasty: Probe, slots: Question) -> None:
    async def hang(peer: Peer) -> None:
        await peer.wait_eof()

    async with Upstream(hang) as upstream:
        assert await hasty.health(at(upstream.port), "/") == Finding(0, "/ did not answer within 0.1 s")
        assert not await hasty.busy(at(upstream.port), slots)


@pytest.mark.slow
async def test_who_answers_drop_by_drop_is_given_up(hasty: Probe) -> None:
    async def drip(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not peer.saw_eof.is_set():
            await peer.send(b".")
            await asyncio.sleep(0.02)

    async with asyncio.timeout(20), Upstream(drip) as upstream:
        assert (await hasty.health(at(upstream.port), "/")).status == 0


async def test_an_endless_answer_is_cut(probe: Probe) -> None:
    async def pour(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            await peer.send(b"x" * 65536)

    async with Upstream(pour) as upstream:
        finding = await probe.health(at(upstream.port), "/")
    assert finding.status == 200
    assert len(finding.detail) < 120


async def test_an_unreadable_answer_is_not_busy(probe: Probe, slots: Question) -> None:
    async with Upstream(answering(OK)) as upstream:
        assert not await probe.busy(at(upstream.port), slots)


async def test_each_probe_has_a_connection_of_its_own(probe: Probe) -> None:
    async with Upstream(answering(OK)) as upstream:
        for number in (1, 2):
            assert (await probe.health(at(upstream.port), "/health")).status == 200
            await (await upstream.accepted(number)).gone()


@pytest.mark.parametrize(
    ("base", "path", "target"),
    [("", "/health", "/health"), ("/llm", "/health", "/llm/health"), ("/llm/v1", "/v1/models", "/llm/v1/models")],
)
async def test_the_base_path_goes_first_and_v1_is_not_doubled(probe: Probe, base: str, path: str, target: str) -> None:
    async with Upstream(answering(OK)) as upstream:
        await probe.health(at(upstream.port, base), path)
        peer = await upstream.accepted(1)
    assert peer.received.startswith(f"GET {target} HTTP/1.1\r\n".encode())


async def test_the_services_own_headers_are_sent(probe: Probe) -> None:
    async with Upstream(answering(OK)) as upstream:
        await probe.health(at(upstream.port), "/health", {"authorization": "Bearer k"})
        peer = await upstream.accepted(1)
    assert b"\r\nauthorization: Bearer k\r\n" in peer.received.lower().replace(b"bearer", b"Bearer")


async def test_a_cancelled_probe_is_cancelled(probe: Probe) -> None:
    async with Upstream(Peer.wait_eof) as upstream:
        asking = asyncio.create_task(probe.health(at(upstream.port), "/"))
        peer = await upstream.accepted(1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await peer.gone()
