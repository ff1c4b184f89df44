"""What to say to a key that we don't have: our word for it, its place, or the nearest name.

Pure data and look-ups. The words are Compose's, llama-swap's, Kubernetes', Ollama's and large-model-proxy's.
"""

import difflib
from collections.abc import Iterator
from typing import get_args, get_origin

from pydantic.fields import FieldInfo

from ai_proxy.config.models import Config, ServiceConfig
from ai_proxy.config.section import Section

_SERVICE_WORDS = {
    # Compose
    "build": "build the image beforehand and name it in image",
    "container_name": "remove it: containers are named after the proxy and the service's id",
    "depends_on": "remove it: services start when a request needs them",
    "deploy": "write resources: {gpus: …, min_memory_mb: …}; replicas and restart policy are ours",
    "device_requests": "write resources.gpus",
    "devices": "write resources.gpus",
    "env": "write environment",
    "expose": "write port: the one port on which the server listens",
    "healthcheck": "write health: {path: /health, start_timeout_s: 600}",
    "mem_reservation": "write resources.min_memory_mb, in MiB",
    "network_mode": "write networks",
    "ports": "write port: the container's port; nothing is published",
    "restart": "remove it: a service that ended starts again at the next request",
    "start_period": "write health.start_timeout_s",
    # llama-swap
    "aliases": "write models: [name, other-name]",
    "checkEndpoint": "write health.path",
    "cmd": "write command",
    "cmdStop": "remove it: replicas are stopped by SIGTERM, then SIGKILL after stop_grace_period",
    "concurrencyLimit": "write limits.max_in_flight",
    "macros": "write vars",
    "proxy": "write port, or url for a server that runs elsewhere",
    "ttl": "write idle_timeout_s; null for never",
    "unloadTimeout": "write stop_grace_period",
    "useModelName": "write models: {client's name: engine's name}",
    # Kubernetes
    "affinity": "write resources.gpus",
    "containers": "write the container's keys (image, command, …) here",
    "hostIPC": "write ipc: host",
    "imagePullPolicy": "write pull_policy: missing, always or never",
    "initialDelaySeconds": "write health.start_timeout_s",
    "livenessProbe": "write health: {path: /health}",
    "nodeSelector": "write resources.gpus",
    "readinessProbe": "write health: {path: /health}",
    "securityContext": "write user, cap_add or security_opt",
    "startupProbe": "write health: {path: /health, start_timeout_s: 600}",
    "terminationGracePeriodSeconds": "write stop_grace_period",
    "volumeMounts": "write volumes: [host:container]",
    "workingDir": "write working_dir",
    # Ollama, large-model-proxy
    "keep_alive": "write idle_timeout_s; null for never",
    "num_parallel": "write limits.max_in_flight",
    "Args": "write args",
    "Command": "write command",
    "HealthcheckCommand": "write health.path",
    "OpenAiApiModels": "write models",
    "ResourceRequirements": "write resources",
    "ShutDownAfterInactivitySeconds": "write idle_timeout_s; null for never",
    "StartupTimeoutMilliseconds": "write health.start_timeout_s, in seconds",
    "Workdir": "write working_dir",
}

_TOP_WORDS = {
    "apiKeys": "write keys: [{name: …, hash: …}]; `ai-proxy key hash` prints the entry of a key that you have",
    "globalTTL": "write defaults: {idle_timeout_s: …}",
    "groups": "remove it: what runs together follows from resources; conflicts in a service keeps others out",
    "healthCheckTimeout": "write defaults: {health: {start_timeout_s: …}}",
    "hooks": "write preload: true in the services concerned",
    "ListenPort": "write server.port",
    "logLevel": "write log.level",
    "macros": "write templates, and vars in a service",
    "matrix": "remove it: what runs together follows from resources",
    "models": "write services; `ai-proxy import FILE` does so",
    "networks": "remove it: name existing networks in the services",
    "Services": "write services; `ai-proxy import FILE` does so",
    "startPort": "remove it: ports are given out by the system and appear as {port}",
    "version": "remove it",
    "volumes": "remove it: Docker makes a named volume when it is first used",
}

_RESOURCE_WORDS = {
    "cpu": "write cpus in the service",
    "gpu": "write gpus",
    "limits": "write gpus, vram_required_mb and min_memory_mb here; mem_limit and cpus in the service",
    "memory": "write min_memory_mb, in MiB",
    "nvidia.com/gpu": "write gpus",
    "requests": "write gpus, vram_required_mb and min_memory_mb here",
    "reservations": "write gpus, vram_required_mb and min_memory_mb here",
    "vram_mb": "write vram_required_mb",
    "vram": "write vram_required_mb, in MiB",
}


def advice(key: str, section: type[Section]) -> str:
    """Say what to write instead of an unknown key.

    1. Another tool's word: ours.
    2. A key of ours that has another place: that place.
    3. The nearest key of the section.
    4. Else all its keys.

    Example:
        >>> advice("cmd", ServiceConfig), advice("vram_required_mb", ServiceConfig), advice("comand", ServiceConfig)
        ('write command', 'move it to resources.vram_required_mb', 'write command')
    """
    words = {"Config": _TOP_WORDS, "ServiceConfig": _SERVICE_WORDS, "ResourceRequirements": _RESOURCE_WORDS}
    if (word := words.get(section.__name__, {}).get(key)) is not None:
        return word
    if (place := _place(key, section)) is not None:
        return f"move it to {place}"
    known = [*section.model_fields, *(("defaults", "templates") if section is Config else ())]
    folded = {_folded(name): name for name in known}
    if near := difflib.get_close_matches(_folded(key), folded, 1, 0.7):
        return f"write {folded[near[0]]}"
    return f"remove it; known here: {', '.join(sorted(known))}"


def section_of(field: FieldInfo | None) -> type[Section] | None:
    """The section that a field holds, alone, in a list or in a map."""
    return next(_sections(field.annotation), None) if field else None


def _sections(annotation: object) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)


def is_map(field: FieldInfo) -> bool:
    """Whether a field's keys are the user's own names."""
    return get_origin(field.annotation) is dict


def _place(key: str, section: type[Section]) -> str | None:
    """Where a key of ours belongs, seen from a section that lacks it; sections near by come first."""
    for root, prefix in ((section, ""), (ServiceConfig, "services.<id>."), (Config, "")):
        if root is not section and key in root.model_fields:
            return prefix + key + (", or under defaults for all services" if root is ServiceConfig else "")
        for name, field in root.model_fields.items():
            inner = section_of(field)
            if inner is not None and inner is not section and _is_one(field) and key in inner.model_fields:
                return f"{prefix}{name}.{key}"
    return None


def _is_one(field: FieldInfo) -> bool:
    """Whether a field is one section, not a list or a map of them."""
    return isinstance(field.annotation, type)


def _folded(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()
