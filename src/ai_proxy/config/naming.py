"""Service ids out of names that were made for something else; patterns that names match. Pure."""

import fnmatch
import re
from collections.abc import Container

_ILLEGAL = re.compile(r"-*[^a-z0-9._-]+-*")
_EDGES = "._-"
_LONGEST = 63

LONGEST_MATCHED = 512
"""No longer name is held against patterns: it would be nobody's, and take long."""


def legal_id(name: str) -> str:
    """The legal id that is nearest to a name.

    Example:
        >>> legal_id("Qwen2.5 7B (Instruct)-Q4_K_M"), legal_id("Qwen/Qwen3-8B")
        ('qwen2.5-7b-instruct-q4_k_m', 'qwen-qwen3-8b')
    """
    return _ILLEGAL.sub("-", name.lower()).strip(_EDGES)[:_LONGEST].strip(_EDGES) or "model"


def unused_id(name: str, used: Container[str]) -> str:
    """A legal id itself, or with a number behind it if it is taken.

    Example:
        >>> unused_id("qwen", {"qwen", "qwen-2"})
        'qwen-3'
    """
    candidate, count = name, 1
    while candidate in used:
        count += 1
        ending = f"-{count}"
        candidate = f"{name[: _LONGEST - len(ending)].rstrip(_EDGES)}{ending}"
    return candidate


def pattern_of(text: str) -> re.Pattern[str]:
    """Compile a pattern in which `*` alone is special; fnmatch's groups are atomic, so no name makes it backtrack.

    Example:
        >>> bool(pattern_of("big-*").match("big-7b")), bool(pattern_of("v[1]?").match("v1x"))
        (True, False)
    """
    return re.compile(fnmatch.translate(text.replace("[", "[[]").replace("?", "[?]")))
