"""What a new config changes: which services come, go, restart, or change live.

Pure. Owns the line between what shapes a replica (a change restarts it) and what does not.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from ai_proxy.config.models import Config, ContainerKeys, ServiceConfig

_SHAPING = frozenset(ContainerKeys.model_fields) - {"pull_policy", "stop_grace_period", "env_file"} | {
    "args",
    "port",
    "tls",
    "type",
    "url",
}
_AT_START_ONLY = frozenset({
    "name", "state_dir", "devices", "memory_mb", "capacities", "scheduling.headroom_mb",
    "log.level", "log.format", "log.access", "management.host", "management.port", "server.host", "server.port",
    "server.drain_timeout_s", "server.head_timeout_s", "server.body_idle_timeout_s", "server.keep_alive_s",
    "server.tls", "docker.network",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """The difference between two configs.

    Attributes:
        added: Ids of services that are new.
        removed: Ids of services that are gone: they drain, then stop.
        restarts: Ids of services whose replicas must be replaced: a busy one drains first.
        live: Ids of services whose change takes effect without touching a replica.
        settings: Paths of the keys outside `services` that changed.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restarts: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any((self.added, self.removed, self.restarts, self.live, self.settings))

    @property
    def deferred(self) -> tuple[str, ...]:
        """Those of `settings` that take effect only when the proxy is started again."""
        return tuple(key for key in self.settings if key in _AT_START_ONLY)

    @property
    def words(self) -> str:
        """It in words.

        Example:
            >>> Change(added=("chat",), settings=("log.level", "server.port")).words
            'added chat; set log.level, server.port (at the next start: log.level, server.port)'
        """
        parts = {
            "added": self.added,
            "removed": self.removed,
            "replaced": self.restarts,
            "changed without a restart": self.live,
            "set": self.settings,
        }
        said = "; ".join(f"{verb} {', '.join(names)}" for verb, names in parts.items() if names)
        return f"{said} (at the next start: {', '.join(self.deferred)})" if self.deferred else said


def diff(old: Config, new: Config) -> Change:
    """Compare two configs; ids and keys come sorted.

    Example:
        >>> old = Config.model_validate({"services": {"a": {"image": "x"}, "b": {"image": "y"}}})
        >>> new = Config.model_validate({"services": {"a": {"image": "z"}, "b": {"image": "y", "pinned": True}}})
        >>> diff(old, new)
        Change(added=(), removed=(), restarts=('a',), live=('b',), settings=())
    """
    both = old.services.keys() & new.services.keys()
    changed = {service for service in both if old.services[service] != new.services[service]}
    restarts = {service for service in changed if spec_hash(old.services[service]) != spec_hash(new.services[service])}
    return Change(
        added=tuple(sorted(new.services.keys() - both)),
        removed=tuple(sorted(old.services.keys() - both)),
        restarts=tuple(sorted(restarts)),
        live=tuple(sorted(changed - restarts)),
        settings=tuple(sorted(_changed_settings(old, new))),
    )


def spec_hash(service: ServiceConfig) -> str:
    """Hash what shapes a replica: 16 hex digits, the same in every process and on every machine.

    Models, limits, deadlines, health, idle and pull settings don't count, nor does reserved memory, unless the
    replica is told of it through `{vram_fraction}`.

    Example:
        >>> spec_hash(ServiceConfig(image="x")) == spec_hash(ServiceConfig(image="x", pinned=True))
        True
        >>> spec_hash(ServiceConfig(image="x")) == spec_hash(ServiceConfig(image="y"))
        False
    """
    # mode="json" gives plain values; keys left at their defaults are left out, so that a new key changes no hash.
    shape = service.model_dump(mode="json", include=set(_SHAPING), exclude_defaults=True)
    shape["runtime"] = service.kind.value
    shape["gpus"] = service.model_dump(mode="json")["resources"]["gpus"]
    if "{vram_fraction}" in json.dumps(shape):
        shape["vram_required_mb"] = service.resources.vram_required_mb
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]


def _changed_settings(old: Config, new: Config) -> Iterator[str]:
    before, after = _settings(old), _settings(new)
    return (key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def _settings(config: Config) -> dict[str, object]:
    """Everything outside `services`, one level of sections flattened."""
    flat: dict[str, object] = {}
    for key, value in config.model_dump(mode="json", exclude={"services"}).items():
        flat |= {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, dict) else {key: value}
    return flat
