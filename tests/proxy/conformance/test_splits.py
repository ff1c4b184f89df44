"""However a client's bytes are cut on their way, they mean the same, valid or not."""

import asyncio
import re
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from tests.proxy.serving import Client, connections, echo, serving

LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
_OURS = re.compile(rb'"request_id":"[0-9a-f]+"|x-request-id: [0-9a-f]+')
_TURNS = 50

MESSAGES = [
    b"GET /a?b=c HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
    b"\r\nGET /a HTTP/1.1\r\nHost: a\r\nX:\t y \r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n",
    b"GET http://b:80/a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    b"GET /a HTTP/1.1\nHost: a\n\n",
    b"GET /a HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    b"GET /a HTTP/1.1\r\n\r\n",
]


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """One to three messages, perhaps with a byte that is wrong, and one after them."""
    data = b"".join(draw(st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=3)))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(data) - 1))
        data = (
            data[:at]
            + draw(st.sampled_from([b"\0", b"\n", b"\r", b" ", b":", b"\t", b"\x80", b"9", b"a"]))
            + data[at + 1 :]
        )
    return data + LAST


async def answers(pieces: Iterable[bytes]) -> bytes:
    """All that a client gets that sends these pieces, each read by itself."""
    async with serving(echo) as server, Client.to(server.port) as client:
        (connection,) = await connections(server.state)
        for piece in pieces:
            # Not through the socket, which may join them again.
            connection.data_received(piece)
            await asyncio.sleep(0)
        # Nothing waits for anything but its turn.
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        connection.transport.close()
        return _OURS.sub(b"", await client.rest())


@given(conversations(), st.data())
def test_rfc9112_2_1_random_cuts_change_nothing(conversation: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(conversation) - 1), max_size=8)))
    pieces = [conversation[start:end] for start, end in zip([0, *cuts], [*cuts, len(conversation)], strict=True)]
    whole, cut = asyncio.run(both([conversation], pieces))
    assert cut == whole


async def both(whole: list[bytes], pieces: list[bytes]) -> tuple[bytes, bytes]:
    return await answers(whole), await answers(pieces)
