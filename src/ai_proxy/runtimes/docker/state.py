"""What the engine says of a container, read once into a few plain fields; and its causes in words. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_LOST_SOURCE = re.compile(r"bind source path does not exist: (\S+)")
_SIGNAL_BASE = 128


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container as inspected.

    Attributes:
        id: The engine's id for it.
        name: Its name, without the engine's leading slash.
        labels: Its labels.
        pid: Of its first process, as its host numbers them; 0 unless it runs.
        status: `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
        exit_code: The exit status of its last run.
        oom_killed: The kernel killed its first process for want of memory.
        error: Why the engine could not start it; mostly empty.
        addresses: Its address on each network that it has one on; none unless it runs.
        published: Host address and port by the container's `port/tcp`.
    """

    id: str
    name: str
    labels: Mapping[str, str]
    pid: int
    status: str
    exit_code: int
    oom_killed: bool
    error: str
    addresses: Mapping[str, str]
    published: Mapping[str, tuple[str, int]]

    @property
    def is_running(self) -> bool:
        """Its first process lives, paused or not."""
        return self.status in {"running", "paused"}

    @property
    def has_ended(self) -> bool:
        """Its first process was started and lives no more."""
        return self.status in {"exited", "dead", "removing"}

    @property
    def signal(self) -> int | None:
        """The signal that ended it, as far as the exit status tells."""
        return self.exit_code - _SIGNAL_BASE if self.exit_code > _SIGNAL_BASE else None

    def address_on(self, networks: Iterable[str]) -> str | None:
        """Its address on the first of these networks that it has one on."""
        return next((self.addresses[network] for network in networks if network in self.addresses), None)

    def origin(self, port: int, near: Collection[str] = ()) -> tuple[str, int] | None:
        """Where `port` of the container is reached from here; None while it has no address.

        A port that is published was published because the address can't be reached, so it comes first, unless there
        are networks that the proxy is on itself.

        Args:
            port: The port in the container.
            near: Networks that the proxy is on itself.
        """
        if not near and (published := self.published.get(f"{port}/tcp")) is not None:
            return published
        address = self.address_on(near or self.addresses)
        return None if address is None else (address, port)


def read_state(answer: Mapping[str, Any]) -> ContainerState:
    """Read the engine's answer to an inspection.

    Example:
        >>> state = read_state({"Id": "c1", "Name": "/a", "State": {"Status": "exited", "ExitCode": 137}})
        >>> state.name, state.has_ended, state.signal
        ('a', True, 9)
    """
    state, settings = answer["State"], answer.get("NetworkSettings") or {}
    networks = (settings.get("Networks") or {}).items()
    return ContainerState(
        id=answer["Id"],
        name=answer.get("Name", "").removeprefix("/"),
        labels=(answer.get("Config") or {}).get("Labels") or {},
        pid=state.get("Pid", 0),
        status=state["Status"],
        exit_code=state.get("ExitCode", 0),
        oom_killed=bool(state.get("OOMKilled")),
        error=state.get("Error", ""),
        addresses={name: network["IPAddress"] for name, network in networks if network.get("IPAddress")},
        published={
            port: (bindings[0]["HostIp"], int(bindings[0]["HostPort"]))
            for port, bindings in (settings.get("Ports") or {}).items()
            if bindings
        },
    )


def cause_of(reason: str) -> str:
    """Say what an engine's refusal to create or start a container means, and what to do.

    Example:
        >>> cause_of('invalid mount config for type "bind": bind source path does not exist: /srv/x')
        'volumes: /srv/x does not exist on the host; create it or correct the path'
        >>> cause_of('could not select device driver "" with capabilities: [[gpu]]')
        'the Docker engine has no GPU support: install the NVIDIA container toolkit, or set resources.gpus to 0'
    """
    if lost := _LOST_SOURCE.search(reason):
        return f"volumes: {lost[1]} does not exist on the host; create it or correct the path"
    if "could not select device driver" in reason:
        return "the Docker engine has no GPU support: install the NVIDIA container toolkit, or set resources.gpus to 0"
    if "unknown device" in reason:
        return f"the Docker engine does not know a device that was asked for: {reason}"
    if "port is already allocated" in reason or "address already in use" in reason:
        return f"a port is taken on the host: {reason}"
    return f"the Docker engine refused: {reason}"
