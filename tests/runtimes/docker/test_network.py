"""How a proxy that is itself in a container reaches its engines: over a network that they share."""

import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from socket import create_connection
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from ai_proxy.config.models import ServiceConfig
from ai_proxy.errors import StartFailed
from ai_proxy.runtimes.docker.containers import Containers
from ai_proxy.runtimes.docker.engine import Engine
from ai_proxy.runtimes.docker.reach import Attachment, Reach, Standpoint
from ai_proxy.runtimes.docker.state import ContainerState, read_state
from tests.conftest import missing
from tests.e2e.harness import until
from tests.fixtures.dockerd import DockerHost
from tests.fixtures.images import TINY

ROOT = Path(__file__).parents[3]
OURS, NEAR, FAR = "127.0.0.1", "127.0.0.2", "203.0.113.9"


@dataclass(slots=True)
class Listed(Containers):
    """Containers by id, each with its networks and its address on them."""

    networks: Mapping[str, dict[str, str]]
    joined: list[tuple[str, str]] = field(default_factory=list)

    async def find(self, reference: str) -> ContainerState | None:
        on = self.networks.get(reference)
        if on is None:
            return None
        settings = {"Networks": {name: {"IPAddress": address} for name, address in on.items()}}
        return read_state({"Id": reference, "State": {"Status": "running"}, "NetworkSettings": settings})

    async def join(self, container: str, network: str) -> None:
        self.joined.append((container, network))


def standpoint(own: dict[str, str], network: str | None = None) -> Standpoint:
    """Where a proxy stands whose container has these networks."""
    containers = Listed({"other": {"bridge": FAR}, "own": own})
    return Standpoint(Engine(), containers, Reach.AUTO, network, ["other", "unknown", "own"])


ATTACHED = {
    "its only network": ({"a": OURS}, None, (), ("a",)),
    "the default bridge, if there is no other": ({"bridge": OURS}, None, (), ("bridge",)),
    "its own network before the default": ({"bridge": OURS, "a": NEAR}, None, (), ("a",)),
    "the one that the config names": ({"a": OURS, "b": NEAR}, "b", (), ("b",)),
    "the service's, where the proxy is on one": ({"a": OURS, "b": NEAR}, None, ("c", "b"), ("c", "b")),
    "beside the service's, where it is on none": ({"a": OURS}, None, ("c",), ("c", "a")),
}


@pytest.mark.parametrize(("own", "network", "networks", "expected"), ATTACHED.values(), ids=ATTACHED)
async def test_containers_meet_the_proxy_s_own_on(
    own: dict[str, str], network: str | None, networks: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    config = ServiceConfig(image="x", networks=networks)
    assert await standpoint(own, network).attachment(config) == Attachment(expected, publish=False)


FAULTS: dict[str, tuple[dict[str, str], str | None, str]] = {
    "not on the one that the config names": ({"a": OURS}, "b", "not on b, only on a; connect it"),
    "on several": ({"a": OURS, "b": NEAR}, None, r"several networks \(a, b\); say with docker.network"),
}


@pytest.mark.parametrize(("own", "network", "words"), FAULTS.values(), ids=FAULTS)
async def test_says_what_to_do_where_there_is_no_network_to_share(
    own: dict[str, str], network: str | None, words: str
) -> None:
    with pytest.raises(StartFailed, match=words):
        await standpoint(own, network).attachment(ServiceConfig(image="x"))


class Inside:
    """A proxy in a container: this machine's programs and this tree's code, mounted into an image of a shell.

    Args:
        engine: Where it runs, and what it starts its engines on.
        config: Its config file.
    """

    def __init__(self, engine: DockerHost, config: Path) -> None:
        self.engine = engine
        self.name = config.parent.name
        self.label = f"ai-proxy.name={self.name}"
        programs = {"/usr", "/lib", "/lib64", sys.base_prefix, sys.prefix, str(ROOT)}
        mounts = [f"{path}:{path}:ro" for path in sorted(programs) if Path(path).exists()]
        mounts += [f"{engine.host.removeprefix('unix://')}:/var/run/docker.sock", f"{config}:/etc/ai-proxy.yaml:ro"]
        options = ["--name", self.name, "--network", self.name, *(word for it in mounts for word in ("-v", it))]
        serve = [sys.executable, "-m", "ai_proxy", "serve", "--config", "/etc/ai-proxy.yaml"]
        engine.docker("network", "create", self.name)
        engine.docker("run", "-d", *options, TINY, *serve)

    @property
    def log(self) -> str:
        return self.engine.docker("logs", self.name).stderr

    @property
    def url(self) -> str:
        """Where it is reached from this host."""
        address = networks_of(self.engine, self.name)[self.name]["IPAddress"]
        until(lambda: listens(address, 8000), lambda: self.log)
        return f"http://{address}:8000"

    def crash(self) -> None:
        """End it and start it again."""
        self.engine.docker("kill", self.name)
        self.engine.docker("start", self.name)

    def close(self) -> None:
        self.engine.docker("rm", "-fv", self.name, check=False)
        self.engine.remove_labelled(self.label)
        self.engine.docker("network", "rm", self.name)


def listens(address: str, port: int) -> bool:
    try:
        create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def networks_of(engine: DockerHost, container: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.inspect(container)["NetworkSettings"]["Networks"]
    return found


@pytest.fixture
def inside(docker_engine: DockerHost, tmp_path: Path) -> Iterator[Inside]:
    """A proxy in a container, with one service."""
    if not docker_engine.host.startswith("unix://"):
        missing("the engine has no socket to mount")
    folder = tmp_path / f"in{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    tiny = {"image": TINY, "port": 8080, "pull_policy": "never", "health": {"path": "/health"}}
    settings = {
        "name": folder.name,
        "state_dir": "/tmp/state",
        "server": {"host": "0.0.0.0"},
        "services": {"tiny": {**tiny, "stop_grace_period": 1, "resources": {"gpus": 0}}},
    }
    (folder / "ai-proxy.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    proxy = Inside(docker_engine, folder / "ai-proxy.yaml")
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.mark.docker
@pytest.mark.slow
def test_a_proxy_in_a_container_reaches_what_it_starts_and_what_it_finds(
    inside: Inside, docker_engine: DockerHost
) -> None:
    def answer() -> str:
        with urlopen(f"{inside.url}/tiny/health", timeout=20) as said:
            return str(said.read().decode())

    assert answer() == "ok", inside.log
    (engine,) = docker_engine.labelled(inside.label)
    assert networks_of(docker_engine, engine).keys() == {inside.name}
    assert not docker_engine.inspect(engine)["HostConfig"]["PortBindings"]
    beside = ["run", "--rm", "--network", inside.name, TINY, "wget", "-qO-", f"http://{inside.name}:8000/tiny/health"]
    assert docker_engine.docker(*beside).stdout == "ok"

    # As if a proxy outside of containers had started it
    docker_engine.docker("network", "disconnect", inside.name, engine)
    docker_engine.docker("network", "connect", "bridge", engine)
    inside.crash()
    assert answer() == "ok", inside.log
    assert docker_engine.labelled(inside.label) == [engine]
    assert inside.name in networks_of(docker_engine, engine)
