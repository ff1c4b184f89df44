"""Which files of this machine a service's command names: what its engine is going to read.

A container's paths are followed through its volumes to the host's. Only large regular files count, the shards of a
split model with its first, and the weights in a directory that is one model.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from ai_proxy.config.models import RuntimeKind, ServiceConfig
from ai_proxy.config.substitute import fill
from ai_proxy.devices import Placement
from ai_proxy.runtimes.base import InstanceSpec

MIN_BYTES = 64 * 1024 * 1024
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
_SHARD = re.compile(r"-\d{5}-of-(\d{5})(?=\.)")
_SEPARATORS = re.compile(r"[\s=,'\"]+")


def weights_of(service: str, config: ServiceConfig) -> tuple[Path, ...]:
    """The large files that a service's command names, each once, in the order in which they are named."""
    found: dict[Path, None] = {}
    for place in places(service, config):
        for path in _files_at(place):
            found[path] = None
    return tuple(found)


def places(service: str, config: ServiceConfig) -> Iterator[Path]:
    """Where on this machine the words of a command may lead; what is there was not looked at.

    Example:
        >>> keys = {"image": "x", "command": "-m /models/{file}", "vars": {"file": "a.gguf"}}
        >>> config = ServiceConfig.model_validate({**keys, "volumes": ["/srv/models:/models:ro"]})
        >>> [str(place) for place in places("chat", config)]
        ['/srv/models/a.gguf']
    """
    values = InstanceSpec(service, config, Placement(), "").placeholders(0)
    for text in (*(config.entrypoint or ()), *(config.command or ()), *config.args, *config.environment.values()):
        for word in _SEPARATORS.split(fill(text, values)):
            place = _on_host(word, config)
            if place is not None:
                yield place


def _on_host(word: str, config: ServiceConfig) -> Path | None:
    if not word or word.startswith("-") or len(word) > 4096:
        return None
    if config.kind is not RuntimeKind.DOCKER:
        return Path(config.working_dir or "", word)
    inside = PurePosixPath(config.working_dir or "/", word)
    for volume in config.volumes:
        source, target, *_ = volume.split(":")
        if "/" in source and inside.is_relative_to(target):
            return Path(source, inside.relative_to(target))
    return None


def _files_at(place: Path) -> Iterator[Path]:
    if place.is_dir():
        # One model as Hugging Face lays it out; any other directory is a store of many.
        named: Iterable[Path] = (
            [path for kind in _WEIGHTS for path in sorted(place.glob(kind))]
            if (place / "config.json").is_file()
            else ()
        )
    else:
        named = _with_shards(place)
    for path in named:
        if path.is_file() and path.stat().st_size >= MIN_BYTES:
            yield path


def _with_shards(path: Path) -> Iterable[Path]:
    """A split model is named by its first file alone.

    Example:
        >>> [it.name for it in _with_shards(Path("a-00001-of-00002.gguf"))]
        ['a-00001-of-00002.gguf', 'a-00002-of-00002.gguf']
    """
    split = _SHARD.search(path.name)
    if split is None:
        return [path]
    count = split[1]
    return [
        path.with_name(path.name.replace(split[0], f"-{number:05}-of-{count}")) for number in range(1, int(count) + 1)
    ]
