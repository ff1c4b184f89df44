"""How a container is reached from here: at its own address, or through a port published on 127.0.0.1.

An address outlives the engine's daemon and publishes nothing, so it is preferred wherever this host owns the bridge:
a rootful engine on this Linux machine. Rootless engines and those in a virtual machine keep their bridges elsewhere.
"""

import socket
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from ai_proxy.errors import StartFailed
from ai_proxy.runtimes.docker.engine import Engine, EngineRefused


class Reach(StrEnum):
    """The ways to a container's port."""

    AUTO = "auto"
    ADDRESS = "address"
    PUBLISHED = "published"


async def must_publish(engine: Engine, network: str) -> bool:
    """Find out whether containers on a network are reached only through published ports.

    Raises:
        StartFailed: There is no such network.
        RuntimeUnavailable: The engine does not answer.
    """
    try:
        async with engine.call() as docker:
            info = await docker.system.info()
            gateways = _gateways(await (await docker.networks.get(network)).show())
    except EngineRefused as refused:
        if refused.engine_status == 404:
            raise StartFailed(f"networks: the Docker engine has no network {network}; create it first") from refused
        raise
    is_rootless = any("rootless" in option for option in info.get("SecurityOptions") or ())
    is_here = sys.platform == "linux" and engine.is_local_socket() and not is_rootless
    return not (is_here and any(_is_ours(gateway) for gateway in gateways))


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
