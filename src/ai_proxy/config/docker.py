"""The part of the config that is about the Docker engine, beyond what a service says of its own container.

Frozen pydantic like the rest. How containers are reached is the runtime's business.
"""

from typing import Annotated

from pydantic import Field

from ai_proxy.config.section import Section


class DockerConfig(Section):
    """What all containers have in common."""

    network: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Network of the containers whose service names none under `networks`. A proxy that runs in a "
        "container itself must be on it, to reach them. Default: the one that the proxy's own container is on, else "
        "Docker's `bridge`.",
        examples=["engines"],
    )
