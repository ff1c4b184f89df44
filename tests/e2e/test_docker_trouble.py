"""A Docker engine that is gone or hangs: what runs is served on, what does not is refused with the cause."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.clients import asking, error_of
from tests.e2e.conftest import Serve
from tests.e2e.harness import GUARD_S, until
from tests.e2e.test_containers import containers, tiny
from tests.fakes.docker_relay import DockerRelay, Spoil, docker_relay
from tests.fixtures.dockerd import DockerHost

pytestmark = [pytest.mark.slow, pytest.mark.docker]

SERVICES = {"services": {"warm": tiny(), "cold": tiny()}}


@pytest.fixture
async def relay(docker_engine: DockerHost, tmp_path: Path) -> AsyncIterator[DockerRelay]:
    async with docker_relay(Path(docker_engine.host.removeprefix("unix://")), tmp_path / "relay.sock") as relay:
        yield relay


@pytest.mark.parametrize("spoil", [Spoil.HANG, Spoil.GARBAGE, Spoil.REFUSE])
async def test_l02_warm_is_served_and_cold_refused_until_it_is_back(
    spoil: Spoil, relay: DockerRelay, serve_docker: Serve
) -> None:
    proxy = await asyncio.to_thread(serve_docker, SERVICES, docker_host=relay.host)
    async with asking(proxy) as client:
        assert (await client.get("/warm/health")).text == "ok"
        relay.spoil(".", spoil)
        relay.cut()
        assert (await client.get("/warm/health")).text == "ok"
        refused = await client.get("/cold/health")
        assert refused.status_code == 503
        assert error_of(refused)["code"] in {"runtime_unavailable", "start_failed"}
        assert "Docker" in error_of(refused)["message"]
        assert (await client.get("/warm/health")).text == "ok"
        relay.heal()
        assert (await asyncio.to_thread(proxy.post, "/api/v1/service/cold/start?wait=true"))["state"] == "ready"
        assert (await client.get("/cold/health")).text == "ok"
    await asyncio.to_thread(proxy.close)


async def test_l02_absent_at_the_start_it_is_found_once_it_is_there(
    docker_engine: DockerHost, serve_docker: Serve, tmp_path: Path
) -> None:
    socket = tmp_path / "docker.sock"
    proxy = await asyncio.to_thread(serve_docker, SERVICES, docker_host=f"unix://{socket}")
    async with asking(proxy) as client:
        refused = await client.get("/cold/health")
        assert (refused.status_code, error_of(refused)["code"]) == (503, "runtime_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        assert proxy.get("/api/v1/ready")["status"] == "degraded"
        async with docker_relay(Path(docker_engine.host.removeprefix("unix://")), socket):
            await asyncio.to_thread(until, lambda: proxy.get("/api/v1/ready")["status"] == "ready")
            assert (await client.get("/cold/health")).text == "ok"
            await asyncio.to_thread(proxy.close)


@pytest.mark.parametrize(
    ("order", "spoil"),
    [
        pytest.param(r"POST .*/containers/create", Spoil.STALL, id="create"),
        pytest.param(r"POST .*/containers/\w+/stop", Spoil.HANG, id="stop"),
    ],
)
async def test_l10_killed_in_the_middle_of_an_order_it_goes_on_with_one_container(
    order: str, spoil: Spoil, relay: DockerRelay, serve_docker: Serve, docker_engine: DockerHost
) -> None:
    proxy = await asyncio.to_thread(serve_docker, {"services": {"tiny": tiny()}}, docker_host=relay.host)
    async with asking(proxy) as client:
        if "stop" in order:
            assert (await client.get("/tiny/health")).text == "ok"
        rule = relay.spoil(order, spoil)
        ordered = client.post("/api/v1/service/tiny/stop") if "stop" in order else client.get("/tiny/health")
        asked = asyncio.create_task(ordered)
        async with asyncio.timeout(GUARD_S):
            await rule.hit.wait()
        await asyncio.to_thread(proxy.kill)
        await asyncio.gather(asked, return_exceptions=True)
    relay.heal()
    relay.cut()
    await asyncio.to_thread(proxy.start)
    async with asking(proxy) as client:
        assert (await client.get("/tiny/health")).text == "ok"
    await asyncio.to_thread(until, lambda: len(containers(docker_engine, proxy)) == 1)
    assert proxy.service("tiny")["instance"] in containers(docker_engine, proxy)
    await asyncio.to_thread(proxy.close)
