"""An engine's bytes, whatever they are, through the whole data plane: what the client gets is one response, or none.

The first byte of an input says what was asked for and how it comes: a HEAD or not, cut or whole, closed in the end or
not. The client then asks for a canary on the same connection.
"""

import re
from functools import cache

import h11

from tests.fuzz.cutting import cuts
from tests.fuzz.judges import Finding, Message
from tests.fuzz.memory import World, with_its_target
from tests.fuzz.responses import run

_ASK = b"%b /files/x HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"
_CANARY = b"GET /files/canary HTTP/1.1\r\nHost: a\r\n\r\n"
_OURS = re.compile(rb'"code":"upstream_[a-z_]+"')


@cache
def _world() -> World:
    return World()


def check(data: bytes) -> None:
    """Check what must hold of what a client gets.

    Raises:
        Finding: It does not.
    """
    if len(data) < 2:
        return
    method, is_cut, closes = b"HEAD" if data[0] & 1 else b"GET", bool(data[0] & 2), bool(data[0] & 4)
    said = cuts(data[1:]) if is_cut else [data[1:]]

    def answering(asked: Message) -> list[bytes]:
        return with_its_target(asked) if asked.target == b"/canary" else [*said, b""] if closes else said

    talk = _world().talk([_ASK % method, _CANARY], answering)
    first, second = _read(talk.answered, method)
    meant = run(said, method, b"", closes=closes)
    if second is not None and second != (200, b"/canary"):
        raise Finding(f"the canary is not what it was: {talk.answered!r}")
    if first is None:
        return
    status, body = first
    if meant.error is None and first != (meant.status, b"" if method == b"HEAD" else meant.body):
        raise Finding(f"{first} was passed on, {meant} was said")
    if meant.error is not None and (status < 500 or not (method == b"HEAD" or _OURS.search(body))):
        raise Finding(f"a broken response came out whole: {first}, {meant}")


def _read(answered: bytes, method: bytes) -> tuple[tuple[int, bytes] | None, tuple[int, bytes] | None]:
    """The two responses as h11 reads them; None for one that is not whole."""
    judge = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    if not answered:
        return None, None
    judge.receive_data(answered)
    try:
        first = _one(judge, method)
        if first is None or judge.their_state is not h11.DONE:
            return first, None
        judge.start_next_cycle()
        second = _one(judge, b"GET")
    except h11.RemoteProtocolError as error:
        raise Finding(f"h11 refuses what the client got ({error}): {answered!r}") from error
    if judge.trailing_data[0]:
        raise Finding(f"more than was asked for: {answered!r}")
    return first, second


def _one(judge: h11.Connection, method: bytes) -> tuple[int, bytes] | None:
    judge.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    judge.send(h11.EndOfMessage())
    status, body = 0, b""
    while not isinstance(event := judge.next_event(), h11.EndOfMessage):
        match event:
            case h11.Response():
                status = event.status_code
            case h11.Data():
                body += bytes(event.data)
            case h11.NEED_DATA | h11.PAUSED | h11.ConnectionClosed():
                return None
    return status, body
