"""A config as it may be shown: in a log, over the API, in a bug report.

Pure. Hides by place (environment, headers) and by look (what follows `--api-key`, what begins like a token).
"""

import re
import shlex
from collections.abc import Sequence

from ai_proxy.config.models import Config

HIDDEN = "•••"

_SECRET_NAME = re.compile(r"(?i)(api[-_]?key|token|secret|passw(or)?d|credential|authorization|auth[-_]?key)")
_SECRET_FLAG = re.compile(r"--?[\w-]+")
_SECRET_VALUE = re.compile(
    r"\b(?:(?:sk|pk|rk)-[\w-]{8,}|hf_\w{8,}|gh[pousr]_\w{8,}|nvapi-[\w-]{8,}|xox[abp]-[\w-]{8,}|AKIA\w{12,})"
    r"|(?i:\bbearer\s+)\S+"
)


def redacted(config: Config) -> dict[str, object]:
    """Dump a config as plain JSON values, without its secrets.

    Example:
        >>> service = {"image": "x", "environment": {"HF_TOKEN": "abc"}, "command": "serve --api-key s3cret"}
        >>> shown = redacted(Config.model_validate({"services": {"a": service}}))["services"]["a"]
        >>> shown["environment"], shown["command"]
        ({'HF_TOKEN': '•••'}, ['serve', '--api-key', '•••'])
    """
    dump: dict[str, object] = config.model_dump(mode="json")
    dump["keys"] = [key.model_dump(mode="json") | {"hash": HIDDEN} for key in config.keys]
    dump["services"] = {name: _service(service.model_dump(mode="json")) for name, service in config.services.items()}
    return dump


def command_line(words: Sequence[str]) -> str:
    """A command as one line, without its secrets.

    Example:
        >>> command_line(["serve", "my model", "--api-key=s3cret"])
        "serve 'my model' '--api-key=•••'"
    """
    return shlex.join(str(word) for word in _words(words))


def _service(service: dict[str, object]) -> dict[str, object]:
    return {key: _value(key, value) for key, value in service.items()}


def _value(key: str, value: object) -> object:
    match value:
        case dict() if key in {"environment", "headers"}:
            return dict.fromkeys(value, HIDDEN)
        case dict():
            return {name: HIDDEN if _names_secret(name, item) else _value(name, item) for name, item in value.items()}
        case list():
            return _words(value)
        case str():
            return _SECRET_VALUE.sub(HIDDEN, value)
        case _:
            return value


def _names_secret(name: str, value: object) -> bool:
    return isinstance(value, str) and bool(_SECRET_NAME.search(name))


def _words(words: Sequence[object]) -> list[object]:
    """Of a command, hide the word after a secret's flag and the part after its `=`."""
    shown: list[object] = []
    for before, word in zip([None, *words], words, strict=False):
        if not isinstance(word, str):
            shown.append(_value("", word))
        elif _is_secret_flag(before) and not _SECRET_FLAG.fullmatch(word):
            shown.append(HIDDEN)
        else:
            name, equals, _ = word.partition("=")
            hides = equals and _SECRET_NAME.search(name)
            shown.append(f"{name}={HIDDEN}" if hides else _SECRET_VALUE.sub(HIDDEN, word))
    return shown


def _is_secret_flag(word: object) -> bool:
    return isinstance(word, str) and bool(_SECRET_FLAG.fullmatch(word)) and bool(_SECRET_NAME.search(word))
