"""The config as types: what a file may say, what it means, and what it defaults to.

Frozen and strict about keys. No file, environment or clock is read here (`load.py` does that); what an engine
implies for a key left out is its profile's business (`engines/`).
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, ValidationInfo, field_validator

from ai_proxy.config.docker import DockerConfig
from ai_proxy.config.fields import (
    Argv,
    Environment,
    Headers,
    HttpPath,
    IdleTimeout,
    Models,
    Rejected,
    Seconds,
    ServiceId,
    SizeBytes,
    Strings,
    Url,
    Vars,
    Volume,
)
from ai_proxy.config.keys import Keys
from ai_proxy.config.leaving import HalfClose, OnDisconnect
from ai_proxy.config.listening import Listen
from ai_proxy.config.management import ManagementConfig
from ai_proxy.config.section import Section
from ai_proxy.config.server import LogConfig, ServerConfig
from ai_proxy.config.sharing import Priority, Replicas, ResourceRequirements, SchedulingConfig, Sleep
from ai_proxy.config.tls import ServiceTls


class EngineType(StrEnum):
    """The kinds of server that have a profile."""

    LLAMA_CPP_SERVER = "llama-cpp-server"
    VLLM = "vllm"
    OLLAMA = "ollama"
    WHISPER = "whisper"
    COMFYUI = "comfyui"
    GENERIC = "generic"


class RuntimeKind(StrEnum):
    """The drivers that start replicas."""

    DOCKER = "docker"
    PROCESS = "process"
    EXTERNAL = "external"


class PullPolicy(StrEnum):
    """When an image is fetched."""

    MISSING = "missing"
    ALWAYS = "always"
    NEVER = "never"


class Health(Section):
    """When a replica counts as ready."""

    path: HttpPath | None = Field(
        None, description="Path that answers 2xx when ready. Default: the engine's.", examples=["/health"]
    )
    start_timeout_s: PositiveFloat | None = Field(
        None,
        description="How long a start may take until it is ready, pulls apart, in seconds. Default: the engine's.",
        examples=[600],
    )


class Timeouts(Section):
    """Deadlines of one exchange with a replica."""

    connect_s: PositiveFloat = Field(5, description="For the connection, in seconds.", examples=[5])
    first_byte_s: PositiveFloat = Field(
        600, description="From the request to the answer's first byte, in seconds.", examples=[600]
    )
    idle_s: PositiveFloat = Field(300, description="Between two reads of the answer, in seconds.", examples=[300])
    upgrade_idle_s: PositiveFloat = Field(
        30,
        description="A WebSocket without a message for so long, in seconds, no longer keeps its replica from making "
        "room; it stays open until then.",
        examples=[30],
    )


class Limits(Section):
    """How much a service takes at once."""

    max_in_flight: PositiveInt | None = Field(
        None, description="Requests on a replica at once; more wait. Default: no limit.", examples=[512]
    )
    max_queue: int = Field(
        1000, ge=0, description="Requests that may wait for the service; more get 503.", examples=[1000]
    )
    max_wait_s: PositiveFloat = Field(
        600, description="How long a request may wait for the service, in seconds; then 504.", examples=[600]
    )


class Ulimit(Section):
    """One limit of Compose's `ulimits`."""

    soft: int = Field(description="Soft limit.", examples=[20000])
    hard: int = Field(description="Hard limit.", examples=[40000])


_BOTH_OR_ONE = Discriminator(lambda value: "both" if isinstance(value, dict | Ulimit) else "one")


