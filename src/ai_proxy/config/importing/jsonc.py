"""JSON with comments and trailing commas, as large-model-proxy reads it. Pure."""

import json
import re

_TEXT = r'"(?:[^"\\]|\\.)*"'
_COMMENT = re.compile(rf"{_TEXT}|//[^\n]*|/\*.*?\*/", re.DOTALL)
_LAST_COMMA = re.compile(rf"{_TEXT}|,(?=\s*[\]}}])", re.DOTALL)


def parse(text: str) -> object:
    r"""Read a document.

    Raises:
        ValueError: It can't be read.

    Example:
        >>> parse('{"a": "//no", /* x */ "b": [1, 2,], // y\n}')
        {'a': '//no', 'b': [1, 2]}
    """
    bare = _COMMENT.sub(_kept, text.removeprefix("\ufeff"))
    document: object = json.loads(_LAST_COMMA.sub(_kept, bare))
    return document


def _kept(piece: re.Match[str]) -> str:
    """Texts stay; what goes leaves its lines, so that an error names the right one."""
    return piece[0] if piece[0].startswith('"') else re.sub(r"[^\n]", " ", piece[0])
