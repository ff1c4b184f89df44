"""What the API says of devices and memory."""

from typing import Literal

from pydantic import Field

from ai_proxy.api.schemas import Wire


class HolderOut(Wire):
    """What one replica (or lease) has of a device."""

    reserved_mb: int = Field(description="Reserved for it, in MiB.", examples=[9000])
    measured_mb: int | None = Field(
        description="What its processes hold, in MiB; null where the driver or the runtime does not tell.",
        examples=[8731],
    )


class ForeignOut(Wire):
    """A process on a device that the proxy did not start."""

    pid: int = Field(description="Its process id on the host.", examples=[4711])
    process: str = Field(description="The program's name; empty if it is not visible from here.", examples=["blender"])
    used_mb: int | None = Field(description="What it holds, in MiB; null if not told.", examples=[2048])


class DeviceOut(Wire):
    """A device: what of it is reserved, used and free, and by whom."""

    id: str = Field(
        description="Index as nvidia-smi shows it; `0:1` for a MIG instance, `amd0` for AMD's first GPU.",
        examples=["0"],
    )
    uuid: str = Field(description="UUID as its driver says it.", examples=["GPU-5d2c1f0e"])
    name: str = Field(description="The product's name.", examples=["NVIDIA GeForce RTX 4090"])
    vendor: Literal["nvidia", "amd"] = Field(description="Who made it.", examples=["nvidia"])
    state: Literal["ok", "unknown", "lost"] = Field(
        description="`unknown`: its driver does not tell how it is used; `lost`: it was there and is not any more.",
        examples=["ok"],
    )
    vram_mb: int = Field(description="Capacity in MiB.", examples=[24576])
    reserved_mb: int = Field(description="Reserved, in MiB.", examples=[9000])
    used_mb: int | None = Field(description="Not free, whoever uses it, in MiB; null if unknown.", examples=[10900])
    foreign_mb: int | None = Field(description="Of that, what others use, in MiB; null if unknown.", examples=[2169])
    headroom_mb: int = Field(description="Left free on it, in MiB (`scheduling.headroom_mb`).", examples=[512])
    free_mb: int = Field(description="What a start may have of it now, in MiB; never below 0.", examples=[12895])
    holders: dict[str, HolderOut] = Field(
        description="Who has what of it.", examples=[{"chat": {"reserved_mb": 9000, "measured_mb": 8731}}]
    )
    foreign: list[ForeignOut] = Field(
        description="Processes of others on it, the largest first. What only draws on AMD's GPUs is not listed."
    )
    utilisation_percent: int | None = Field(description="Share of the time in which it computes.", examples=[35])
    temperature_c: int | None = Field(description="In degrees Celsius.", examples=[61])
    power_w: float | None = Field(description="What it draws, in watts.", examples=[220.5])


class MemoryOut(Wire):
    """The host's memory and who holds what of it."""

    memory_mb: int = Field(description="What services may reserve, in MiB.", examples=[65536])
    reserved_mb: int = Field(description="Reserved, in MiB.", examples=[2048])
    total_mb: int = Field(description="What the machine has, in MiB.", examples=[65536])
    used_mb: int = Field(description="Of that, used by anybody, caches apart, in MiB.", examples=[12400])
    holders: dict[str, int] = Field(description="Who reserved how much, in MiB.", examples=[{"chat": 2048}])


class CustomOut(Wire):
    """A resource that the config names, and who holds what of it."""

    capacity: int = Field(description="What there is of it (`capacities`).", examples=[4])
    reserved: int = Field(description="Reserved.", examples=[1])
    holders: dict[str, int] = Field(description="Who reserved how much.", examples=[{"chat": 1}])


class ResourcesOut(Wire):
    """All that services share."""

    devices: list[DeviceOut] = Field(description="The GPUs.")
    memory: MemoryOut = Field(description="The host's memory.")
    custom: dict[str, CustomOut] = Field(description="What else the config says there is.")
