"""Management on a listener of its own, on a machine that others reach: who gets in where, with which key."""

import hashlib
import json
import urllib.request
from base64 import b64encode
from pathlib import Path
from socket import AF_INET
from urllib.error import HTTPError

import psutil
import pytest

from tests.cli.shell import run
from tests.conftest import missing
from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, process, until

pytestmark = pytest.mark.slow

OPS = "sk-aip-ops-4711"
HASH = hashlib.sha256(OPS.encode()).hexdigest()
KEYS = [{"name": "ops", "hash": HASH, "management": True}]


def own_address() -> str:
    """An address of this machine at which a peer does not look local."""
    all_of_them = (it.address for cards in psutil.net_if_addrs().values() for it in cards if it.family is AF_INET)
    far = next((it for it in all_of_them if not it.startswith("127.")), None)
    return far or missing("this machine has no address but loopback")


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Status and body of an answer."""
    request = urllib.request.Request(url, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def management_of(proxy: Proxy) -> int:
    """The port that management was given."""
    line = next(line for line in proxy.log.splitlines() if "Management listens on http://" in line)
    return int(line.rsplit(":", 1)[1])


def test_each_listener_has_its_own_plane_and_both_tell_that_they_live(serve: Serve) -> None:
    proxy = serve({"server": {"host": "0.0.0.0"}, "management": {"port": 0}, "services": {"small": process()}})
    apart = f"http://127.0.0.1:{management_of(proxy)}"

    assert [ask(f"{url}/health")[0] for url in (proxy.url, apart)] == [200, 200]
    assert ask(f"{apart}/api/v1/ready")[0] == ask(f"{apart}/metrics")[0] == 200
    for path in ("/api/v1/services", "/ui", "/metrics", "/running", "/api/v1/docs"):
        status, said = ask(proxy.url + path)
        assert (status, json.loads(said)["code"]) == (404, "path_not_found")
        assert "management has a listener of its own" in said
    assert ask(f"{proxy.url}/v1/models")[0] == 200
    for path in ("/v1/models", "/small/health", "/"):
        status, said = ask(apart + path)
        assert status == 404
        assert "this listener serves management alone" in json.loads(said)["error"]["message"]
    until(lambda: "Whoever reaches http://0.0.0.0:" in proxy.log, lambda: proxy.log)

    settings = {"server": {"host": "0.0.0.0"}, "management": {"port": 9}, "services": {"small": process()}}
    proxy.configure(settings)
    until(lambda: "(at the next start: management.port)" in proxy.log, lambda: proxy.log)


def test_from_elsewhere_only_a_management_key_manages(serve: Serve, tmp_path: Path) -> None:
    host = own_address()
    settings = {"server": {"host": "0.0.0.0"}, "services": {"small": process()}}
    proxy = serve(settings)
    far = f"http://{host}:{proxy.port}"

    status, said = ask(f"{far}/api/v1/services")
    assert (status, json.loads(said)["code"]) == (403, "not_local")
    assert "`ai-proxy key create ops --management`" in said
    assert run(tmp_path, "ps", AI_PROXY_URL=far).err == json.loads(said)["detail"] + "\n"
    assert ask(f"{proxy.url}/api/v1/services", X_Forwarded_For="203.0.113.9")[0] == 403
    assert ask(f"{far}/health")[0] == ask(f"{far}/v1/models")[0] == ask(f"{proxy.url}/api/v1/services")[0] == 200

    proxy.configure({**settings, "keys": KEYS})
    until(lambda: ask(f"{proxy.url}/api/v1/services")[0] == 401, lambda: proxy.log)

    basic = b64encode(f"me:{OPS}".encode()).decode()
    assert ask(f"{far}/api/v1/services", authorization=f"Basic {basic}")[0] == 200
    assert ask(f"{far}/metrics", authorization=f"Bearer {OPS}")[0] == 200
    assert run(tmp_path, "stop", "small", AI_PROXY_URL=far, AI_PROXY_KEY=OPS).out == "small is stopped\n"
    unnamed = run(tmp_path, "ps", AI_PROXY_URL=far)
    assert unnamed.err == f"the proxy at {far} asks for a management key: set AI_PROXY_KEY to one\n"
    refused = run(tmp_path, "ps", AI_PROXY_URL=far, AI_PROXY_KEY="sk-aip-wrong")
    assert refused.err == f"the key in AI_PROXY_KEY does not open management at {far}\n"
    told = f"POST /api/v1/service/small/stop → 200, by key ops ({HASH[:8]}) from {host}"
    until(lambda: told in proxy.log, lambda: proxy.log)
    assert OPS not in proxy.log
