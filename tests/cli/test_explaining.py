"""`ai-proxy plan` and `ai-proxy explain`: what would happen, and why it did."""

import json
import urllib.request
from collections.abc import Iterator

import pytest

from tests.cli.shell import Said, run
from tests.e2e.harness import GUARD_S, Proxy, process

pytestmark = pytest.mark.slow

NEEDS = {"gpus": 1, "vram_required_mb": 8000}
SETTINGS = {
    "devices": [{"id": "0", "uuid": "GPU-a", "vram_mb": 10_000}],
    "scheduling": {"min_residency_s": 0},
    "services": {"old": process(resources=NEEDS), "new": process(resources=NEEDS)},
}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path_factory.mktemp("proxy"), SETTINGS).start()
    yield proxy
    proxy.close()


def ask(proxy: Proxy, *words: str) -> Said:
    return run(proxy.folder, *words, AI_PROXY_URL=proxy.url)


def test_what_would_happen_is_told_and_then_why_it_did(proxy: Proxy) -> None:
    assert ask(proxy, "plan", "old").out.startswith("old would start: ")
    proxy.post("/api/v1/service/old/start?wait=true")
    assert ask(proxy, "plan", "old").out == "old need not start: it is ready\n"
    assert ask(proxy, "plan", "new").out.startswith("new would start once old has stopped (regret ")
    would = json.loads(ask(proxy, "plan", "new", "--json").out)
    assert (would["verdict"], would["victims"]) == ("evict", [{"holder": "old", "level": 0}])
    assert proxy.state("old") == "ready"

    request = urllib.request.Request(f"{proxy.url}/services/new/health", headers={"x-request-id": "r-1"})
    urllib.request.urlopen(request, timeout=GUARD_S).close()

    said = ask(proxy, "explain", "r-1").out
    first, *steps = said.splitlines()
    assert first.startswith("r-1 was for new: admitted after ")
    assert "new: arrived: came; new was stopped" in steps[0]
    assert any("old: eviction: ready → stopping" in step for step in steps)
    assert "new: state: loading → ready" in steps[-2]
    assert "new: answered: admitted after" in steps[-1]


def test_a_request_that_nobody_knows_can_not_be_explained(proxy: Proxy) -> None:
    said = ask(proxy, "explain", "nobody")

    assert (said.status, said.err) == (1, "no request 'nobody' is in the house or remembered\n")
