"""Each runtime behind one face, so that one suite can ask the same of all."""

import os
from pathlib import Path
from typing import Any, Protocol

from ai_proxy.config.models import ServiceConfig
from ai_proxy.devices import Placement
from ai_proxy.errors import StartFailed
from ai_proxy.runtimes.base import Exit, Instance, InstanceSpec, Runtime
from ai_proxy.runtimes.docker.runtime import DockerRuntime
from ai_proxy.runtimes.external import ExternalRuntime
from ai_proxy.runtimes.process.guard import processes
from ai_proxy.runtimes.process.runtime import ProcessRuntime
from tests.fakes.engine import argv
from tests.fakes.runtime import FakeRuntime
from tests.fixtures.docker import tiny_spec
from tests.fixtures.dockerd import DockerHost


def engine_spec(*flags: str, service: str = "small", **keys: Any) -> InstanceSpec:
    """A service whose process is the fake engine with these flags; `keys` are the service's own, as in the config."""
    return spec_of(service, **{"command": argv("--port", "{port}", *flags), "stop_grace_period": 5, **keys})


def spec_of(service: str, *, placement: Placement | None = None, **keys: Any) -> InstanceSpec:
    """A service with these keys, as in the config."""
    return InstanceSpec(service, ServiceConfig.model_validate(keys), placement or Placement(), "hash-1")


def ignore(words: str) -> None:
    """A start's progress that nobody reads."""


class Harness(Protocol):
    """A runtime, what to start with it, and how to make it end."""

    @property
    def runtime(self) -> Runtime: ...

    def spec(self, service: str = "small") -> InstanceSpec:
        """Something that runs until it is stopped."""
        ...

    def broken(self) -> InstanceSpec:
        """Something that can't be started."""
        ...

    async def end(self, instance: Instance) -> None:
        """Make a replica write `last words` and end by itself with code 3."""
        ...

    def running(self) -> int:
        """How many replicas really run, asked of the world."""
        ...


class FakeHarness:
    def __init__(self) -> None:
        self.runtime = FakeRuntime()

    def spec(self, service: str = "small") -> InstanceSpec:
        return spec_of(service, command="fake")

    def broken(self) -> InstanceSpec:
        self.runtime.fail("broken", StartFailed("on order"))
        return self.spec("broken")

    async def end(self, instance: Instance) -> None:
        self.runtime.say(instance.service, "last words")
        self.runtime.exit(instance.service, Exit(code=3))

    def running(self) -> int:
        return len(self.runtime.running())


class ProcessHarness:
    def __init__(self, state_dir: Path) -> None:
        self.runtime = ProcessRuntime(state_dir, os.environ)
        self._state_dir = state_dir
        self._may_end = state_dir / "may-end"

    def spec(self, service: str = "small") -> InstanceSpec:
        script = "until [ -e $0 ]; do sleep 0.02; done; echo last words; exit 3"
        return spec_of(service, command=["/bin/sh", "-c", script, str(self._may_end), "{port}"])

    def broken(self) -> InstanceSpec:
        return spec_of("broken", command=[str(self._state_dir / "missing"), "{port}"])

    async def end(self, instance: Instance) -> None:
        self._may_end.touch()

    def running(self) -> int:
        # A shell that forks for its `sleep` is there twice until the exec; its session's leader is there once.
        leaders = (process for process in processes() if process.session == process.pid)
        commands = [_command(process.pid) for process in leaders]
        return sum(command.startswith(b"/bin/sh") and bytes(self._may_end) in command for command in commands)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class DockerHarness:
    def __init__(self, runtime: DockerRuntime, engine: DockerHost, label: str) -> None:
        self.runtime = runtime
        self._engine = engine
        self._label = label

    def spec(self, service: str = "small") -> InstanceSpec:
        script = "trap 'exit 0' TERM; until [ -e /tmp/end ]; do sleep 0.05 & wait $!; done; echo last words; exit 3"
        return tiny_spec(service, command=["sh", "-c", script])

    def broken(self) -> InstanceSpec:
        return tiny_spec("broken", image="nowhere/nothing:none")

    async def end(self, instance: Instance) -> None:
        self._engine.docker("exec", instance.id, "sh", "-c", ": > /tmp/end")

    def running(self) -> int:
        return len(self._engine.labelled(self._label))


class ExternalHarness:
    def __init__(self) -> None:
        self.runtime = ExternalRuntime()

    def spec(self, service: str = "small") -> InstanceSpec:
        return spec_of(service, url="http://127.0.0.1:9/v1")

    def broken(self) -> InstanceSpec:
        return spec_of("broken", command="not external")

    async def end(self, instance: Instance) -> None:
        raise NotImplementedError("an external service ends without our knowing")

    def running(self) -> int:
        return 0
