"""How a container is reached from here: at its own address, or through a port published on 127.0.0.1.

An address outlives the engine's daemon and publishes nothing, so it is preferred wherever this host owns the bridge:
a rootful engine on this Linux machine. Rootless engines and those in a virtual machine keep their bridges elsewhere.
A proxy that is itself in a container of the engine shares a network with the others, and publishes nothing either.
"""

import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from ai_proxy.config.models import ServiceConfig
from ai_proxy.errors import StartFailed
from ai_proxy.runtimes.base import Instance
from ai_proxy.runtimes.docker.containers import Containers
from ai_proxy.runtimes.docker.engine import Engine, EngineRefused
from ai_proxy.runtimes.docker.own import is_within
from ai_proxy.runtimes.docker.spec import instance_of
from ai_proxy.runtimes.docker.state import ContainerState
from ai_proxy.runtimes.living import Living, living

_DEFAULT_NETWORK = "bridge"


class Reach(StrEnum):
    """The ways to a container's port."""

    AUTO = "auto"
    ADDRESS = "address"
    PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a container needs to be reached.

    Attributes:
        networks: The networks that it joins; the first is the one it is created on.
        publish: Whether its port is published on 127.0.0.1.
    """

    networks: tuple[str, ...]
    publish: bool


class Standpoint:
    """Where the proxy stands among an engine's networks, and how it reaches containers from there.

    Args:
        engine: The engine.
        containers: Its verbs.
        reach: How containers are reached; `AUTO` finds out.
        network: The network of containers whose service names none; None: the proxy's own, else the engine's default.
        own_ids: Ids that the proxy's own container may have; none if it is in none.
    """

    def __init__(
        self, engine: Engine, containers: Containers, reach: Reach, network: str | None, own_ids: Sequence[str]
    ) -> None:
        self._engine = engine
        self._containers = containers
        self._reach = reach
        self._network = network
        self._own_ids = tuple(own_ids) if reach is Reach.AUTO else ()

    def __repr__(self) -> str:
        return f"Standpoint({self._reach}, network={self._network!r}, own_ids={[it[:12] for it in self._own_ids]})"

    async def attachment(self, config: ServiceConfig) -> Attachment:
        """Find out what the containers of a service need to be reached.

        Raises:
            StartFailed: There is no such network, or none that the proxy's own container is on.
            RuntimeUnavailable: The engine does not answer.
        """
        home = await self._home()
        if not home:
            networks = config.networks or (self._network or _DEFAULT_NETWORK,)
            return Attachment(networks, await self._must_publish(networks[0]))
        if not home.keys().isdisjoint(config.networks):
            return Attachment(config.networks, publish=False)
        return Attachment((*config.networks, self._shared(home)), publish=False)

    async def instance(self, state: ContainerState) -> Instance | None:
        """Rebuild the handle of a running container; one that shares no network with the proxy's own joins one.

        Returns:
            The handle; None where labels or address lack.

        Raises:
            StartFailed: There is no network to share.
            RuntimeUnavailable: The engine does not answer.
        """
        home = await self._home()
        if home and state.address_on(home) is None:
            await self._containers.join(state.id, self._shared(home))
            state = await self._containers.find(state.id) or state
        instance = instance_of(state, home)
        return None if instance is None else replace(instance, is_alive=_first_process(state))

    async def _home(self) -> Mapping[str, str]:
        """The networks of the proxy's own container with its addresses; empty where it is in none, or on its host's."""
        for reference in self._own_ids:
            state = await self._containers.find(reference)
            # Ids are guesses: what has our addresses is us.
            if state is not None and (ours := {name: it for name, it in state.addresses.items() if _is_ours(it)}):
                return ours
        return {}

    def _shared(self, home: Mapping[str, str]) -> str:
        """Choose the network on which other containers meet the proxy's own."""
        own = ", ".join(sorted(home))
        if self._network is not None:
            if self._network in home:
                return self._network
            words = f"docker.network: the proxy's own container is not on {self._network}, only on {own}"
            raise StartFailed(f"{words}; connect it, or name one of those")
        named = sorted(home.keys() - {_DEFAULT_NETWORK}) or list(home)
        if len(named) > 1:
            words = f"the proxy's own container is on several networks ({own})"
            raise StartFailed(f"{words}; say with docker.network on which of them it meets the others")
        return named[0]

    async def _must_publish(self, network: str) -> bool:
        """Find out whether containers on a network are reached only through published ports."""
        if self._reach is not Reach.AUTO:
            return self._reach is Reach.PUBLISHED
        try:
            async with self._engine.call() as docker:
                info = await docker.system.info()
                gateways = _gateways(await (await docker.networks.get(network)).show())
        except EngineRefused as refused:
            if refused.engine_status == 404:
                raise StartFailed(f"networks: the Docker engine has no network {network}; create it first") from refused
            raise
        is_rootless = any("rootless" in option for option in info.get("SecurityOptions") or ())
        is_here = sys.platform == "linux" and self._engine.is_local_socket() and not is_rootless
        is_next_to_us = any(_is_ours(gateway) for gateway in gateways)
        if self._own_ids and not is_next_to_us:
            # Published on the engine's 127.0.0.1, which is not this container's.
            raise StartFailed(
                "the proxy is in a container on none of the engine's networks, and can't reach others from there: "
                "connect it to one (`docker network connect`), or run it with `--network host`"
            )
        return not (is_here and is_next_to_us)


def _first_process(state: ContainerState) -> Living | None:
    """Tells whether a container's first process lives; None where that is not one of this host's."""
    # In this order: what is found within is what was found living.
    found = living(state.pid)
    return found if is_within(state.pid, state.id) else None


def _gateways(network: Mapping[str, Any]) -> list[str]:
    return [entry["Gateway"] for entry in network["IPAM"].get("Config") or () if entry.get("Gateway")]


def _is_ours(address: str) -> bool:
    """An address that a socket can be bound to is one of our interfaces'."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
