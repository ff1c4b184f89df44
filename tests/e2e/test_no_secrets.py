"""Secrets stand in every place that a config has for them, and come out nowhere: no answer, no error, no log line."""

import hashlib
import json
import socket
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from tests.cli.shell import run
from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, process, until

pytestmark = pytest.mark.slow

OPS, DATA, STRANGER = (f"sk-aip-s3cret-{name}-{'x' * 20}" for name in ("ops", "data", "stranger"))
HASHES = [hashlib.sha256(key.encode()).hexdigest() for key in (OPS, DATA)]
SECRET = "s3cret"  # in every one of them


def with_secrets(*command: str, **keys: Any) -> dict[str, Any]:
    """A service that is told secrets in every way; its program looks at none of them."""
    program = process(**keys)
    words = [*command, "--api-key", f"{SECRET}-flag", f"--hf-token={SECRET}-word", "sk-s3cret-by-its-looks", "{token}"]
    return {
        **program,
        "command": words,
        "vars": {"token": f"hf_{SECRET}var"},
        "environment": {"HF_TOKEN": f"{SECRET}-environment", "PLAIN": f"{SECRET}-plain"},
        "env_file": "secret.env",
        "headers": {"authorization": f"Bearer {SECRET}-header", "x-upstream": f"{SECRET}-field"},
    }


@pytest.fixture
def proxy(serve: Serve, tmp_path: Path) -> Proxy:
    """A proxy that knows secrets and logs all that it can."""
    (env_file := tmp_path / "secret.env").write_text(f"FROM_FILE={SECRET}-file\n")
    good = ["sh", "-c", f"exec {' '.join(process()['command'])}".replace("{port}", "$0"), "{port}"]
    services = {
        "good": with_secrets(*good),
        "bad": with_secrets("sh", "-c", "exit 3"),
        "boxed": {**with_secrets("serve"), "image": f"registry.example/x:{SECRET[:2]}", "pull_policy": "never"},
        "away": {"url": "${AWAY}", "headers": {"authorization": "Bearer ${UPSTREAM_KEY}"}},
    }
    for service in services.values():
        if "env_file" in service:
            service["env_file"] = str(env_file)
    keys = [
        {"name": "ops", "hash": HASHES[0], "management": True},
        {"name": "data", "hash": f"sha256:{HASHES[1]}"},
    ]
    environ = {
        "AWAY": "http://127.0.0.1:1",
        "UPSTREAM_KEY": f"{SECRET}-upstream",
        "DOCKER_HOST": f"unix://{tmp_path}/none.sock",
    }
    return serve({"log": {"level": "TRACE"}, "keys": keys, "services": services}, environ=environ)


def ask(proxy: Proxy, path: str, key: str, method: str = "GET", body: object = None) -> str:
    """Head and body of an answer, whatever its status."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(proxy.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return f"{answer.status} {answer.headers}\n{answer.read().decode()}"
    except HTTPError as error:
        return f"{error.code} {error.headers}\n{error.read().decode()}"


def all_answers(proxy: Proxy) -> Iterator[str]:
    """What the API says of everything, after each service was asked for something."""
    for service in ("good", "bad", "boxed", "away"):
        yield ask(proxy, f"/{service}/v1/models", DATA)
        yield ask(proxy, "/v1/chat/completions", DATA, "POST", {"model": service, "messages": []})
        yield ask(proxy, f"/api/v1/service/{service}/logs", OPS)
        yield ask(proxy, f"/api/v1/service/{service}", OPS)
        yield ask(proxy, "/api/v1/plan", OPS, "POST", {"start": service})
    for path in ("services", "resources", "requests", "leases", "ready", "config", "openapi.json"):
        yield ask(proxy, f"/api/v1/{path}", OPS)
    for path in ("/metrics", "/running", "/health", "/v1/models"):
        yield ask(proxy, path, OPS)
        yield ask(proxy, f"{path}?api_key={OPS}", STRANGER)
    yield ask(proxy, "/api/v1/config/reload", OPS, "POST")


def test_a_secret_comes_out_nowhere(proxy: Proxy) -> None:
    basic = b64encode(f"me:{OPS}".encode()).decode()
    with closing(socket.create_connection(("127.0.0.1", proxy.port), timeout=20)) as events:
        events.sendall(f"GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}\r\n\r\n".encode())
        assert b" 200 " in events.recv(65536)

        said = list(all_answers(proxy))
        proxy.configure({"keys": [{"name": "ops", "hash": OPS}], "services": {"away": {"url": f"http://u:{SECRET}@h"}}})
        until(lambda: "Config refused" in proxy.log, lambda: proxy.log)
        events.settimeout(0)
        said.append(events.recv(1 << 20).decode())
    said.append(run(proxy.folder, "ps", "--json", AI_PROXY_URL=proxy.url, AI_PROXY_KEY=OPS).out)
    said.append(run(proxy.folder, "check", str(proxy.config)).err)
    said += proxy.log.splitlines()

    assert any(answer.startswith("200") and '"good"' in answer for answer in said)
    leaks = [text for text in said for secret in (SECRET, *HASHES) if secret in text]
    assert not leaks, "\n".join(leaks)
