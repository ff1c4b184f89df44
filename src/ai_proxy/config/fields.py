"""The value forms that a config may use, each checked where it enters: durations, sizes, volumes, ids.

Pure. Rejects, never repairs: a value that would have to be guessed is an error that shows the accepted form. Values
come as text (from a file) or as Python values (from code); both are read alike.
"""

import re
import shlex
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

_DURATION = re.compile(r"(?=.)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmg]|[kmg]b)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SERVICE_ID = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_DOCKER_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[^\s?#]*)?")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Rejected(ValueError):
    """A value that can't be used.

    Args:
        message: What is wrong with it.
        fix: What to write instead.
    """

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(f"{message}; {fix}")
        self.message = message
        self.fix = fix


def duration_s(value: object) -> float:
    """Read a Compose duration, or a bare number of seconds, as seconds.

    Example:
        >>> duration_s("1m30s"), duration_s("0.5s"), duration_s(10), duration_s("10")
        (90.0, 0.5, 10.0, 10.0)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Rejected(f"not a duration: {value!r}", "write 30s, 1m30s or 1h")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def size_bytes(value: object) -> int:
    """Read a Compose size as bytes.

    Example:
        >>> size_bytes("2g"), size_bytes("512mb"), size_bytes(1024)
        (2147483648, 536870912, 1024)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Rejected(f"not a size: {value!r}", "write 512m or 2g")
    return int(float(match[1]) * _SIZE_UNITS[(match[2] or "")[:1].lower()])


def volume(value: str) -> str:
    """Check `host:container[:ro|rw]`; a host part without a slash is a Docker volume.

    Example:
        >>> volume("/srv/models:/models:ro")
        '/srv/models:/models:ro'
    """
    host, *inside = value.split(":")
    if not 1 <= len(inside) <= 2 or not host or not all(inside):
        raise Rejected(f"not a volume: {value!r}", "write host:container or host:container:ro")
    if not inside[0].startswith("/"):
        raise Rejected(f"the container's path is not absolute: {inside[0]!r}", f"write {host}:/{inside[0]}")
    if len(inside) == 2 and inside[1] not in {"ro", "rw"}:
        raise Rejected(f"not a volume mode: {inside[1]!r}", "write ro or rw")
    if not host.startswith(("/", ".", "~")) and not _DOCKER_VOLUME.fullmatch(host):
        raise Rejected(f"neither a path nor a volume's name: {host!r}", f"write /{host} or ./{host} for a path")
    return value


def word(value: object) -> object:
    """Check one word of a command: text, or a number or truth value that is written as text."""
    if isinstance(value, dict):
        name = next(iter(value), "port")
        raise Rejected(f"YAML reads {{{name}}} as a mapping", f'quote it: "{{{name}}}"')
    return str(value) if isinstance(value, int | float) else value


def argv(value: object) -> object:
    """Read a command: a list as it is, a string split as a shell splits words (no shell runs).

    Example:
        >>> argv("-m /models/x.gguf --alias 'a b'")
        ['-m', '/models/x.gguf', '--alias', 'a b']
    """
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError as error:
            raise Rejected(f"can't be split into words: {error}", "close the quote, or write a list") from error
    return word(value)


def network(value: str) -> str:
    """Check an address, or a network as address/bits.

    Example:
        >>> network("10.0.0.0/8"), network("::1")
        ('10.0.0.0/8', '::1')
    """
    try:
        ip_network(value)
    except ValueError as error:
        raise Rejected(f"neither an address nor a network: {error}", "write 10.0.0.2 or 10.0.0.0/8") from error
    return value


def environment(value: object) -> object:
    """Read Compose's two forms, a mapping or a list of `NAME=value`, as a mapping.

    Example:
        >>> environment(["A=1", "B=x=y"])
        {'A': '1', 'B': 'x=y'}
    """
    if isinstance(value, list | tuple):
        if not all(isinstance(item, str) for item in value):
            raise Rejected("not a list of NAME=value", "write [NAME=value, …], or {NAME: value, …}")
        pairs = [item.partition("=") for item in value]
        return {name: text for name, _, text in pairs}
    return value


