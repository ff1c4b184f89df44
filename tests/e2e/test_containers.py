"""Containers behind the proxy: adopted after a crash, created ahead, and every way in which one can't be started."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import asking, error_of
from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, Settings, process, until
from tests.fixtures.dockerd import DockerHost
from tests.fixtures.images import TINY

pytestmark = [pytest.mark.slow, pytest.mark.docker]


def tiny(**keys: Any) -> Settings:
    """A service: a container of the tiny HTTP server."""
    usual = {"image": TINY, "port": 8080, "pull_policy": "never", "stop_grace_period": 2, "resources": {"gpus": 0}}
    return {**usual, "health": {"path": "/health"}, **keys}


def shell(script: str, **keys: Any) -> Settings:
    """A service: a container that runs this script."""
    return tiny(command=["sh", "-c", script], **keys)


def containers(engine: DockerHost, proxy: Proxy) -> list[str]:
    return engine.labelled(f"ai-proxy.name={proxy.name}")


async def test_l10_killed_and_started_again_the_proxy_serves_on_with_the_same_container(
    serve_docker: Serve, docker_engine: DockerHost
) -> None:
    proxy = serve_docker({"services": {"tiny": tiny(), "local": process()}})
    async with asking(proxy) as client:
        assert (await client.get("/tiny/health")).text == "ok"
        assert (await client.get("/local/health")).status_code == 200
    (container,) = containers(docker_engine, proxy)
    before = docker_engine.inspect(container)["State"]

    proxy.kill()
    until(lambda: not proxy.processes(), "processes end with their proxy")
    proxy.start()

    async with asking(proxy) as client:
        assert (await client.get("/tiny/health")).text == "ok"
    assert containers(docker_engine, proxy) == [container]
    after = docker_engine.inspect(container)["State"]
    assert (after["StartedAt"], after["Pid"]) == (before["StartedAt"], before["Pid"])
    assert proxy.service("tiny")["instance"] == container
    assert proxy.metric('ai_proxy_cold_start_seconds_count{service="tiny"}') == 0


async def test_what_was_configured_anew_meanwhile_is_replaced(serve_docker: Serve, docker_engine: DockerHost) -> None:
    proxy = serve_docker({"services": {"tiny": tiny(), "goes": tiny()}})
    async with asking(proxy) as client:
        for name in ("tiny", "goes"):
            assert (await client.get(f"/{name}/health")).text == "ok"
    before = containers(docker_engine, proxy)
    proxy.kill()
    proxy.configure({"services": {"tiny": tiny(environment={"NEW": "1"})}})
    proxy.start()
    async with asking(proxy) as client:
        assert (await client.get("/tiny/health")).text == "ok"
    until(lambda: len(containers(docker_engine, proxy)) == 1)
    assert containers(docker_engine, proxy)[0] not in before


async def test_kept_on_exit_it_is_there_for_the_next_proxy(serve_docker: Serve, docker_engine: DockerHost) -> None:
    settings = {"server": {"on_exit": "keep"}, "services": {"tiny": tiny()}}
    proxy = serve_docker(settings)
    async with asking(proxy) as client:
        assert (await client.get("/tiny/health")).text == "ok"
    (container,) = containers(docker_engine, proxy)
    proxy.close()
    assert docker_engine.inspect(container)["State"]["Running"]
    proxy.configure({**settings, "server": {"on_exit": "stop"}})
    proxy.start()
    async with asking(proxy) as client:
        assert (await client.get("/tiny/health")).text == "ok"
    assert containers(docker_engine, proxy) == [container]


async def test_l10_a_second_proxy_of_the_same_name_does_not_start(serve_docker: Serve) -> None:
    proxy = serve_docker({"services": {"tiny": tiny()}})
    second = subprocess.run(
        ["ai-proxy", "serve", "--config", str(proxy.config), "--port", "0"],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 1
    assert f"process {proxy.pid}" in second.stderr
    assert "Traceback" not in second.stderr


FAILURES: dict[str, tuple[Settings, tuple[str, ...]]] = {
    "exits": (shell("echo no such model >&2; exit 3"), ("exited with code 3", "no such model")),
    "exits-later": (shell("sleep 0.3; echo gave up >&2; exit 4"), ("exited with code 4", "gave up")),
    "out-of-memory": (shell("sleep 0.3; exec tail /dev/zero", mem_limit="16m"), ("out of memory",)),
    "no-image": (tiny(image="ai-proxy-test/none:1"), ("ai-proxy-test/none:1", "pull_policy")),
    "no-registry": (tiny(image="127.0.0.1:1/none:1", pull_policy="missing"), ("127.0.0.1:1/none:1",)),
    "no-mount": (tiny(volumes=["/no/such/folder:/models:ro"]), ("volumes", "/no/such/folder")),
    "no-program": (tiny(command=["/no/such/program"]), ("/no/such/program",)),
    "no-network": (tiny(networks=["no-such-network"]), ("networks", "no-such-network")),
    "never-ready": (
        tiny(health={"path": "/nothing", "start_timeout_s": 4}),
        ("health.start_timeout_s", "/nothing answered 404"),
    ),
    "never-listens": (
        shell("echo loading; sleep 60", health={"path": "/health", "start_timeout_s": 4}),
        ("health.start_timeout_s", "loading"),
    ),
}


@pytest.mark.oom
async def test_says_why_a_container_can_not_be_started_and_leaves_none(
    serve_docker: Serve, docker_engine: DockerHost
) -> None:
    proxy = serve_docker({"services": {name: settings for name, (settings, _) in FAILURES.items()}})
    wrong: dict[str, object] = {}
    async with asking(proxy) as client:
        answers = await asyncio.gather(*(client.get(f"/{name}/health") for name in FAILURES))
        for (name, (_, words)), answer in zip(FAILURES.items(), answers, strict=True):
            error = error_of(answer)
            said = error["message"] + "\n".join(error.get("log_tail", ()))
            if (answer.status_code, error["code"], error["service"]) != (503, "start_failed", name):
                wrong[name] = (answer.status_code, error)
            if lacking := [word for word in words if word not in said]:
                wrong[name] = (lacking, error)
    assert wrong == {}
    until(lambda: not containers(docker_engine, proxy))


async def test_l04_a_container_killed_at_work_is_told_and_started_again(
    serve_docker: Serve, docker_engine: DockerHost
) -> None:
    proxy = serve_docker({"services": {"tiny": tiny()}})
    async with asking(proxy) as client:
        assert (await client.get("/tiny/health")).text == "ok"
        (container,) = containers(docker_engine, proxy)
        os.kill(docker_engine.inspect(container)["State"]["Pid"], signal.SIGKILL)
        proxy.await_state("tiny", "failed")
        # It stays failed until somebody asks; who asks may find its back-off over and be served.
        assert "killed by signal 9" in proxy.service("tiny")["failure"]["message"]
        proxy.post("/api/v1/service/tiny/start?wait=true")
        assert (await client.get("/tiny/health")).text == "ok"
    assert container not in containers(docker_engine, proxy)


async def test_while_one_ends_the_container_of_the_next_is_created_and_then_only_started(
    serve_docker: Serve, docker_engine: DockerHost
) -> None:
    slow_end = "trap '' TERM; httpd -p 8080 -h /www; until [ -e /tmp/end ]; do sleep 0.05; done"
    share: Settings = {"resources": {"gpus": 0, "places": 1}, "stop_grace_period": 60}
    services = {"first": shell(slow_end, **share), "next": tiny(**share)}
    proxy = serve_docker({"capacities": {"places": 1}, "services": services})
    async with asking(proxy) as client:
        assert (await client.get("/first/health")).text == "ok"
        (first,) = containers(docker_engine, proxy)
        for leaves in (True, False):
            asked = asyncio.create_task(client.get("/next/health"))
            (ahead,) = await asyncio.to_thread(until, lambda: set(containers(docker_engine, proxy)) - {first})
            if leaves:
                asked.cancel()
                await asyncio.to_thread(until, lambda: containers(docker_engine, proxy) == [first])
        assert docker_engine.inspect(ahead)["State"]["Status"] == "created"
        assert docker_engine.inspect(first)["State"]["Status"] == "running"
        docker_engine.docker("exec", first, "touch", "/tmp/end")
        assert (await asked).text == "ok"
    assert containers(docker_engine, proxy) == [ahead]
    assert proxy.service("next")["instance"] == ahead