class ContainerKeys(Section):
    """Keys that are Compose's, names and value forms: what the container (or the process) is."""

    image: str | None = Field(
        None,
        description="Image of the container; its presence means the docker runtime.",
        examples=["vllm/vllm-openai:v0.11.2"],
    )
    command: Argv | None = Field(
        None,
        description="Command: a list, or a string split as a shell splits words. Placeholders: {port} {id} {gpu_count} "
        "{vram_fraction} and the names in `vars`.",
        examples=["-m /models/small.gguf --port {port}"],
    )
    entrypoint: Argv | None = Field(None, description="Replaces the image's entrypoint.", examples=[["/bin/sh", "-c"]])
    environment: Environment = Field(
        default_factory=dict, description="Environment variables.", examples=[{"HF_HOME": "/cache"}]
    )
    env_file: Strings = Field(
        (), description="Files with NAME=value lines, relative to the config file.", examples=[["hf.env"]]
    )
    volumes: tuple[Volume, ...] = Field(
        (),
        description="Mounts as host:container[:ro|rw]; a bare name is a Docker volume.",
        examples=[["/srv/models:/models:ro"]],
    )
    ipc: str | None = Field(None, description="IPC namespace.", examples=["host"])
    shm_size: SizeBytes | None = Field(None, description="Size of /dev/shm.", examples=["8g"])
    user: str | None = Field(None, description="User (and group) in the container.", examples=["1000:1000"])
    working_dir: str | None = Field(None, description="Working directory.", examples=["/app"])
    extra_hosts: tuple[str, ...] = Field((), description="Extra host:address lines.", examples=[["db:10.0.0.5"]])
    ulimits: dict[str, Annotated[Annotated[int, Tag("one")] | Annotated[Ulimit, Tag("both")], _BOTH_OR_ONE]] = Field(
        default_factory=dict,
        description="Limits by name: a number or {soft, hard}.",
        examples=[{"memlock": -1}],
    )
    cap_add: tuple[str, ...] = Field((), description="Capabilities to add.", examples=[["SYS_NICE"]])
    security_opt: tuple[str, ...] = Field((), description="Security options.", examples=[["seccomp=unconfined"]])
    labels: Environment = Field(default_factory=dict, description="Labels of the container.", examples=[{"team": "ml"}])
    mem_limit: SizeBytes | None = Field(None, description="Hard limit on its host memory.", examples=["16g"])
    cpus: PositiveFloat | None = Field(None, description="CPUs it may use.", examples=[4])
    pull_policy: PullPolicy = Field(PullPolicy.MISSING, description="When the image is fetched.", examples=["missing"])
    stop_grace_period: Seconds = Field(
        30.0, description="From SIGTERM to SIGKILL when it is stopped.", examples=["30s"]
    )
    networks: tuple[str, ...] = Field((), description="Docker networks it joins.", examples=[["backend"]])


