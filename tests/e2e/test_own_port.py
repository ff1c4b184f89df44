"""Services with a port of their own: every path there is the service's, and the config opens and closes it live."""

import hashlib
import json
import urllib.request
from urllib.error import HTTPError, URLError

import pytest
from websockets.asyncio.client import connect

from ai_proxy.runtimes.process.ports import free_port
from tests.e2e.conftest import Serve
from tests.e2e.harness import GUARD_S, Proxy, Settings, process, until
from tests.fakes import socket_engine

pytestmark = pytest.mark.slow

KEY = "sk-aip-own-port"
KEYS = [{"name": "web", "hash": hashlib.sha256(KEY.encode()).hexdigest(), "models": ["web"]}]


def web(**keys: object) -> Settings:
    command = [*socket_engine.argv("--port", "{port}")]
    return {"command": command, "health": {"path": "/health"}, "resources": {"gpus": 0}, **keys}


def ask(port: int, path: str, **headers: str) -> tuple[int, str, str | None]:
    """Status and body of an answer, and the service that gave it."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=fields)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode(), answer.headers["x-ai-proxy-service"]
    except HTTPError as error:
        return error.code, error.read().decode(), error.headers["x-ai-proxy-service"]


def refuses(port: int) -> bool:
    try:
        ask(port, "/")
    except URLError as error:
        return isinstance(error.reason, ConnectionRefusedError)
    except OSError:
        return False  # it was connected, and lost when the listener closed
    return False


def port_of(proxy: Proxy, service: str) -> int:
    """The port that a service was given, once it has one."""
    words = f"{service} listens on http://127.0.0.1:"
    until(lambda: words in proxy.log, lambda: proxy.log)
    return int(proxy.log.split(words)[1].split()[0])


async def test_every_path_is_the_services_and_the_config_opens_and_closes_it_live(serve: Serve) -> None:
    small = process(listen="127.0.0.1:0")
    settings = {"services": {"small": small, "web": web()}}
    proxy = serve(settings)
    port = port_of(proxy, "small")

    status, said, by = ask(port, "/fake/echo/a%2Fb?q=1", x_ai_proxy_service="web")
    assert (status, by, json.loads(said)["target"]) == (200, "small", "/fake/echo/a%2Fb?q=1")
    for path in ("/", "/web/health", "/services/web/", "/v1/models", "/health", "/metrics", "/api/v1/services", "/ui"):
        assert ask(port, path)[2] == "small", path

    taken = free_port(())
    proxy.configure({"keys": KEYS, "services": {"small": process(), "web": web(listen=f"127.0.0.1:{taken}")}})
    until(lambda: refuses(port), lambda: proxy.log)
    until(lambda: not refuses(taken), lambda: proxy.log)
    assert ask(taken, "/anything")[0] == 401
    there, key = f"ws://127.0.0.1:{taken}/any/path", {"x-api-key": KEY}
    async with connect(there, proxy=None, additional_headers=key, open_timeout=GUARD_S) as talk:
        await talk.send("hello")
        assert await talk.recv() == "hello"


def test_an_address_that_is_taken_costs_the_service_its_port_only(serve: Serve) -> None:
    first = serve({"services": {"small": process(listen="127.0.0.1:0")}})
    port = port_of(first, "small")
    second = serve({"services": {"small": process(listen=f"127.0.0.1:{port}")}})
    words = f"small has no port of its own: can't listen on 127.0.0.1:{port}: Address already in use"
    until(lambda: words in second.log, lambda: second.log)
    assert ask(second.port, "/small/health")[0] == 200
