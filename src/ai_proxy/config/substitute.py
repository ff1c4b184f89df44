"""The two substitutions: `${NAME}` from the environment while loading, `{name}` from known values.

Pure. Nothing else is ever replaced: a `$` or a brace that is not exactly one of these forms stays as it is, so JSON in
an argument survives.
"""

import re
from collections.abc import Iterator, Mapping

from ai_proxy.config.fields import Rejected

START_NAMES = frozenset({"port", "id", "gpu_count", "vram_fraction"})
"""Placeholders whose values are known only when a replica starts; the rest comes from a service's `vars`."""

_OPENING = re.compile(r"\$\$|\$\{")
_BODY = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:-|:\?)(.*))?", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]*)\}")


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """Replace `${NAME}`, `${NAME:-default}` and `${NAME:?message}`; `$$` is a `$`.

    With `:-` and `:?` an empty variable counts as missing. A default may contain substitutions and balanced braces.

    Raises:
        Rejected: Naming every variable that is missing, and every form that can't be read.

    Example:
        >>> substitute("${HOST:-localhost}:${PORT} costs $$5", {"PORT": "80"})
        'localhost:80 costs $5'
    """
    problems: list[str] = []
    done = "".join(_pieces(text, environ, problems))
    if problems:
        raise Rejected(", ".join(problems), "set it in the environment, or write ${NAME:-default}; a literal $ is $$")
    return done


def _pieces(text: str, environ: Mapping[str, str], problems: list[str]) -> Iterator[str]:
    position = 0
    while opening := _OPENING.search(text, position):
        yield text[position : opening.start()]
        if opening[0] == "$$":
            yield "$"
            position = opening.end()
            continue
        end = _closing(text, opening.end())
        body = _BODY.fullmatch(text, opening.end(), end) if end is not None else None
        if end is None or body is None:
            problems.append(f"{text[opening.start() : None if end is None else end + 1]!r} can't be read")
            return
        yield _expand(body, environ, problems)
        position = end + 1
    yield text[position:]


def _closing(text: str, start: int) -> int | None:
    """Where the brace that is open at `start` closes."""
    depth = 1
    for index in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return None


def _expand(body: re.Match[str], environ: Mapping[str, str], problems: list[str]) -> str:
    name, operator, rest = body.groups()
    value = environ.get(name)
    if value is not None and (value or operator is None):
        return value
    if operator == ":-":
        return "".join(_pieces(rest, environ, problems))
    problems.append(f"{name} is not set" + (f" ({rest})" if rest else ""))
    return ""


def fill(text: str, values: Mapping[str, str | int | float]) -> str:
    """Replace `{name}` for exactly the names in `values`; every other brace stays.

    Example:
        >>> fill('--port {port} --json {"a": {b}}', {"port": 8080})
        '--port 8080 --json {"a": {b}}'
    """
    return _PLACEHOLDER.sub(lambda found: str(values.get(found[1], found[0])), text)