class ServiceConfig(ContainerKeys):
    """One inference service."""

    type: EngineType = Field(
        EngineType.GENERIC,
        description="Kind of server inside; it supplies port, health path and deadlines.",
        examples=["llama-cpp-server"],
    )
    url: Url | None = Field(
        None,
        description="A service that already runs elsewhere: origin and optional base path.",
        examples=["http://10.0.0.7:8000/v1"],
    )
    tls: ServiceTls | None = Field(None, description="For a `url` of https: whom to believe to be the service.")
    runtime: RuntimeKind | None = Field(
        None,
        validate_default=True,
        description="Driver. Default: external with `url`, docker with `image`, process otherwise.",
        examples=["docker"],
    )
    headers: Headers = Field(
        default_factory=dict,
        description="Headers set on every request to the service, replacing the client's.",
        examples=[{"authorization": "Bearer ${UPSTREAM_KEY}"}],
    )
    forward_key: bool = Field(
        False,
        description="The client's key for this proxy is shown to the service; else the field with it ends here.",
        examples=[False],
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Port on which the server listens. Default: the engine's.", examples=[8080]
    )
    models: Models | None = Field(
        None,
        description="Model names that clients may use. A list passes the name on; a map {client's: engine's} replaces "
        "it. `*` matches any run of characters. Default: the service's id.",
        examples=[["chat", "big-*"], {"gpt-4o-mini": "Qwen/Qwen2.5-32B-Instruct"}],
    )
    listen: Listen | None = Field(
        None,
        description="Address and port of its own, where every path is the service's: for web apps that can't live "
        "under a prefix. Port 0: any free one.",
        examples=["127.0.0.1:8188"],
    )
    unlisted: bool = Field(False, description="Keep its models out of /v1/models.", examples=[False])
    args: Argv = Field((), description="Appended to `command`.", examples=[["--ctx-size", "8192"]])
    vars: Vars = Field(
        default_factory=dict,
        description="Values for {name} in command, args, environment.",
        examples=[{"ctx": 8192}],
    )
    extends: str | None = Field(None, description="Template it starts from.", examples=["gguf"])
    resources: ResourceRequirements = Field(ResourceRequirements(), description="What it needs of the machine.")
    health: Health = Field(Health(), description="When it counts as ready.")
    timeouts: Timeouts = Field(Timeouts(), description="Deadlines of one exchange.")
    on_disconnect: OnDisconnect = Field(
        OnDisconnect.CANCEL,
        description="When a client leaves: cancel closes the connection to the engine; drain reads its answer to the "
        "end and throws it away, for engines that do not bear the former, and keeps the replica busy until then.",
        examples=["cancel"],
    )
    half_close: HalfClose = Field(
        HalfClose.END,
        description="When a client closes its sending side after its request: end takes it to have left; keep answers "
        "it all the same, and learns of one that did leave only by a reset.",
        examples=["end"],
    )
    limits: Limits = Field(Limits(), description="How much it takes at once.")
    idle_timeout_s: IdleTimeout | None = Field(
        None,
        description="Stopped after this long without a request, in seconds; null: only when its room is needed.",
        examples=[1800],
    )
    preload: bool = Field(False, description="Started when the proxy starts.", examples=[True])
    pinned: bool = Field(False, description="Never evicted, never stopped for being idle.", examples=[True])
    priority: Priority = Field(
        Priority.NORMAL,
        description="Who goes first where room is scarce; idle services of a higher one are evicted only by a claim.",
        examples=["high"],
    )
    weight: PositiveFloat = Field(
        1, description="What a second of its loading counts against one of the others'.", examples=[2]
    )
    conflicts: Strings = Field(
        (), description="Services that may not be in memory while it is, in either direction.", examples=[["comfyui"]]
    )
    requires: Strings = Field(
        (),
        description="Services that have to be ready before it starts, and stay as long as it does.",
        examples=[["embed"]],
    )
    replicas: Replicas = Field(Replicas(), description="How many copies of it may run.")
    sleep: Sleep = Field(
        "auto",
        description="Whether it sleeps instead of stopping to make room: `auto` (where its engine can), `off`, or the "
        "levels that it may use.",
        examples=["auto", [1]],
    )

    @field_validator("runtime")
    @classmethod
    def _runtime_agrees(cls, runtime: RuntimeKind | None, info: ValidationInfo) -> RuntimeKind | None:
        """Runs also where `runtime` is not given; it comes after the keys that imply it, whose faults are their own."""
        said = info.data
        if not {"image", "command", "url"} <= said.keys():
            return runtime
        implied = _implied_runtime(said["url"], said["image"])
        if said["url"] is not None and (said["image"] or said["command"]):
            raise Rejected("url means that it runs elsewhere", "remove image and command, or remove url")
        if runtime is not None and runtime is not implied:
            raise Rejected(f"{runtime} does not agree with its keys, which say {implied}", "remove runtime")
        if implied is RuntimeKind.PROCESS and not said["command"]:
            raise Rejected("nothing to run", "give image (docker), command (process) or url (external)")
        return runtime

    @property
    def kind(self) -> RuntimeKind:
        """The driver, said or implied."""
        return self.runtime or _implied_runtime(self.url, self.image)


