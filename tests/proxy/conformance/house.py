"""Raw bytes in at one end, what came out at both: of a client's request, and of an engine's response.

Every conversation ends with a canary, a request of which all is known: what it meets tells whether the connection it
came on was still in step.
"""

import asyncio
import re
from dataclasses import dataclass

from tests.fakes.upstream import Peer, Upstream
from tests.proxy.plane import plane
from tests.proxy.serving import GUARD_S, Client

CANARY = b"GET /files/canary HTTP/1.1\r\nHost: canary\r\nConnection: close\r\n\r\n"
SERVICE = {"services": {"files": {"image": "i", "timeouts": {"first_byte_s": 2, "idle_s": 2}}}}
_CHUNK = re.compile(rb"([0-9a-f]+)\r\n")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as an engine sees it.

    Attributes:
        line: Its first line.
        fields: Its other lines.
        body: What follows, chunks put together.
    """

    line: bytes
    fields: tuple[bytes, ...]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """The values of a field."""
        return [line[len(name) + 2 :] for line in self.fields if line.lower().startswith(name + b": ")]


@dataclass(frozen=True, slots=True)
class Answered:
    """A response as a client sees it; `whole` unless it was broken off."""

    status: int
    fields: tuple[bytes, ...]
    body: bytes
    whole: bool

    def values(self, name: bytes) -> list[bytes]:
        """The values of a field."""
        return [line[len(name) + 2 :] for line in self.fields if line.lower().startswith(name + b": ")]


@dataclass(frozen=True, slots=True)
class Talk:
    """What came of a client's bytes.

    Attributes:
        statuses: Of all responses but the canary's.
        asked: All requests that reached the engine, but the canary.
        in_step: The canary was answered as what it is.
        raw: All that the client was sent.
    """

    statuses: list[int]
    asked: list[Asked]
    in_step: bool
    raw: bytes


async def ask(*pieces: bytes) -> Talk:
    """Send a client's bytes, and the canary after them on the same connection."""
    asked: list[Asked] = []

    async def script(peer: Peer) -> None:
        while data := await peer.read_request():
            asked.append(_asked(data))
            body = asked[-1].line.split(b" ")[1]
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with Upstream(script) as upstream, plane(upstream, **SERVICE) as proxy, Client.to(proxy.port) as client:
        for piece in (*pieces, CANARY):
            await client.send(piece)
        raw = await client.rest()
    statuses = [int(line) for line in re.findall(rb"HTTP/1\.1 (\d+) ", raw)]
    in_step = asked[-1:] != [] and asked[-1].values(b"host") == [b"canary"] and raw.endswith(b"/canary")
    if in_step:
        asked.pop()
        statuses.pop()
    return Talk(statuses, asked, in_step, raw)


@dataclass(frozen=True, slots=True)
class Relayed:
    """What came of an engine's bytes.

    Attributes:
        answer: What the client got.
        reused: The connection to the engine served the canary as well.
    """

    answer: Answered
    reused: bool


async def answer(response: bytes, *, closes: bool = False, method: str = "GET") -> Relayed:
    """Have an engine answer with these bytes; then ask for the canary, which must come out whole."""
    request = f"{method} /files/x HTTP/1.1\r\nHost: a\r\n\r\n".encode()

    async def script(peer: Peer) -> None:
        while data := await peer.read_request():
            if b"/canary" in data:
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary")
                continue
            await peer.send(response)
            if closes:
                peer.close()

    async with Upstream(script) as upstream, plane(upstream, **SERVICE) as proxy:
        async with Client.to(proxy.port) as client:
            await client.send(request)
            got = await _answered(client.reader, to_head=method == "HEAD")
        before = len(upstream.peers)
        async with Client.to(proxy.port) as client:
            await client.send(CANARY)
            canary = await client.rest()
        assert canary.startswith(b"HTTP/1.1 200 "), canary
        assert canary.endswith(b"\r\n\r\ncanary"), canary
        return Relayed(got, len(upstream.peers) == before)


async def _answered(reader: asyncio.StreamReader, *, to_head: bool) -> Answered:
    async with asyncio.timeout(GUARD_S):
        head = await reader.readuntil(b"\r\n\r\n")
        line, *fields = head[:-4].split(b"\r\n")
        status = int(line.split(b" ")[1])
        answered = Answered(status, tuple(fields), b"", whole=True)
        if to_head or status in {204, 304}:
            return answered
        body, whole = await _body(reader, answered)
    return Answered(status, tuple(fields), body, whole=whole)


async def _body(reader: asyncio.StreamReader, answered: Answered) -> tuple[bytes, bool]:
    body = b""
    try:
        for length in answered.values(b"content-length"):
            return await reader.readexactly(int(length)), True
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    except asyncio.IncompleteReadError as error:
        return body + error.partial, False
    return body, True


def _asked(data: bytes) -> Asked:
    head, _, body = data.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        whole = b""
        while (match := _CHUNK.match(body)) and (size := int(match[1], 16)):
            whole += body[match.end() : match.end() + size]
            body = body[match.end() + size + 2 :]
        body = whole
    return Asked(line, tuple(fields), body)
