"""`kill -9` of the proxy while something starts: the next one takes over what is left or ends it, and serves.

How far the start had come is fixed by what holds it up: the order to the Docker engine that is not carried out, the one
whose answer never comes, a server that does not listen yet.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.clients import asking
from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, process, until
from tests.e2e.test_containers import containers, shell, tiny
from tests.fakes.docker_relay import Spoil, docker_relay
from tests.fixtures.dockerd import DockerHost

pytestmark = pytest.mark.slow

LOADING = "trap 'exit 0' TERM; until [ -e /tmp/go ]; do sleep 0.05; done; httpd -f -p 8080 -h /www & wait"


@asynccontextmanager
async def killed_while(proxy: Proxy, path: str, has_come_so_far: Callable[[], object]) -> AsyncIterator[None]:
    """Ask for a start, and kill the proxy once it has come so far."""
    async with asking(proxy) as client:
        asked = asyncio.create_task(client.get(path))
        await asyncio.to_thread(until, has_come_so_far, lambda: proxy.log[-3000:])
        await asyncio.to_thread(proxy.kill)
        await asyncio.gather(asked, return_exceptions=True)
    yield
    await asyncio.to_thread(proxy.close)


async def answer(proxy: Proxy, path: str) -> str:
    """What the next proxy answers."""
    async with asking(proxy) as client:
        return (await client.get(path)).text


@pytest.mark.docker
@pytest.mark.parametrize(
    ("spoil", "status", "is_adopted"),
    [
        pytest.param(Spoil.HANG, "created", False, id="before its start is carried out"),
        pytest.param(Spoil.MUTE, "running", True, id="before its start is confirmed"),
    ],
)
async def test_l10_killed_while_a_container_starts_the_next_proxy_serves_with_one(
    spoil: Spoil, status: str, is_adopted: bool, serve_docker: Serve, docker_engine: DockerHost, tmp_path: Path
) -> None:
    async with docker_relay(Path(docker_engine.host.removeprefix("unix://")), tmp_path / "relay.sock") as relay:
        proxy = await asyncio.to_thread(serve_docker, {"services": {"tiny": tiny()}}, docker_host=relay.host)
        relay.spoil(r"POST .*/containers/\w+/start", spoil)
        label = f"ai-proxy.name={proxy.name}"
        async with killed_while(proxy, "/tiny/health", lambda: docker_engine.labelled(label, status)):
            (left,) = containers(docker_engine, proxy)
            relay.heal()
            await asyncio.to_thread(proxy.start)
            assert await answer(proxy, "/tiny/health") == "ok"
            serving = (await asyncio.to_thread(proxy.service, "tiny"))["instance"]
            there = partial(containers, docker_engine, proxy)
            await asyncio.to_thread(until, lambda: there() == [serving], there)
            assert (serving == left) == is_adopted


@pytest.mark.docker
async def test_l10_killed_while_a_container_loads_the_next_proxy_waits_for_the_same_one(
    serve_docker: Serve, docker_engine: DockerHost
) -> None:
    proxy = serve_docker({"services": {"tiny": shell(LOADING)}})
    async with killed_while(proxy, "/tiny/health", lambda: proxy.state("tiny") == "loading"):
        (left,) = containers(docker_engine, proxy)
        proxy.start()
        asked = asyncio.create_task(answer(proxy, "/tiny/health"))
        await asyncio.to_thread(proxy.await_state, "tiny", "loading")
        docker_engine.docker("exec", left, "touch", "/tmp/go")
        assert await asked == "ok"
        assert proxy.service("tiny")["instance"] == left
        assert containers(docker_engine, proxy) == [left]


@pytest.mark.parametrize("moment", ["its record is written", "it loads"])
async def test_l10_killed_while_a_process_starts_the_next_proxy_serves_with_one(
    moment: str, serve: Serve, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    proxy = serve({"services": {"local": process("--ready-file", str(ready))}})
    records = proxy.folder / "state/processes"
    come_so_far = {
        "its record is written": lambda: list(records.glob("*.json")),
        "it loads": lambda: proxy.state("local") == "loading",
    }
    async with killed_while(proxy, "/local/health", come_so_far[moment]):
        (left,) = records.glob("*.json")
        ready.touch()
        proxy.start()
        assert "ok" in await answer(proxy, "/local/health")
        assert left not in records.glob("*.json")
        until(lambda: len(proxy.processes()) == 2, lambda: f"a guard and an engine: {proxy.processes()}")
