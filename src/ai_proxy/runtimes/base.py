"""What every runtime promises: a few verbs, and a handle that survives a restart.

A runtime starts what its spec says and nothing else; whether a replica is ready, needed or in the way is decided
above. It never raises its library's own errors: `StartFailed` and `RuntimeUnavailable` carry the cause upward.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ai_proxy.config.models import ServiceConfig
from ai_proxy.devices import Placement
from ai_proxy.transport.origin import Tls

Progress = Callable[[str], None]
"""Told what a start is doing, in words for people: `pulling image, 41 %`, `creating container`."""


def replica_key(service: str, number: int) -> str:
    """Name a replica among all of all services; the first of a service is named as the service is.

    Example:
        >>> replica_key("chat", 0), replica_key("chat", 1)
        ('chat', 'chat#1')
    """
    return f"{service}#{number}" if number else service


def service_of(key: str) -> str:
    """The service of a replica's key.

    Example:
        >>> service_of("chat"), service_of("chat#2")
        ('chat', 'chat')
    """
    return key.partition("#")[0]


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """What to start: one replica of one service at one placement.

    Attributes:
        service: Id of the service.
        config: The service's settings with every default, template and environment variable resolved.
        placement: The devices it may use, and how much of them.
        spec_hash: Hash over what shapes the replica; a running one with another hash is not adopted.
        replica: Number of the replica within its service.
    """

    service: str
    config: ServiceConfig
    placement: Placement
    spec_hash: str
    replica: int = 0

    def placeholders(self, port: int) -> Mapping[str, str | int | float]:
        """The values of `{name}` in command, args and environment; `port` is where the server listens."""
        return {
            **self.config.vars,
            "port": port,
            "id": self.service,
            "gpu_count": len(self.placement.devices),
            "vram_fraction": self.placement.vram_fraction,
        }


@dataclass(frozen=True, slots=True)
class Instance:
    """A running replica: the handle by which its runtime knows it again.

    Attributes:
        id: The runtime's own name for it: container id, process group id, URL.
        service: Id of the service.
        host: Where it answers: address or host name.
        port: Where it answers.
        placement: What it holds.
        spec_hash: Hash of the spec that started it.
        replica: Number of the replica within its service.
        scheme: `http` or `https`.
        base_path: Prefix that every request path gets, without a trailing slash; external services only.
        tls: For `https`: whom to believe to be it.
        is_alive: Tells whether its first process lives; None where that can't be told from here.
    """

    id: str
    service: str
    host: str
    port: int
    placement: Placement = field(default_factory=Placement)
    spec_hash: str = ""
    replica: int = 0
    scheme: str = "http"
    base_path: str = ""
    tls: Tls | None = field(default=None, repr=False)
    is_alive: Callable[[], bool] | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        """Its replica's key."""
        return replica_key(self.service, self.replica)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a replica ended.

    Attributes:
        code: Exit status; None where none is known (killed with its host, an external service).
        signal: The signal's number that ended it, if one did.
        oom_killed: The kernel ended it, or a child of it, for want of memory.
        log_tail: Its last lines, oldest first; bounded.
    """

    code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    log_tail: tuple[str, ...] = ()

    @property
    def cause(self) -> str:
        """The end in words.

        Example:
            >>> Exit(code=1).cause
            'exited with code 1'
            >>> Exit(code=137, oom_killed=True).cause
            'killed by the kernel: out of memory'
            >>> Exit(signal=9).cause
            'killed by signal 9'
        """
        if self.oom_killed:
            return "killed by the kernel: out of memory"
        if self.signal is not None:
            return f"killed by signal {self.signal}"
        return "ended, exit code unknown" if self.code is None else f"exited with code {self.code}"


class Runtime(Protocol):
    """A driver of replicas. One object drives all services of its kind."""

    async def prepare(self, config: ServiceConfig, progress: Progress) -> None:
        """Do ahead of a start what needs no device and is no loss if the start never comes; shared with the start.

        Raises:
            StartFailed: With the cause; the start will have the same.
            RuntimeUnavailable: The runtime does not answer.
        """
        ...

    async def start(self, spec: InstanceSpec, progress: Progress) -> Instance:
        """Start a replica and return once it has an address; the engine may still be loading.

        Cancelled or failed, it leaves nothing behind: no container, no process, no half-pulled lock.

        Raises:
            StartFailed: With the cause and the engine's last lines.
            RuntimeUnavailable: The runtime does not answer.
        """
        ...

    async def stop(self, instance: Instance, grace_s: float) -> None:
        """End a replica: ask, wait `grace_s`, kill. Idempotent; returns when it is verifiably gone.

        Raises:
            RuntimeUnavailable: The runtime does not answer: the replica may still run.
        """
        ...

    async def wait(self, instance: Instance) -> Exit:
        """Wait until the replica has ended by itself or by `stop`; survives a restart of the runtime."""
        ...

    async def adopt(self) -> Sequence[Instance]:
        """Find the replicas of this proxy that a former life left running.

        Raises:
            RuntimeUnavailable: The runtime does not answer: nothing is known.
        """
        ...

    def logs(self, instance: Instance, *, follow: bool) -> AsyncIterator[str]:
        """Yield the replica's output line by line, oldest first; with `follow`, until it ends."""
        ...

    async def aclose(self) -> None:
        """Release what the driver holds; replicas go on running unless they can't outlive the proxy."""
        ...


@runtime_checkable
class CreatesAhead(Protocol):
    """A runtime that can make a replica before its room is free, so that its start has little left to do."""

    async def create_ahead(self, spec: InstanceSpec) -> None:
        """Make a replica that does not run, and keep it until it is started; return then.

        There is one of each replica at most: another call, and a start from another spec, remove it first. Cancelled
        or failed, it leaves nothing behind.

        Raises:
            StartFailed: With the cause; the start may have the same.
            RuntimeUnavailable: The runtime does not answer.
        """
        ...


@runtime_checkable
class TellsPids(Protocol):
    """A runtime that can say which processes a replica is."""

    async def pids(self, instance: Instance) -> frozenset[int] | None:
        """List a replica's processes, descendants included, in the host's numbering.

        Returns:
            Their pids; None where they can't be told, or mean nothing on this host.

        Raises:
            RuntimeUnavailable: The runtime does not answer.
        """
        ...
