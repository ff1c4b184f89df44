"""What the management API says of leases, and of requests that had to wait."""

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from ai_proxy.api.schemas import Wire

MAX_PIDS = 1024


class Asked(Wire):
    """Base of what clients send: what is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class LeaseIn(Asked):
    """Room that somebody wants to hold."""

    device: str | list[str] = Field(
        "any",
        description="Index or UUID of the GPU, a list of them, or `any`.",
        examples=["any", "0", ["0", "1"]],
    )
    gpus: int = Field(1, ge=1, le=256, description="How many GPUs, where it may be any.", examples=[1])
    vram_mb: int | None = Field(
        ge=1, description="On each of them, in MiB; null for GPUs to itself.", examples=[8000, None]
    )
    ttl_s: float = Field(60, ge=5, le=86_400, description="It ends so long after its last renewal.", examples=[60])
    wait_s: float = Field(
        60, ge=0.1, le=3600, description="How long services may take to make room, in seconds.", examples=[60]
    )
    name: str = Field(
        "", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,31})?$", description="For people.", examples=["training"]
    )
    pids: list[int] = Field(
        [],
        max_length=MAX_PIDS,
        description="Processes that will use it, as this machine numbers them.",
        examples=[[4711]],
    )

    @model_validator(mode="after")
    def _devices_are_counted_once(self) -> Self:
        if self.device != "any" and self.gpus != 1:
            raise ValueError("gpus is for device `any`: a list of devices says how many")
        return self


class RenewIn(Asked):
    """What changes with a renewal; what is not given stays."""

    ttl_s: float | None = Field(None, ge=5, le=86_400, description="Its time from now on, in seconds.", examples=[60])
    pids: list[int] | None = Field(
        None, max_length=MAX_PIDS, description="Processes that use it now.", examples=[[4711, 4712]]
    )


class LeaseOut(Wire):
    """Room that is held."""

    id: str = Field(description="By which it is renewed and given back.", examples=["training-9c1f03ab"])
    name: str = Field(description="For people.", examples=["training"])
    holder: str = Field(description="Its name among the holders of a device.", examples=["lease:training-9c1f03ab"])
    devices: list[str] = Field(description="Indices of its GPUs, as nvidia-smi shows them.", examples=[["0"]])
    vram_mb: int = Field(description="Held on each of them, in MiB.", examples=[8000])
    environment: dict[str, str] = Field(
        description="Variables that show a program these GPUs and no others.",
        examples=[{"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-5d2c1f0e"}],
    )
    pids: list[int] = Field(description="Processes that use it, as far as they were told.", examples=[[4711]])
    taken_at: float = Field(description="Unix time, in seconds.", examples=[1750000000.0])
    ttl_s: float = Field(description="It ends so long after its last renewal.", examples=[60])
    expires_at: float = Field(description="Unix time at which it ends unless it is renewed.", examples=[1750000060.0])


class StepOut(Wire):
    """Something that happened while a request waited."""

    at: float = Field(description="Unix time, in seconds.", examples=[1750000000.0])
    after_s: float = Field(description="Since the request came, in seconds.", examples=[0.4])
    kind: Literal["arrived", "state", "decision", "eviction", "progress", "answered"] = Field(
        description="What it was.", examples=["eviction"]
    )
    service: str = Field(description="The service that it happened to.", examples=["embed"])
    text: str = Field(description="In words.", examples=["ready → stopping: evicted for chat"])


class StoryOut(Wire):
    """Where a request has waited, and why."""

    id: str = Field(description="Its request id.", examples=["5f0c1d6e9a7b4c32"])
    service: str = Field(description="Where it was routed to.", examples=["chat"])
    state: Literal["waiting", "running", "ended"] = Field(description="Where it is now.", examples=["running"])
    waited_s: float = Field(description="How long it waited, or has waited so far, in seconds.", examples=[12.5])
    outcome: str | None = Field(
        description="How its wait ended: `admitted`, `left` if its client did, else an error's code; null while it "
        "waits.",
        examples=["admitted"],
    )
    timeline: list[StepOut] = Field(description="What happened while it waited; empty if it did not have to.")