def _scalar(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return word(value)


def _variable_name(value: str) -> str:
    if not value or "=" in value or "\0" in value:
        raise Rejected(f"not a variable's name: {value!r}", "write NAME: value, or a list of NAME=value")
    return value


def service_id(value: str) -> str:
    """Check a service id: it is part of URLs, container names and labels.

    Example:
        >>> service_id("qwen2.5-7b")
        'qwen2.5-7b'
    """
    if not _SERVICE_ID.fullmatch(value):
        raise Rejected(
            f"not a service id: {value!r}",
            "use a-z, 0-9, dot, dash, underscore, at most 63 characters; any other name goes under models",
        )
    return value


def url(value: str) -> str:
    """Check an origin with an optional base path.

    Example:
        >>> url("https://llm.example.com/v1")
        'https://llm.example.com/v1'
    """
    match = _URL.fullmatch(value)
    if match is None and "@" in value:
        # Not repeated: who writes one may have written a password.
        raise Rejected("not a URL of a service: it has an @", "put credentials under headers: {authorization: …}")
    if match is None:
        raise Rejected(f"not a URL of a service: {value!r}", "write http://host:port or https://host/base; no ? # @")
    if match[2] and not 0 < int(match[2][1:]) <= 65535:
        raise Rejected(f"not a port: {match[2][1:]}", "write a number from 1 to 65535")
    return value


def gpus(value: object) -> object:
    """Read a count of GPUs, or a list of indices and UUIDs.

    Example:
        >>> gpus("2"), gpus([0, "GPU-5d2c"])
        (2, ('0', 'GPU-5d2c'))
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(item, str | int) for item in value):
        return tuple(str(item) for item in value)
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    raise Rejected(f"neither a count nor a list of GPUs: {value!r}", 'write 2, ["0", "1"], or 0 for none')


def vram_mb(value: object) -> object:
    """Read MiB of VRAM, or `auto`."""
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    if isinstance(value, str) and value.isdecimal() and int(value) > 0:
        return int(value)
    raise Rejected(f"not a size in MiB: {value!r}", "write a number of MiB such as 16000, or auto")


def models(value: object) -> object:
    """Read model names: one, a list, or a map `{client's: engine's}`; None marks "pass on as it is".

    Example:
        >>> models(["chat", "big-*"])
        {'chat': None, 'big-*': None}
    """
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return dict.fromkeys(names)
    if names is None or isinstance(names, dict):
        return names
    raise Rejected("not a list of names", "write [name, other-name], or {name: the-engine's-name}")


def idle_timeout_s(value: object) -> object:
    """Refuse 0, which means "never" in one tool and "at once" in another."""
    if value in {0, "0"} or (isinstance(value, str) and re.fullmatch(r"0+(\.0*)?s?", value)):
        raise Rejected("0 is refused: elsewhere it means never as well as at once", "write null for never, or seconds")
    return value


def http_path(value: str) -> str:
    """Check a path on a server."""
    if not value.startswith("/") or re.search(r"[\s#]", value):
        raise Rejected(f"not a path: {value!r}", "write /health")
    return value


def header_name(value: str) -> str:
    """Check a header's name."""
    if not _HEADER_NAME.fullmatch(value):
        raise Rejected(f"not a header name: {value!r}", "write a name such as authorization")
    return value


def header_value(value: str) -> str:
    """Check a header's value: it may not smuggle in another line."""
    if _CONTROL.search(value) or not value.isprintable():
        raise Rejected("a header's value may not contain control characters", "write it on one line")
    return value


def one_or_many(value: object) -> object:
    """Read a lone string as a list of one."""
    return [value] if isinstance(value, str) else value


_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": {"type": ["string", "number", "boolean"]}}
_SCALARS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}


def _form(*schemas: dict[str, object]) -> WithJsonSchema:
    """What a file may say, where that is more than what the field holds."""
    return WithJsonSchema({"anyOf": list(schemas)} if len(schemas) > 1 else schemas[0])


Seconds = Annotated[float, BeforeValidator(duration_s), Field(ge=0), _form(_TEXT, {"type": "number", "minimum": 0})]
SizeBytes = Annotated[int, BeforeValidator(size_bytes), Field(gt=0), _form(_TEXT, {"type": "integer", "minimum": 1})]
Volume = Annotated[str, AfterValidator(volume)]
Word = Annotated[str, BeforeValidator(word)]
Argv = Annotated[tuple[Word, ...], BeforeValidator(argv), _form(_TEXT, _TEXTS)]
Scalar = Annotated[str, BeforeValidator(_scalar)]
VariableName = Annotated[str, AfterValidator(_variable_name)]
Environment = Annotated[dict[VariableName, Scalar], BeforeValidator(environment), _form(_SCALARS, _TEXTS)]
Vars = Annotated[dict[str, Word], _form(_SCALARS)]
HeaderName = Annotated[str, AfterValidator(header_name)]
HeaderValue = Annotated[str, AfterValidator(header_value)]
Headers = Annotated[dict[HeaderName, HeaderValue], _form(_SCALARS)]
ServiceId = Annotated[str, AfterValidator(service_id)]
Strings = Annotated[tuple[str, ...], BeforeValidator(one_or_many), _form(_TEXT, _TEXTS)]
Networks = Annotated[
    tuple[Annotated[str, AfterValidator(network)], ...], BeforeValidator(one_or_many), _form(_TEXT, _TEXTS)
]
Url = Annotated[str, AfterValidator(url)]
HttpPath = Annotated[str, AfterValidator(http_path)]
Gpus = Annotated[int | tuple[str, ...], BeforeValidator(gpus), _form({"type": "integer", "minimum": 0}, _TEXTS, _TEXT)]
VramMb = Annotated[int | Literal["auto"], BeforeValidator(vram_mb), _form({"type": "integer", "minimum": 1}, _TEXT)]
Models = Annotated[dict[str, str | None], BeforeValidator(models), _form(_TEXTS, _SCALARS)]
IdleTimeout = Annotated[float, BeforeValidator(idle_timeout_s), Field(gt=0)]
