"""`ai-proxy lease`: a program that holds room for as long as it lives."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.shell import Said, run_apart, running
from tests.e2e.harness import Proxy, process, until

pytestmark = pytest.mark.slow

GPU = {"id": "0", "uuid": "GPU-a", "vram_mb": 10_000, "name": "RTX 4090"}
SETTINGS = {"devices": [GPU], "services": {"small": process(), "gpu": process(resources={"gpus": 1})}}
ENVIRON = "import json, os; print(json.dumps(dict(os.environ)))"
UNTIL_TOLD = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("runs", flush=True)
signal.pause()
"""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path_factory.mktemp("proxy"), SETTINGS).start()
    yield proxy
    proxy.close()


def lease(proxy: Proxy, *words: str) -> Said:
    """Run a program under a lease to its end."""
    return run_apart(proxy.folder, "lease", *words, AI_PROXY_URL=proxy.url)


def held(proxy: Proxy) -> list[dict[str, object]]:
    found: list[dict[str, object]] = proxy.get("/api/v1/leases")
    return found


def test_the_program_sees_its_gpu_and_its_output_and_status_are_the_commands(proxy: Proxy) -> None:
    said = lease(proxy, "--vram-mb", "8000", "--", sys.executable, "-c", f"{ENVIRON}; raise SystemExit(3)")

    assert (said.status, said.err) == (3, "ai-proxy lease: holds 8,000 MB on GPU 0\n")
    seen = json.loads(said.out)
    assert seen["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    assert seen["AI_PROXY_LEASE"].startswith("python")
    assert held(proxy) == []


def test_while_the_program_runs_its_room_is_held_and_its_processes_are_known(proxy: Proxy) -> None:
    words = ("lease", "--vram-mb", "8000", "--name", "game", "--", sys.executable, "-c", UNTIL_TOLD)
    with running(proxy.folder, *words, AI_PROXY_URL=proxy.url) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "runs\n"
        until(lambda: held(proxy)[0]["pids"])
        (found,) = held(proxy)
        assert str(found["id"]).startswith("game-")

        command.send_signal(signal.SIGTERM)

        assert command.wait(20) == 7
    assert held(proxy) == []


def test_a_program_that_a_signal_ends_is_told_as_shells_do(proxy: Proxy) -> None:
    said = lease(proxy, "--", sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    assert said.status == 128 + signal.SIGKILL
    assert held(proxy) == []


def test_idle_services_make_room(proxy: Proxy) -> None:
    proxy.post("/api/v1/service/gpu/start?wait=true")

    assert lease(proxy, "--", "true").status == 0
    assert proxy.state("gpu") == "stopped"


def test_no_room_is_one_line_that_names_who_holds_it_and_the_program_does_not_run(proxy: Proxy) -> None:
    words = ("lease", "--", sys.executable, "-c", UNTIL_TOLD)
    with running(proxy.folder, *words, AI_PROXY_URL=proxy.url) as command:
        assert command.stdout is not None
        command.stdout.readline()

        said = lease(proxy, "--vram-mb", "1", "--wait", "0.2", "--", "echo", "ran")
        command.terminate()
        command.wait(20)

    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    assert "lease:python" in said.err


def test_a_program_that_is_not_there_takes_no_lease(proxy: Proxy) -> None:
    said = lease(proxy, "--", "no-such-program")

    assert (said.status, said.err) == (127, "there is no program 'no-such-program'\n")


def test_a_lease_is_taken_anew_when_the_proxy_is_another_one(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path, SETTINGS).start()
    words = ("lease", "--ttl", "5", "--", sys.executable, "-c", UNTIL_TOLD)
    with running(proxy.folder, *words, AI_PROXY_URL=proxy.url) as command:
        assert command.stdout is not None
        command.stdout.readline()
        former = held(proxy)
        proxy.kill()
        proxy.start(proxy.port)

        until(lambda: held(proxy))
        assert [lease["id"] for lease in held(proxy)] != [lease["id"] for lease in former]
        command.terminate()
        assert command.wait(20) == 7
    proxy.close()