def _implied_runtime(url: str | None, image: str | None) -> RuntimeKind:
    if url is not None:
        return RuntimeKind.EXTERNAL
    return RuntimeKind.DOCKER if image else RuntimeKind.PROCESS


class DeviceConfig(Section):
    """A GPU declared by hand."""

    id: str = Field(
        description="Index as nvidia-smi shows it; `0:1` for a MIG instance, `amd0` for AMD's first GPU.",
        examples=["0"],
        coerce_numbers_to_str=True,
    )
    vram_mb: PositiveInt = Field(description="Capacity in MiB.", examples=[24576])
    uuid: str | None = Field(None, description="UUID that a container runtime knows.", examples=["GPU-5d2c…"])
    name: str = Field("", description="Name for people.", examples=["RTX 4090"])


class DiscoverRule(Section):
    """One service for each model file that a pattern matches."""

    glob: Annotated[str, Field(min_length=1)] = Field(
        description="Pattern of the files: `*`, `?`, `[a-z]`, and `**` for any depth; relative to the config file. "
        "Shards count as one file, `mmproj` files as none.",
        examples=["/srv/models/*.gguf"],
    )
    extends: str = Field(
        description="Template of the services. It is given {file} (below the pattern's fixed part), {path} (absolute) "
        "and {mmproj} (as {file}, where a projector for the model sits beside it).",
        examples=["gguf"],
    )
    extends_with_mmproj: str | None = Field(
        None, description="Template in its place for a model with a projector.", examples=["gguf-vision"]
    )


class Config(Section):
    """A whole config file."""

    name: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9-]{0,31}$",
        description="Name of this proxy, in labels and container names. Default: a hash of the file's path.",
        examples=["home"],
    )
    state_dir: str | None = Field(
        None,
        description="Where lock and state live. Default: $XDG_STATE_HOME/ai-proxy/<name>.",
        examples=["/var/lib/ai-proxy"],
    )
    server: ServerConfig = Field(ServerConfig(), description="The listener.")
    management: ManagementConfig = Field(ManagementConfig(), description="The management plane.")
    log: LogConfig = Field(LogConfig(), description="Logging.")
    docker: DockerConfig = Field(DockerConfig(), description="What all containers have in common.")
    keys: Keys = Field(
        (),
        description="API keys. Without one for models, everybody who reaches the port may use them.",
        examples=[[{"name": "backend", "hash": "${BACKEND_KEY_HASH}", "models": ["chat"]}]],
    )
    scheduling: SchedulingConfig = Field(SchedulingConfig(), description="Waiting and fairness.")
    devices: Annotated[
        Annotated[Literal["auto"], Tag("found")] | Annotated[tuple[DeviceConfig, ...], Tag("listed")],
        Discriminator(lambda value: "listed" if isinstance(value, list | tuple) else "found"),
    ] = Field(
        "auto",
        description="GPUs: found by themselves, or a list.",
        examples=["auto", [{"id": "0", "vram_mb": 24576}]],
    )
    memory_mb: PositiveInt | None = Field(
        None,
        description="Host memory that services may reserve, in MiB. Default: all of it.",
        examples=[65536],
    )
    capacities: dict[str, PositiveInt] = Field(
        default_factory=dict,
        description="Resources of your own that services share: how much there is of each; services take some under "
        "`resources`.",
        examples=[{"licences": 2}],
    )
    discover: tuple[DiscoverRule, ...] = Field(
        (),
        description="Services made of the model files that are there; one written by hand wins over its namesake.",
        examples=[[{"glob": "/srv/models/*.gguf", "extends": "gguf"}]],
    )
    default_service: str | None = Field(
        None,
        description="Takes paths that no route knows and requests that name no model.",
        examples=["chat"],
    )
    services: dict[ServiceId, ServiceConfig] = Field(
        description="The services by id.",
        examples=[{"chat": {"image": "vllm/vllm-openai:v0.11.2", "type": "vllm"}}],
    )
