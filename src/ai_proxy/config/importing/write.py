"""A draft as a file that people read: one block a service, a command as its flags, remarks as comments.

Pure. Owns how values look; whatever it writes means to our reader what the draft holds.
"""

import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence

import yaml

from ai_proxy.config.importing.draft import ENV_CLOSES, ENV_OPENS, Draft, ServiceDraft

_WIDTH = 100
_FLAG = re.compile(r"--?[A-Za-z]")
_ENV = re.compile(f"{ENV_OPENS}(.*?){ENV_CLOSES}")
_PLAIN_WORD = re.compile(r"[\w@%+=:,./{}$-]+")
_FIRST = ("type", "url", "image", "entrypoint", "command", "port", "models", "unlisted")
_NEVER_FLOW = frozenset({"environment", "volumes"})


def render(draft: Draft, source: str) -> str:
    """Write a draft as YAML.

    Args:
        draft: The config.
        source: Name of the file that it comes from.
    """
    lines = [f"# Made from {source} ({draft.tool}) by `ai-proxy import`."]
    for remark in draft.remarks:
        lines.extend(_comment(remark, 0))
    for key, value in draft.top.items():
        lines.extend(("", *_entry(key, value, 0)))
    lines.extend(("", "services:" if draft.services else "services: {}"))
    for number, (service, content) in enumerate(draft.services.items()):
        lines.extend((*([""] if number else []), *_service(service, content)))
    return "\n".join(lines) + "\n"


def variables(text: str) -> list[str]:
    """The environment variables that a written file refers to, each once."""
    return list(dict.fromkeys(re.findall(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)\}", text)))


def _service(service: str, content: ServiceDraft) -> Iterator[str]:
    yield f"  {_flow(service)}:"
    for remark in content.remarks:
        yield from _comment(remark, 4)
    first = [key for key in _FIRST if key in content.keys]
    for key in (*first, *(key for key in content.keys if key not in _FIRST)):
        yield from _entry(key, content.keys[key], 4)


def _comment(text: str, indent: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{margin}# ", subsequent_indent=f"{margin}#   ")


def _entry(key: str, value: object, indent: int) -> Iterator[str]:
    margin = " " * indent
    if key in {"command", "entrypoint"} and isinstance(value, list) and _folds(value):
        yield f"{margin}{key}: >-"
        yield from (f"{margin}  {line}" for line in _command_lines(value))
        return
    name, flow = _flow(key), _flow(value)
    is_short = len(margin) + len(name) + len(flow) < _WIDTH
    if not isinstance(value, dict | list) or not value or (is_short and (key not in _NEVER_FLOW or len(value) == 1)):
        yield f"{margin}{name}: {flow}"
        return
    yield f"{margin}{name}:"
    if isinstance(value, dict):
        for inner, item in value.items():
            yield from _entry(inner, item, indent + 2)
    else:
        yield from (f"{margin}  - {_flow(item)}" for item in value)


def _folds(words: Sequence[str]) -> bool:
    """Whether a command can be written as a folded block, in which a line's end is a space."""
    return bool(words) and not any("\n" in word or "\t" in word or word.startswith(" ") for word in words)


def _command_lines(words: Sequence[str]) -> Iterator[str]:
    """The program first, then one flag with its values a line."""
    line: list[str] = []
    for word in words:
        if line and _FLAG.match(word):
            yield _shell(line)
            line = []
        line.append(word)
    yield _shell(line)


def _shell(words: Sequence[str]) -> str:
    """Words as a shell would split them, quoted only where that is needed."""
    return _finished(
        " ".join(word if _PLAIN_WORD.fullmatch(_ENV.sub("x", word)) else shlex.quote(word) for word in words)
    )


def _flow(value: object) -> str:
    plain = _plain(value)
    dumped: str = yaml.safe_dump(plain, default_flow_style=True, width=1_000_000, sort_keys=False, allow_unicode=True)
    return dumped.removesuffix("\n").removesuffix("\n...")


def _plain(value: object) -> object:
    """The value with every text as it has to stand in a file."""
    match value:
        case str():
            return _finished(value)
        case list() | tuple():
            return [_plain(item) for item in value]
        case dict():
            return {_finished(str(name)): _plain(item) for name, item in value.items()}
        case _:
            return value


def _finished(text: str) -> str:
    """Protect what would be taken for a variable, and refer to those that are.

    Example:
        >>> _finished(f"{ENV_OPENS}HOME{ENV_CLOSES}/x costs $5, not ${{y}}")
        '${HOME}/x costs $$5, not $${y}'
    """
    if "${" in text or "$$" in text:
        text = text.replace("$", "$$")
    return _ENV.sub(r"${\1}", text)
