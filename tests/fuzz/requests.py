"""A client's bytes, whatever they are: what engines are asked is what any other reader would have understood."""

import re
from functools import cache

from tests.fuzz.cutting import cuts
from tests.fuzz.judges import Finding, check_heads, check_is_among, read_by_h11, read_by_httptools
from tests.fuzz.memory import Talk, World

_STATUS = re.compile(rb"HTTP/1\.1 ([2-9])\d\d ")
_BUG = b"something went wrong in the proxy"


@cache
def world() -> World:
    """One for all talks of a process: building it takes longer than a talk."""
    return World()


def check(data: bytes) -> None:
    """Check what must hold of a client's bytes.

    Raises:
        Finding: It does not.
    """
    whole = _judged(data, [data] if data else [])
    cut = _judged(data, cuts(data))
    if b"100-continue" in data.lower():
        # Answered before it sends its body, it may find that the connection ends there (RFC 9110, 10.1.1).
        return
    if whole.asked != cut.asked:
        raise Finding(f"cut, it means something else: {whole.asked} or {cut.asked}")
    if _answers(whole) != _answers(cut):
        raise Finding(f"cut, it is answered otherwise: {_answers(whole)!r} or {_answers(cut)!r}")


def _judged(data: bytes, pieces: list[bytes]) -> Talk:
    talk = world().talk(pieces)
    for engine in talk.engines:
        check_heads(bytes(engine.heard))
        heard = read_by_httptools(bytes(engine.heard))
        if heard != engine.asked:
            raise Finding(f"engines disagree: {heard} or {engine.asked}")
    check_is_among(talk.asked, read_by_h11(data), "h11")
    if b"upgrade" not in data.lower():
        # Where llhttp reads no further; whether that is right depends on the answer.
        check_is_among(talk.asked, read_by_httptools(data), "llhttp")
    if _BUG in talk.answered:
        raise Finding("a bug was met and logged")
    return talk


def _answers(talk: Talk) -> list[bytes]:
    """The kinds of its answers: what of several faults is seen first may depend on how the bytes come."""
    return _STATUS.findall(talk.answered)
