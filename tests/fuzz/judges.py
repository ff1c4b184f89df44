"""What others make of the same bytes: h11 and httptools as they are, and what a head may be at all.

Each is a reading that an engine, or a proxy in front of ours, may have. Where ours differs from one of them, a second
request could hide in the difference.
"""

import re
from contextlib import suppress
from dataclasses import dataclass, field

import h11
import httptools

_LINE = re.compile(rb"[A-Z-]+ [!-~]+ HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t -~\x80-\xff]*)")
_SPACES = re.compile(rb"\A([^ \r\n]+) +([^ \r\n]+) +(HTTP/1\.[01]\r\n)")
_MAX_BYTES = 1 << 20

RENAMED = b"Qwen/Qwen3"
"""What engines are asked for in the place of `gpt`."""


class Finding(AssertionError):
    """Something that must never be."""


@dataclass(slots=True)
class Message:
    """A request as a reader understands it."""

    method: bytes
    target: bytes
    body: bytes = b""


def _server() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_BYTES)


@dataclass
class Reader:
    """h11's reading of requests, one after the other.

    Attributes:
        fault: Why it reads no further.
    """

    fault: str = ""
    _connection: h11.Connection = field(default_factory=_server)
    _open: Message | None = None
    _has_begun: bool = False

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes; the requests that they complete."""
        done: list[Message] = []
        while data and not self.fault:
            if not self._has_begun:
                # Where a reader may be lenient, and h11 is not (RFC 9112, 2.2 and 3): empty lines before a request,
                # more than one space within its first line.
                data = _SPACES.sub(rb"\1 \2 \3", data.lstrip(b"\r\n"))
            self._has_begun = self._has_begun or data != b""
            if data:
                self._connection.receive_data(data)
            data = self._read(done)
        return done

    def _read(self, done: list[Message]) -> bytes:
        """Read on up to the end of a message; what follows it."""
        while True:
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError as error:
                self.fault = str(error)
                return b""
            match event:
                case h11.Request():
                    self._open = Message(event.method, event.target)
                case h11.Data() if self._open is not None:
                    self._open.body += bytes(event.data)
                case h11.EndOfMessage() if self._open is not None:
                    done.append(self._open)
                    rest = self._connection.trailing_data[0]
                    self._open, self._has_begun, self._connection = None, False, _server()
                    return rest
                case _:
                    return b""


def read_by_h11(data: bytes) -> list[Message]:
    """The requests in a client's bytes, up to the first that h11 refuses."""
    return Reader().feed(data)


class _Callbacks:
    """What llhttp reports of requests."""

    def __init__(self) -> None:
        self.done: list[Message] = []
        self.parser = httptools.HttpRequestParser(self)
        self._target = self._body = b""

    def on_message_begin(self) -> None:
        self._target = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.done.append(Message(self.parser.get_method(), self._target, self._body))


def read_by_httptools(data: bytes) -> list[Message]:
    """The requests in a client's bytes, up to the first that llhttp refuses."""
    seen = _Callbacks()
    with suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
        seen.parser.feed_data(data)
    return seen.done


def check_heads(heard: bytes) -> None:
    """Check every head that an engine was sent, whatever follows it.

    Raises:
        Finding: A line that is none, two hosts, or other than one framing.
    """
    line, *lines = heard.partition(b"\r\n\r\n")[0].split(b"\r\n")
    if not _LINE.fullmatch(line):
        raise Finding(f"no request line: {line!r}")
    fields: dict[bytes, list[bytes]] = {}
    for text in lines:
        found = _FIELD.fullmatch(text)
        if found is None:
            raise Finding(f"no field: {text!r}")
        fields.setdefault(found[1].lower(), []).append(found[2])
    framing = fields.get(b"content-length", []) + fields.get(b"transfer-encoding", [])
    if len(framing) > 1 or len(fields.get(b"host", [])) != 1:
        raise Finding(f"framing {framing}, hosts {fields.get(b'host')}")
    if framing and not framing[0].strip().isdigit() and framing[0].strip().lower() != b"chunked":
        raise Finding(f"no framing: {framing}")


def check_is_among(asked: list[Message], meant: list[Message], reader: str) -> None:
    """Check that requests are some of those that a reader sees, in their order and whole.

    Raises:
        Finding: One is not.
    """
    rest = iter(meant)
    for message in asked:
        if not any(_same(message, other) for other in rest):
            raise Finding(f"{message} was asked, {reader} sees {meant}")


def _same(asked: Message, meant: Message) -> bool:
    """Whether it is the message, its model perhaps renamed."""
    if asked.method != meant.method:
        return False
    before, renamed, after = asked.body.partition(RENAMED)
    is_renamed = renamed and meant.body.startswith(before) and meant.body.endswith(after)
    return asked.body == meant.body or bool(is_renamed)
