"""A Docker socket that misbehaves on order: it stands before a real engine and spoils what it is told to."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum, auto
from pathlib import Path

from tests.fakes.listening import stop_listening

_HEAD_END = b"\r\n\r\n"


class Spoil(StrEnum):
    """What becomes of a request."""

    HANG = auto()
    """Accepted, never passed on, never answered."""
    REFUSE = auto()
    """Not passed on; answered with an error of the rule's status and words."""
    LIE = auto()
    """Passed on and carried out, then answered with that error."""
    CUT = auto()
    """Passed on and carried out; the connection is cut before the answer."""
    MUTE = auto()
    """Passed on and carried out; there is no answer."""
    CUT_LATER = auto()
    """Passed on; the connection is cut in the middle of the answer."""
    STALL = auto()
    """Passed on; the answer begins and does not go on."""
    GARBAGE = auto()
    """Not passed on; answered with what is not HTTP."""


@dataclass(slots=True)
class Rule:
    """Spoils requests whose first line matches, so many times.

    Attributes:
        match: Regular expression searched in the request line.
        spoil: What becomes of them.
        times: How many are left to be spoiled.
        status: Of the error answer.
        words: Of the error answer.
    """

    match: str
    spoil: Spoil
    times: int = 1_000_000
    status: int = 500
    words: str = "injected"
    hit: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def answer(self) -> bytes:
        """The error answer on the wire."""
        body = b'{"message": "%s"}' % self.words.encode()
        lines = (
            f"HTTP/1.1 {self.status} Spoiled",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        return "\r\n".join(lines).encode() + _HEAD_END + body


class DockerRelay:
    """Relays one exchange a connection to the engine behind it, unless a rule says otherwise.

    Args:
        engine: The socket of the engine behind it.
        socket: Where it listens.
    """

    def __init__(self, engine: Path, socket: Path) -> None:
        self.host = f"unix://{socket}"
        self.lines: list[str] = []
        self._engine = engine
        self._rules: list[Rule] = []
        self._open: set[asyncio.StreamWriter] = set()

    def spoil(self, match: str, spoil: Spoil, *, times: int = 1_000_000, status: int = 500, words: str = "x") -> Rule:
        """Add a rule; earlier ones come first."""
        rule = Rule(match, spoil, times, status, words)
        self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """Forget all rules and cut what hangs."""
        self._rules.clear()
        self.cut()

    def cut(self) -> None:
        """Cut every open connection."""
        for writer in list(self._open):
            writer.transport.abort()

    def count(self, match: str) -> int:
        """How many request lines matched so far."""
        return sum(re.search(match, line) is not None for line in self.lines)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection."""
        self._open.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._exchange(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(_HEAD_END)
        line = head.split(b"\r\n", 1)[0].decode()
        self.lines.append(line)
        rule = self._rule_for(line)
        if rule is None:
            await self._pass_on(head, reader, writer, None)
        elif rule.spoil is Spoil.HANG:
            await reader.read()
        elif rule.spoil in {Spoil.REFUSE, Spoil.GARBAGE}:
            writer.write(rule.answer if rule.spoil is Spoil.REFUSE else b"\x00\xffnot http")
            await writer.drain()
        else:
            await self._pass_on(head, reader, writer, rule)

    async def _pass_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rule: Rule | None
    ) -> None:
        """One exchange a connection, so that every request is seen."""
        head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head).removesuffix(_HEAD_END)
        engine_reader, engine_writer = await asyncio.open_unix_connection(self._engine)
        engine_writer.write(head + b"\r\nConnection: close" + _HEAD_END)
        upload = asyncio.create_task(_pump(reader, engine_writer))
        try:
            if rule is None:
                await _pump(engine_reader, writer)
            elif rule.spoil in {Spoil.CUT_LATER, Spoil.STALL}:
                writer.write((await engine_reader.readuntil(_HEAD_END)) + await engine_reader.read(20))
                await writer.drain()
                if rule.spoil is Spoil.STALL:
                    await asyncio.wait({upload})
            else:
                await engine_reader.read()
                if rule.spoil is Spoil.LIE:
                    writer.write(rule.answer)
                    await writer.drain()
                elif rule.spoil is Spoil.MUTE:
                    await asyncio.wait({upload})
        finally:
            upload.cancel()
            engine_writer.close()

    def _rule_for(self, line: str) -> Rule | None:
        for rule in self._rules:
            if rule.times and re.search(rule.match, line):
                rule.times -= 1
                rule.hit.set()
                return rule
        return None


@asynccontextmanager
async def docker_relay(engine: Path, socket: Path) -> AsyncIterator[DockerRelay]:
    """Run a relay at `socket` before the engine at `engine`."""
    relay = DockerRelay(engine, socket)
    server = await asyncio.start_unix_server(relay.serve, socket)
    try:
        yield relay
    finally:
        await stop_listening(server)
        relay.cut()
        await server.wait_closed()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
