"""The gate before Docker's socket in the docs lets through what the runtime asks for, and nothing else."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, socket

import pytest

from ai_proxy.errors import ProxyError
from ai_proxy.runtimes.docker.runtime import DockerRuntime
from tests.conftest import missing
from tests.e2e.harness import until
from tests.fixtures.docker import GUARD_S, MakeRuntime, answer_of, ignore, tiny_spec
from tests.fixtures.dockerd import DockerHost

pytestmark = [pytest.mark.docker, pytest.mark.slow]

CONF = Path(__file__).parents[3] / "docs" / "docker" / "socket-proxy.conf"
KEPT_OUT = """
    POST /containers/x/exec
    POST /exec/x/start
    POST /containers/x/attach
    POST /containers/x/update
    POST /containers/x/kill
    POST /containers/prune
    GET /containers/x/archive?path=/
    PUT /containers/x/archive?path=/
    GET /containers/x/export
    POST /commit?container=x
    POST /build
    POST /images/create?fromSrc=-
    POST /images/load
    DELETE /images/x
    POST /volumes/create
    DELETE /volumes/x
    GET /secrets
    POST /swarm/init
    POST /plugins/pull
    POST /session
    GET /v1.41/containers/x/exec
    POST /containers/x/start/../exec
    POST /containers/x%2Fexec
    POST //containers/x/exec
    POST /containers/x/start%3F/../../exec
    DELETE /containers/x/y
    GET /images/x/../../secrets
"""


@pytest.fixture(scope="module")
def gate(docker_engine: DockerHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """nginx with the config of the docs, on sockets of the tests' own."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        missing("nginx is not installed")
    folder = tmp_path_factory.mktemp("gate")
    gate = folder / "gate.sock"
    text = CONF.read_text("utf-8").replace("unix:/gate/docker.sock", f"unix:{gate}")
    text = text.replace("unix:/var/run/docker.sock", docker_engine.host.replace("unix://", "unix:"))
    temporary = "".join(f"{it}_temp_path {folder}/{it};" for it in ("proxy", "fastcgi", "uwsgi", "scgi"))
    text = text.replace("http {", f"http {{ client_body_temp_path {folder}/body; {temporary}")
    (folder / "nginx.conf").write_text(text, "utf-8")
    globals_ = f"daemon off; master_process off; pid {folder}/pid; error_log stderr;"
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", globals_]
    with (folder / "log").open("wb") as log:
        nginx = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until(lambda: gate.exists() or nginx.poll() is not None, (folder / "log").read_text)
        yield gate
    finally:
        nginx.send_signal(signal.SIGTERM)
        nginx.wait(GUARD_S)


@pytest.fixture
def runtime(gate: Path, docker_engine: DockerHost, make_docker_runtime: MakeRuntime) -> DockerRuntime:
    return make_docker_runtime(docker_engine, docker_host=f"unix://{gate}")


async def test_a_container_lives_and_ends_through_the_gate(runtime: DockerRuntime) -> None:
    instance = await runtime.start(tiny_spec(), ignore)

    assert await answer_of(instance) == "ok"
    assert [it.id for it in await runtime.adopt()] == [instance.id]
    assert await runtime.pids(instance)
    lines = [line async for line in runtime.logs(instance, follow=False)]
    await runtime.stop(instance, 2)
    assert (await runtime.wait(instance)).code == 0
    assert all("403" not in line for line in lines)


async def test_a_pull_is_the_engines_to_answer(runtime: DockerRuntime) -> None:
    with pytest.raises(ProxyError) as raised:
        await runtime.start(tiny_spec(image="127.0.0.1:1/none:none", pull_policy="always"), ignore)

    assert "403" not in str(raised.value)


@pytest.mark.parametrize("line", [it.strip() for it in KEPT_OUT.strip().splitlines()])
def test_all_else_is_kept_out(gate: Path, line: str) -> None:
    method, path = line.split()
    connection = HTTPConnection("docker")
    connection.sock = socket(AF_UNIX)
    connection.sock.connect(str(gate))
    connection.request(method, path)

    assert connection.getresponse().status == 403
    connection.close()
