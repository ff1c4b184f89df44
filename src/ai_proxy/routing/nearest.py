"""Words of advice for a name that nobody has: the nearest ones that somebody does."""

import difflib
from collections.abc import Iterable

_LONGEST_COMPARED = 128
_MOST_COMPARED = 200
_LONGEST_SHOWN = 80
_FEW = 5


def advice(name: str, known: Iterable[str]) -> str:
    """Say what could be meant by `name`.

    Example:
        >>> advice("quen3-8b", ["qwen3-8b", "whisper-1", "chat", "embed", "rerank", "draw"])
        'did you mean qwen3-8b?'
        >>> advice("gpt-5", ["chat", "embed"])
        'known: chat, embed'
        >>> advice("gpt-5", [])
        'none is known'
    """
    names = list(known)
    close = _close(name, names)
    if close:
        return f"did you mean {' or '.join(close)}?"
    if not names:
        return "none is known"
    return f"known: {', '.join(names[:_FEW])}" + (" and more" if len(names) > _FEW else "")


def _close(name: str, names: list[str]) -> list[str]:
    """The names most like `name`; bounded work, for anyone may ask for nonsense."""
    wanted = name.casefold()
    if len(wanted) > _LONGEST_COMPARED:
        return []
    if len(names) > _MOST_COMPARED:
        names = [text for text in names if text[:1].casefold() == wanted[:1]][:_MOST_COMPARED]
    folded = {text.casefold(): text for text in names}
    return [folded[text] for text in difflib.get_close_matches(wanted, folded, n=3)]


def shown(value: str | bytes) -> str:
    """Quote what a client sent so that it fits a message: printable, bounded.

    Example:
        >>> shown(b"/a%2Fb"), shown("x" * 100)[-5:]
        ("'/a%2Fb'", "xxx…'")
    """
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return ascii(text) if len(text) <= _LONGEST_SHOWN else ascii(text[:_LONGEST_SHOWN])[:-1] + "…'"
