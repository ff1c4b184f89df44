"""Services that can't be started: who asked is told why, with the engine's last words, and told when to come back."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import asking, chat, error_of
from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, Settings, process, until
from tests.fakes import engine

pytestmark = pytest.mark.slow

FAILURES = 6  # after so many in a row it rests for a quarter of a minute at least
NEVER_READY = ("--ready-after", "3600")
SOON = {"start_timeout_s": 1.5}
NOT_SO_SOON = {"start_timeout_s": 4}  # it has something to say before


@pytest.fixture(scope="module")
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


CASES: dict[str, tuple[Settings, tuple[str, ...]]] = {
    "exits": (
        process("--exit-after", "0", "--exit-code", "3", "--say", "no such model: x.gguf"),
        ("exited with code 3", "no such model: x.gguf"),
    ),
    "killed": ({"command": "sh -c 'kill -9 $$$$'", "port": 9}, ("killed by signal 9",)),
    "no-command": ({"command": "/no/such/program --port {port}"}, ("/no/such/program",)),
    "no-directory": (process(working_dir="/no/such/directory"), ("/no/such/directory", "working_dir")),
    "never-ready": (
        process(*NEVER_READY, health=NOT_SO_SOON),
        ("health.start_timeout_s", "Loading model", '"GET /health HTTP/1.1" 503'),
    ),
    "silent": (process("--hang", health=SOON), ("health.start_timeout_s", "/health")),
}


@pytest.fixture(scope="module")
def proxy(serve_module: Serve, taken_port: int) -> Proxy:
    services = {name: settings for name, (settings, _) in CASES.items()}
    services["port-taken"] = {"command": list(engine.argv("--port", str(taken_port))), "port": taken_port}
    return serve_module({"services": services})


@pytest.mark.parametrize("service", [*CASES, "port-taken"])
async def test_l05_says_why_to_whoever_asks_and_to_the_next_at_once(
    service: str, proxy: Proxy, taken_port: int
) -> None:
    words = CASES[service][1] if service in CASES else (f"port {taken_port} is in use",)
    failures = f'ai_proxy_start_failures_total{{service="{service}"}}'
    async with asking(proxy) as client:
        first = await chat(client, service)
        error = error_of(first)
        assert (first.status_code, error["code"], error["service"]) == (503, "start_failed", service)
        said = error["message"] + "\n".join(error.get("log_tail", ()))
        assert [word for word in words if word not in said] == [], said
        assert int(first.headers["retry-after"]) >= 1
        # On a slow machine its rest may be over before the next request comes; each rest is longer than the last.
        for _ in range(5):
            proxy.await_state(service, "failed")
            before = proxy.metric(failures)
            second = await chat(client, service)
            if proxy.metric(failures) == before:
                break
    assert error_of(second)["message"] == error["message"]
    assert proxy.metric(failures) == before
    shown = proxy.service(service)["failure"]
    assert shown["message"] == error["message"]
    assert shown["log_tail"] == error.get("log_tail", [])


async def test_nothing_is_left_of_what_failed(proxy: Proxy) -> None:
    async with asking(proxy) as client:
        await asyncio.gather(*(chat(client, service) for service in CASES))
    until(lambda: not proxy.processes(), proxy.processes)


async def test_l05_an_operator_has_it_tried_again_at_once(serve: Serve, tmp_path: Path) -> None:
    repaired = tmp_path / "repaired"
    command = ["sh", "-c", f'test -e {repaired} && exec "$@"', "sh", *engine.argv("--port", "{port}")]
    proxy = serve({"services": {"chat": {"type": "llama-cpp-server", "command": command}}})
    async with asking(proxy) as client:
        for _ in range(FAILURES):
            refused = await client.post("/api/v1/service/chat/start", params={"wait": True})
            assert refused.json()["code"] == "start_failed"
        repaired.touch()
        assert error_of(await chat(client, "chat"))["code"] == "start_failed"
        assert proxy.post("/api/v1/service/chat/start?wait=true")["state"] == "ready"
        assert (await chat(client, "chat")).status_code == 200


async def test_l12_all_who_wait_hear_of_the_one_failed_start(serve: Serve, tmp_path: Path) -> None:
    starts, go = tmp_path / "starts", tmp_path / "go"
    command = ["sh", "-c", f"echo x >> {starts}; until test -e {go}; do sleep 0.02; done; exit 4"]
    proxy = serve({"services": {"chat": {"command": command, "port": 9}}})
    async with asking(proxy) as client:
        asked = asyncio.gather(*(chat(client, "chat") for _ in range(20)))
        await asyncio.to_thread(until, lambda: proxy.service("chat")["waiting"] == 20)
        go.touch()
        answers = await asked
    assert {error_of(answer)["message"] for answer in answers} == {"chat exited with code 4 while it was loading"}
    assert len({error_of(answer)["request_id"] for answer in answers}) == 20
    assert starts.read_text() == "x\n"
