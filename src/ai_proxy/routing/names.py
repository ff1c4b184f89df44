"""The model names that clients may use, and what each one means.

Exact names are one dict; wildcards are compiled once and scanned, the one with the most literal characters first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from ai_proxy.config.models import ServiceConfig
from ai_proxy.config.naming import LONGEST_MATCHED, pattern_of
from ai_proxy.errors import UnknownModel
from ai_proxy.routing.nearest import advice, shown


@dataclass(frozen=True, slots=True)
class Target:
    """What a model name means.

    Attributes:
        service: Id of the service that offers it.
        rename: The engine's name for it; None where the client's name is passed on untouched.
    """

    service: str
    rename: str | None = None


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A line of /v1/models."""

    name: str
    service: str


class ModelNames:
    """Every model name of a config; immutable.

    Args:
        services: The services by id; one without `models` offers its own id.

    Raises:
        ValueError: Two services claim one name.
    """

    def __init__(self, services: Mapping[str, ServiceConfig]) -> None:
        self._claims: dict[str, Target] = {}
        for service, settings in services.items():
            for name, engine_name in _models(service, settings).items():
                if name in self._claims:
                    rival = self._claims[name].service
                    raise ValueError(f"model {name!r} is claimed by two services: {rival}, {service}")
                self._claims[name] = Target(service, None if engine_name == name else engine_name)
        wild = sorted((name for name in self._claims if "*" in name), key=_literal_length, reverse=True)
        self._wildcards = tuple((pattern_of(name), self._claims.pop(name)) for name in wild)
        self._most_slashes = max((name.count("/") for name in self._claims), default=0)
        self.listed = tuple(
            ListedModel(name, target.service)
            for name, target in self._claims.items()
            if not services[target.service].unlisted
        )

    def __repr__(self) -> str:
        return f"<ModelNames {len(self._claims)} exact, {len(self._wildcards)} wild>"

    def resolve(self, name: str) -> Target:
        """Find who offers `name`: exactly, or else by the longest wildcard that matches.

        Raises:
            UnknownModel: Nobody does.
        """
        target = self._claims.get(name)
        if target is not None:
            return target
        if len(name) <= LONGEST_MATCHED:
            for pattern, wild in self._wildcards:
                if pattern.match(name):
                    return wild
        known = advice(name, (model.name for model in self.listed))
        raise UnknownModel(f"no model {shown(name)} here; {known}", param="model")

    def leading(self, path: bytes) -> tuple[str, bytes] | None:
        """Split a raw path, its first slash taken off, after the exact name with which it begins.

        A name may contain slashes, written as they are or percent-encoded. Wildcards don't count: they leave open
        where a name ends.
        """
        end = -1
        for _ in range(self._most_slashes + 1):
            end = path.find(b"/", end + 1)
            raw = path if end < 0 else path[:end]
            target = self._claims.get(unquote_to_bytes(raw).decode("utf-8", "replace"))
            if target is not None:
                return target.service, path[len(raw) :]
            if end < 0:
                break
        return None


def _models(service: str, settings: ServiceConfig) -> dict[str, str | None]:
    return {service: None} if settings.models is None else settings.models


def _literal_length(pattern: str) -> int:
    return len(pattern) - pattern.count("*")
