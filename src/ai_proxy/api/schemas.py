"""What the management API says on the wire. Never the internal dataclasses: these change only with the API."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Wire(BaseModel):
    """Base of all wire models."""

    model_config = ConfigDict(frozen=True)


class Problem(Wire):
    """An error of the management API."""

    detail: str = Field(description="What is wrong and what to do.", examples=["no service 'chta' in the config"])
    code: str = Field(description="The kind of error.", examples=["service_not_found"])
    request_id: str = Field(description="Names this request in the log.", examples=["5f0c1d6e9a7b4c32"])


NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No service of this id."}}
"""What every route under a service's path may answer."""


EVERYWHERE: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "Management is for keys only, and none that opens it was sent."},
    403: {
        "model": Problem,
        "description": "The request comes from a web page of another site, or from another machine.",
    },
    422: {"model": Problem, "description": "A parameter is not what the route takes."},
    500: {"model": Problem, "description": "Something nobody expected; the log has it under the request id."},
}
"""What every route may answer."""


class PlacementOut(Wire):
    """What a replica holds."""

    devices: list[str] = Field(description="Indices of its GPUs, as nvidia-smi shows them.", examples=[["0"]])
    vram_mb: int = Field(description="Reserved on each of them, in MiB.", examples=[9000])
    memory_mb: int = Field(description="Reserved of the host's memory, in MiB.", examples=[2048])


class FailureOut(Wire):
    """Why a service's last life broke."""

    message: str = Field(description="The cause.", examples=["chat exited with code 1 while it was loading"])
    log_tail: list[str] = Field(description="The engine's last lines.", examples=[["error: out of memory"]])
    retry_in_s: float = Field(description="Not started again before this many seconds.", examples=[4.0])


class FiguresOut(Wire):
    """What a service says it needs, and what was seen of it."""

    declared_vram_mb: int | None = Field(
        description="On each of its GPUs by its config, in MiB; null where that is left to be learned.",
        examples=[20_000],
    )
    seen_vram_mb: int | None = Field(
        description="The most that a replica held on any GPU, in MiB; null if it was not measured.", examples=[17_310]
    )
    load_s: float | None = Field(description="Usual time to load, in seconds.", examples=[41.5])
    loads: int = Field(description="Recent loads that this is the median of.", examples=[8])
    stop_s: float | None = Field(description="Usual time until its room is free, in seconds.", examples=[1.2])
    wake_s: dict[int, float] = Field(
        description="Usual time to wake up by the level of its sleep, in seconds.", examples=[{1: 0.8}]
    )


StateName = Literal["stopped", "queued", "starting", "loading", "ready", "sleeping", "draining", "stopping", "failed"]


class ReplicaOut(Wire):
    """One copy of a service."""

    number: int = Field(description="Its number within the service, from 0.", examples=[0])
    state: StateName = Field(description="Where it is in its life.", examples=["ready"])
    in_flight: int = Field(description="Requests on it.", examples=[3])
    placement: PlacementOut | None = Field(description="What it holds of the machine; null while it holds nothing.")


class ServiceOut(Wire):
    """A service and its replicas."""

    id: str = Field(description="Its id in the config.", examples=["chat"])
    type: str = Field(description="The engine inside.", examples=["vllm"])
    runtime: str = Field(description="What starts it.", examples=["docker"])
    models: list[str] = Field(description="Model names that lead to it.", examples=[["chat", "gpt-4o-mini"]])
    state: StateName = Field(
        description="Where that replica is in its life that is nearest to serving.", examples=["ready"]
    )
    doing: str = Field(description="What a start is doing, or what it waits for.", examples=["pulling image, 41 %"])
    in_flight: int = Field(description="Requests on its replicas.", examples=[3])
    waiting: int = Field(description="Requests that wait for it.", examples=[0])
    busy: bool = Field(description="Its engine works though no request may be open.", examples=[False])
    pinned: bool = Field(description="Never evicted, never stopped for being idle.", examples=[False])
    instance: str | None = Field(description="The runtime's name for its replica.", examples=["4f2a9c31b7d0"])
    placement: PlacementOut | None = Field(description="What its replica holds; null while it holds nothing.")
    ready_for_s: float | None = Field(description="How long it has been ready, in seconds.", examples=[812.4])
    idle_for_s: float | None = Field(description="How long it has been idle, in seconds.", examples=[12.0])
    figures: FiguresOut = Field(description="What it says it needs, and what was seen of it.")
    failure: FailureOut | None = Field(description="Why its last life broke; null if it did not.")
    replicas: list[ReplicaOut] = Field(description="Its copies by number.")


class RequestOut(Wire):
    """A request in the house."""

    id: str = Field(description="Its request id.", examples=["5f0c1d6e9a7b4c32"])
    service: str = Field(description="Where it was routed to.", examples=["chat"])
    state: Literal["waiting", "running"] = Field(description="Whether it has its grant.", examples=["running"])
    age_s: float = Field(description="Since it arrived, in seconds.", examples=[1.7])
    key: str | None = Field(description="Name of its key; null where none was needed.", examples=["backend"])


class ReloadOut(Wire):
    """What a reload changed."""

    added: list[str] = Field(description="New services.", examples=[["whisper"]])
    removed: list[str] = Field(description="Services that drain and stop.", examples=[[]])
    restarts: list[str] = Field(description="Services whose replicas are replaced.", examples=[["chat"]])
    live: list[str] = Field(description="Services changed without a restart.", examples=[["embed"]])
    settings: list[str] = Field(description="Other keys that changed.", examples=[["log.level"]])
    deferred: list[str] = Field(description="Keys that count only from the next start on.", examples=[["server.port"]])


class RunningModel(Wire):
    """A service that runs, as llama-swap would show it."""

    model: str = Field(description="Its first model name.", examples=["chat"])
    state: Literal["starting", "ready", "sleeping", "stopping"] = Field(description="Its state.", examples=["ready"])
    cmd: str = Field(description="Its command, secrets hidden.", examples=["llama-server -m small.gguf"])
    proxy: str = Field(description="Where it is reached.", examples=["http://127.0.0.1:8000/services/chat"])
    ttl: int = Field(description="Idle seconds after which it is stopped; 0: never.", examples=[1800])
    name: str = Field(description="Id of the service.", examples=["chat"])
    description: str = Field(description="What a start is doing.", examples=[""])


class RunningOut(Wire):
    """What runs."""

    running: list[RunningModel] = Field(description="Sorted by model.")


class UnloadedOut(Wire):
    """It was done."""

    msg: Literal["ok"] = Field(description="Always ok.", examples=["ok"])


class HealthOut(Wire):
    """The proxy is alive."""

    status: Literal["ok"] = Field(description="Always ok.", examples=["ok"])
    version: str = Field(description="Version of the proxy.", examples=["0.1.0"])


class ReadyOut(Wire):
    """The proxy takes requests."""

    status: Literal["ready", "degraded"] = Field(
        description="degraded: some runtime does not answer.", examples=["ready"]
    )
    services: dict[str, int] = Field(description="Services by state.", examples=[{"ready": 1, "stopped": 4}])
