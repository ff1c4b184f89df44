"""From a spec to what the engine is asked to create, and from labels back to an instance. Pure.

Container keys mean here what they mean in Compose; what values they may have was checked when the config was read.
"""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from ai_proxy.config.models import ServiceConfig, Ulimit
from ai_proxy.config.substitute import fill
from ai_proxy.devices import Device, Placement, Vendor
from ai_proxy.errors import StartFailed
from ai_proxy.runtimes.base import Instance, InstanceSpec
from ai_proxy.runtimes.docker.state import ContainerState

NAME = "ai-proxy.name"
SERVICE = "ai-proxy.service"
REPLICA = "ai-proxy.replica"
SPEC = "ai-proxy.spec"
PORT = "ai-proxy.port"
DEVICES = "ai-proxy.devices"
VRAM_MB = "ai-proxy.reserved-vram-mb"
MEMORY_MB = "ai-proxy.reserved-memory-mb"
CUSTOM = "ai-proxy.reserved-custom"
START = "ai-proxy.start"
"""Differs for every start, so that a container whose creation was never confirmed is known again."""

_AMD_FILES = ("/dev/kfd", "/dev/dri")
_LOG_CONFIG = {"Type": "json-file", "Config": {"max-size": "50m", "max-file": "2"}}


def container_name(proxy: str, service: str, replica: int) -> str:
    """Name the container of a replica.

    Example:
        >>> container_name("home", "chat", 0)
        'ai-proxy-home-chat-0'
    """
    return f"ai-proxy-{proxy}-{service}-{replica}"


def image_of(config: ServiceConfig) -> str:
    """The image of a service.

    Raises:
        StartFailed: It has none.

    Example:
        >>> image_of(ServiceConfig(image="busybox"))
        'busybox'
    """
    if config.image is None:
        raise StartFailed("no image: the docker runtime needs one")
    return config.image


def create_body(
    spec: InstanceSpec, labels: Mapping[str, str], port: int, *, network: str, publish: bool
) -> dict[str, Any]:
    """Describe the container of a spec, as `POST /containers/create` wants it.

    Args:
        spec: What to start.
        labels: Labels by which the container is known again; they win over the user's.
        port: Where the server in the container listens.
        network: The network that it is created on.
        publish: Whether the port is published on a free port of 127.0.0.1.
    """
    config, values = spec.config, spec.placeholders(port)
    devices = spec.placement.devices
    body = {
        "Image": config.image,
        "Cmd": [fill(word, values) for word in (*(config.command or ()), *config.args)] or None,
        "Entrypoint": None if config.entrypoint is None else list(config.entrypoint),
        "Env": [f"{name}={fill(value, values)}" for name, value in _environment(config, devices).items()],
        "User": config.user,
        "WorkingDir": config.working_dir,
        "Labels": {**config.labels, **labels},
        "StopTimeout": math.ceil(config.stop_grace_period),
        "HostConfig": {"NetworkMode": network, **_host_config(config, devices, port, publish=publish)},
    }
    if publish:
        body["ExposedPorts"] = {f"{port}/tcp": {}}
    return {key: value for key, value in body.items() if value is not None}


def labels_of(proxy: str, spec: InstanceSpec, port: int, start: str) -> dict[str, str]:
    """Write down all that adoption needs to know: labels alone rebuild the instance."""
    return {
        NAME: proxy,
        SERVICE: spec.service,
        REPLICA: str(spec.replica),
        SPEC: spec.spec_hash,
        PORT: str(port),
        DEVICES: json.dumps([asdict(device) for device in spec.placement.devices]),
        VRAM_MB: str(spec.placement.vram_mb),
        MEMORY_MB: str(spec.placement.memory_mb),
        CUSTOM: json.dumps(dict(spec.placement.custom)),
        START: start,
    }


def instance_of(state: ContainerState, near: Collection[str] = ()) -> Instance | None:
    """Rebuild the handle of a running container from its labels; None where labels or address lack.

    Args:
        state: It.
        near: Networks that the proxy's own container is on, if it is in one.
    """
    labels = state.labels
    try:
        origin = state.origin(int(labels[PORT]), near)
        placement = Placement(
            devices=tuple(_device(**device) for device in json.loads(labels[DEVICES])),
            vram_mb=int(labels[VRAM_MB]),
            memory_mb=int(labels[MEMORY_MB]),
            custom=tuple(json.loads(labels.get(CUSTOM, "{}")).items()),
        )
        replica, service, spec_hash = int(labels[REPLICA]), labels[SERVICE], labels[SPEC]
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
    if origin is None:
        return None
    host, port = origin
    return Instance(
        id=state.id,
        service=service,
        host=host,
        port=port,
        placement=placement,
        spec_hash=spec_hash,
        replica=replica,
    )


def _host_config(config: ServiceConfig, devices: tuple[Device, ...], port: int, *, publish: bool) -> dict[str, Any]:
    given = {
        "ShmSize": config.shm_size,
        "IpcMode": config.ipc,
        "Memory": config.mem_limit,
        "NanoCpus": None if config.cpus is None else round(config.cpus * 1e9),
        "ExtraHosts": list(config.extra_hosts),
        "CapAdd": list(config.cap_add),
        "SecurityOpt": list(config.security_opt),
        "Ulimits": [_ulimit(name, limit) for name, limit in config.ulimits.items()],
        "Mounts": [_mount(volume) for volume in config.volumes],
        "DeviceRequests": _device_requests(devices),
        "Devices": [_device_file(path) for path in _AMD_FILES if _of(Vendor.AMD, devices)],
        "PortBindings": {f"{port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]} if publish else None,
    }
    return {
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        "LogConfig": _LOG_CONFIG,
        **{key: value for key, value in given.items() if value},
    }


def _environment(config: ServiceConfig, devices: tuple[Device, ...]) -> dict[str, str]:
    environment = config.environment
    if amd := _of(Vendor.AMD, devices):
        environment = {**environment, "ROCR_VISIBLE_DEVICES": ",".join(device.handle for device in amd)}
    if not _of(Vendor.NVIDIA, devices):
        # CUDA images ask for every GPU, and get them where NVIDIA's runtime is the engine's default.
        environment = {**environment, "NVIDIA_VISIBLE_DEVICES": "void"}
    return environment


def _device_requests(devices: tuple[Device, ...]) -> list[dict[str, Any]]:
    nvidia = _of(Vendor.NVIDIA, devices)
    if not nvidia:
        return []
    return [{"Driver": "nvidia", "DeviceIDs": [device.handle for device in nvidia], "Capabilities": [["gpu"]]}]


def _device_file(path: str) -> dict[str, str]:
    return {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"}


def _of(vendor: Vendor, devices: tuple[Device, ...]) -> list[Device]:
    return [device for device in devices if device.vendor is vendor]


def _device(vendor: str = Vendor.NVIDIA, **fields: Any) -> Device:
    return Device(**fields, vendor=Vendor(vendor))


def _mount(volume: str) -> dict[str, Any]:
    """A mount, never a bind: the engine makes a bind's missing source, as root, and empty."""
    source, target, *mode = volume.split(":")
    return {
        "Type": "bind" if "/" in source else "volume",
        "Source": source,
        "Target": target,
        "ReadOnly": mode == ["ro"],
    }


def _ulimit(name: str, limit: int | Ulimit) -> dict[str, Any]:
    soft, hard = (limit, limit) if isinstance(limit, int) else (limit.soft, limit.hard)
    return {"Name": name, "Soft": soft, "Hard": hard}
