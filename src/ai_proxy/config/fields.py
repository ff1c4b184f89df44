"""The value forms that a config may use, each checked where it enters: durations, sizes, volumes, ids.

Pure. Rejects, never repairs: a value that would have to be guessed is an error that shows the accepted form.
"""

import re
import shlex
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(b|k|kb|m|mb|g|gb)?", re.IGNORECASE)
_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "k": 1 << 10,
    "kb": 1 << 10,
    "m": 1 << 20,
    "mb": 1 << 20,
    "g": 1 << 30,
    "gb": 1 << 30,
}
_SERVICE_ID = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")


def duration_s(value: object) -> float:
    """Read a Compose duration as seconds.

    Example:
        >>> duration_s("1m30s"), duration_s("0.5s"), duration_s(10)
        (90.0, 0.5, 10.0)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if match is None:
        raise ValueError(f"not a duration: {value!r}; write 30s, 1m30s or 1h")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def size_bytes(value: object) -> int:
    """Read a Compose size as bytes.

    Example:
        >>> size_bytes("2g"), size_bytes("512m"), size_bytes(1024)
        (2147483648, 536870912, 1024)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"not a size: {value!r}; write 512m or 2g")
    return int(float(match[1]) * _SIZE_UNITS[(match[2] or "").lower()])


def volume(value: str) -> str:
    """Check `host:container[:ro|rw]`; a host part without a slash is a Docker volume.

    Example:
        >>> volume("/srv/models:/models:ro")
        '/srv/models:/models:ro'
    """
    parts = value.split(":")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise ValueError(f"not a volume: {value!r}; write host:container or host:container:ro")
    if not parts[1].startswith("/"):
        raise ValueError(f"the container's path must be absolute: {parts[1]!r}")
    if len(parts) == 3 and parts[2] not in {"ro", "rw"}:
        raise ValueError(f"volume mode must be ro or rw, not {parts[2]!r}")
    return value


def argv(value: object) -> tuple[str, ...]:
    """Read a command: a list as it is, a string split as a shell splits words (no shell runs).

    Example:
        >>> argv("-m /models/x.gguf --alias 'a b'")
        ('-m', '/models/x.gguf', '--alias', 'a b')
    """
    if isinstance(value, str):
        return tuple(shlex.split(value))
    if not isinstance(value, list | tuple):
        raise TypeError("write a string or a list of strings")
    for item in value:
        if isinstance(item, dict):
            name = next(iter(item), "port")
            raise ValueError(f'YAML read {{{name}}} as a mapping; quote it: "{{{name}}}"')
    return tuple(str(item) for item in value)


def environment(value: object) -> object:
    """Read Compose's two forms, a mapping or a list of `NAME=value`, as a mapping.

    Example:
        >>> environment(["A=1", "B=x=y"])
        {'A': '1', 'B': 'x=y'}
    """
    if isinstance(value, list):
        pairs = (str(item).partition("=") for item in value)
        return {name: text for name, _, text in pairs}
    if isinstance(value, dict):
        return {name: _scalar(item) for name, item in value.items()}
    return value


def _scalar(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def service_id(value: str) -> str:
    """Check a service id: it is part of URLs, container names and labels.

    Example:
        >>> service_id("qwen2.5-7b")
        'qwen2.5-7b'
    """
    if not _SERVICE_ID.fullmatch(value):
        raise ValueError(f"not a service id: {value!r}; use a-z, 0-9, dot, dash, underscore, at most 63 characters")
    return value


def one_or_many(value: object) -> object:
    """Read a lone string as a list of one."""
    return [value] if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(duration_s), Field(ge=0)]
SizeBytes = Annotated[int, BeforeValidator(size_bytes), Field(gt=0)]
Volume = Annotated[str, AfterValidator(volume)]
Argv = Annotated[tuple[str, ...], BeforeValidator(argv)]
Environment = Annotated[dict[str, str], BeforeValidator(environment)]
ServiceId = Annotated[str, AfterValidator(service_id)]
Strings = Annotated[tuple[str, ...], BeforeValidator(one_or_many)]
