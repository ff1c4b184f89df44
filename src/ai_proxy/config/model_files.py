"""Which files a pattern finds count as models, and what each is called as a service.

Looks into directories and reads no file. A model in shards is one file, and none until all of it is there; a
projector (`mmproj…`) is no model but belongs to one. Knows nothing of services and templates.
"""

import glob
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ai_proxy.config.naming import legal_id, unused_id

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})")
# What tells one quantisation of a model from another, at the end of its name: it does not matter to a projector.
_QUANTISATION = re.compile(r"i?q\d\w*|b?fp?(?:16|32)|mxfp\d\w*|ud|imat\w*|i\d")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that lies on this machine.

    Attributes:
        path: The file, absolute; of several shards the first.
        file: The same, seen from the fixed part of the pattern.
        mmproj: Its projector, seen from there too; None where it has none.
    """

    path: Path
    file: str
    mmproj: str | None = None

    @property
    def name(self) -> str:
        """The file's name without its ending and the count of shards."""
        return _stem(self.path)


@dataclass(frozen=True, slots=True)
class Search:
    """What a pattern finds.

    Attributes:
        models: The models, sorted by path.
        incomplete: What is no model yet because shards are missing, in words.
    """

    models: tuple[ModelFile, ...] = ()
    incomplete: tuple[str, ...] = ()


def absolute(pattern: str, directory: Path) -> str:
    """A pattern as the rest of this module wants it.

    Example:
        >>> absolute("models/*.gguf", Path("/etc/ai-proxy"))
        '/etc/ai-proxy/models/*.gguf'
    """
    return str(directory.absolute() / Path(pattern).expanduser())


def fixed_part(pattern: str) -> Path:
    """The directory below which everything that an absolute pattern may find lies.

    Example:
        >>> fixed_part("/srv/models/*/*.gguf")
        PosixPath('/srv/models')
    """
    parent = Path(pattern).parent
    return next(place for place in (parent, *parent.parents) if not glob.has_magic(str(place)))


def search(pattern: str) -> Search:
    """Look for models.

    Args:
        pattern: An absolute pattern: `*`, `?`, `[a-z]`, and `**` for directories of any depth.
    """
    base = fixed_part(pattern)
    beside: dict[Path, list[Path]] = {}
    incomplete: list[str] = []
    for path in sorted(_files(pattern)):
        if _is_projector(path):
            continue
        missing = _missing_shards(path)
        if missing is None:
            continue
        if missing:
            incomplete.append(f"{path.name} waits for {len(missing)} more of its shards, such as {missing[0]}")
        else:
            beside.setdefault(path.parent, []).append(path)
    models = [
        ModelFile(path, _seen_from(path, base), _seen_from(projector, base) if projector else None)
        for directory, paths in beside.items()
        for path, projector in _with_projectors(directory, paths)
    ]
    return Search(tuple(sorted(models, key=lambda model: model.path)), tuple(incomplete))


def names(pattern: str) -> list[str]:
    """Every path on which a search depends, sorted: while these stay, so does what it finds."""
    found = set(_files(pattern))
    for directory in {path.parent for path in found}:
        found.update(_entries(directory))  # shards and projectors count that the pattern need not match
    return sorted(map(str, found))


def ids(models: Iterable[ModelFile]) -> Mapping[ModelFile, str]:
    """Give each model a legal id of its own, from its name; namesakes get their directories in front.

    Example:
        >>> files = [ModelFile(Path(f"/m/{name}"), name) for name in ("Qwen 3.gguf", "a/x.gguf", "b/x.gguf")]
        >>> list(ids(files).values())
        ['qwen-3', 'a-x', 'b-x']
    """
    by_name: dict[str, list[ModelFile]] = {}
    for model in models:
        by_name.setdefault(legal_id(model.name), []).append(model)
    given: dict[ModelFile, str] = {}
    used = {name for name, namesakes in by_name.items() if len(namesakes) == 1}
    for name, namesakes in by_name.items():
        for model in namesakes:
            given[model] = name if len(namesakes) == 1 else unused_id(legal_id(_below(model)), used)
            used.add(given[model])
    return given


def _files(pattern: str) -> Iterator[Path]:
    every = glob.iglob(pattern, recursive=True)  # noqa: PTH207  # pathlib's looks into hidden directories
    return (path for found in every if (path := Path(found)).is_file())


def _entries(directory: Path) -> list[Path]:
    """What is in a directory; nothing if it went away meanwhile."""
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _is_projector(path: Path) -> bool:
    return "mmproj" in path.name.lower()


def _stem(path: Path) -> str:
    shard = _SHARD.fullmatch(path.stem)
    return shard["stem"] if shard else path.stem


def _missing_shards(path: Path) -> list[str] | None:
    """Names of the shards that are not beside a file; None for a shard that is spoken for by an earlier one."""
    shard = _SHARD.fullmatch(path.stem)
    if shard is None:
        return []
    total = int(shard["total"])
    others = [f"{shard['stem']}-{number:05}-of-{shard['total']}{path.suffix}" for number in range(1, total + 1)]
    there = [name for name in others if (path.parent / name).is_file()]
    return [name for name in others if name not in there] if there[:1] == [path.name] else None


def _with_projectors(directory: Path, models: list[Path]) -> Iterator[tuple[Path, Path | None]]:
    """Each model of a directory with the projector made for it.

    It is told by its name: `mmproj-gemma-3-12b-f16.gguf` is made for every quantisation of `gemma-3-12b`. One that
    names no model is for the directory's, if that is one model.
    """
    projectors = {_family(path): path for path in sorted(_entries(directory), reverse=True) if _is_projector(path)}
    families = {_family(model) for model in models}
    nameless = projectors.get("") if len(families) == 1 else None
    return ((model, projectors.get(_family(model), nameless)) for model in models)


def _family(path: Path) -> str:
    """A model's name without its quantisation, and a projector's without that it is one.

    Example:
        >>> _family(Path("gemma-3-12b-it-Q4_K_M.gguf")), _family(Path("mmproj-gemma-3-12b-it-f16.gguf"))
        ('gemma-3-12b-it', 'gemma-3-12b-it')
        >>> _family(Path("mmproj-model-f16.gguf"))
        ''
    """
    words = re.split(r"[-.\s]", _stem(path).lower())
    if _is_projector(path):
        words = [word for word in words if word not in {"mmproj", "model"}]
    while words and _QUANTISATION.fullmatch(words[-1]):
        words.pop()
    return "-".join(words)


def _seen_from(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix()


def _below(model: ModelFile) -> str:
    """The directories of a model and its name."""
    return str(Path(model.file).with_name(model.name))
