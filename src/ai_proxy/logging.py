"""Log output: loguru's records and the access lines, on one bounded way to stderr.

Owns the buffer, the one thread that writes, and the formats. Nothing here blocks a caller: a full buffer drops the
line and counts it, so a stalled pipe behind stderr costs lines, never requests. Must not know what is logged or why;
modules log through `loguru.logger`, and bind `request_id` and `service` where they have them.
"""

import atexit
import logging
import os
import re
import select
import threading
import time
import traceback
from contextlib import suppress
from functools import lru_cache
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from loguru import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loguru import Message, Record

BUFFERED_LINES = 8192
LINE_CHARS = 8192
NAME_CHARS = 256
GATHER_S = 0.05

# Their INFO lines repeat ours, show whole URLs, or tell of every file touched beside the config.
QUIET_LOGGERS = ("uvicorn", "httpx", "httpcore", "aiodocker", "aiohttp", "asyncio", "watchfiles")

_HEAD = (
    "<green>{time:YYYY-MM-DD HH:mm:ss.SSS}</green> | <level>{level: <8}</level> | "
    "<cyan>{name}</cyan>:<cyan>{function}</cyan>:<cyan>{line}</cyan> | "
)
_TAIL = "<level>{message}</level>\n{exception}"
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), 127)} | {0x0A: "\n    "}
_SECRET = re.compile(
    r"(?i)(\bbearer\s+|(?<![a-z0-9])(?:api[-_]?key|token|password|secret)\b[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,}]+"
)


class Access(NamedTuple):
    """What one access line says of a request; formatted only when it is written.

    Attributes:
        at: When it ended, seconds since the epoch.
        method: Its method.
        target: Its raw target; the query is not shown, it may hold a key.
        status: Status sent to the client; 499 if the client left before one was sent.
        request_id: The id that client and engine were told.
        service: Id of the service, or "-" where none was found.
        model: The name that the client gave, or "".
        client: Address of the peer.
        sent_bytes: Body bytes sent to the client.
        total_s: From the request's head to its end, seconds.
        queue_s: Of that, waiting for a grant.
        ttfb_s: From the request's head to the answer's first byte; None if none came.
        ending: Why it ended: `done`, or the reason that cut it short.
        beats: Comments that its client was sent while it waited, after an early 200.
        key: Name of the key that it came with, or "".
        received_bytes: Bytes of its own body, as far as they came.
    """

    at: float
    method: str
    target: bytes
    status: int
    request_id: str
    service: str
    model: str
    client: str
    sent_bytes: int
    total_s: float
    queue_s: float
    ttfb_s: float | None
    ending: str
    beats: int = 0
    key: str = ""
    received_bytes: int = 0


def access_line(entry: Access) -> str:
    """Format one request for people, in the layout of every other line.

    Example:
        >>> entry = Access(
        ...     at=1790000000.1234, method="POST", target=b"/v1/chat/completions?key=s3cret", status=200,
        ...     request_id="r-1", service="chat", model="gpt-4o-mini", client="127.0.0.1:5000", sent_bytes=612,
        ...     total_s=0.2501, queue_s=0.0, ttfb_s=0.04, ending="done",
        ... )
        >>> print(access_line(entry)[23:], end="")  # doctest: +NORMALIZE_WHITESPACE
         | INFO     | access | r-1 | chat | POST /v1/chat/completions 200 612B 250.1ms queue=0.0ms ttfb=40.0ms
        end=done client=127.0.0.1:5000 model="gpt-4o-mini"
    """
    at, method, target, status, request_id, service, model, client, sent, total_s, queue_s, ttfb_s, *last = entry
    ending, beats, key, received = last
    level = "INFO   " if status < 500 else "WARNING"
    ttfb = f"{ttfb_s * 1e3:.1f}ms" if ttfb_s is not None else "-"
    return (
        f"{_stamp(at)} | {level}  | access | {_plain(request_id)} | {service} | {method} {_path(target)} {status} "
        f"{sent}B {f'in={received}B ' if received else ''}{total_s * 1e3:.1f}ms queue={queue_s * 1e3:.1f}ms "
        f"ttfb={ttfb} end={ending} {f'beats={beats} ' if beats else ''}{f'key={key} ' if key else ''}client={client} "
        f'model="{_plain(model)}"\n'
    )


def access_json(entry: Access) -> str:
    """Format one request for machines: one JSON object, one line.

    Example:
        >>> entry = Access(0.0, "GET", b"/v1/models?a=1", 200, "r-1", "-", "", "unix", 2, 0.001, 0.0, None, "done")
        >>> '"target":"/v1/models"' in access_json(entry)
        True
    """
    fields: dict[str, object] = {"time": _zoned(entry.at), "level": "INFO" if entry.status < 500 else "WARNING"}
    fields |= {"name": "access", **entry._asdict(), "target": _path(entry.target), "model": entry.model[:NAME_CHARS]}
    del fields["at"]
    return msgspec.json.encode(fields).decode() + "\n"


def redact(text: str) -> str:
    """Mask what looks like a credential: a last line of defence, callers must not log them at all.

    Example:
        >>> redact("Authorization: Bearer sk-12345, url=/x?api_key=abc&n=1")
        'Authorization: Bearer ***, url=/x?api_key=***&n=1'
    """
    return _SECRET.sub(r"\1***", text)


def printable(text: str) -> str:
    r"""Make a message safe for a terminal and impossible to take for two records.

    Example:
        >>> printable("a\x1b[31mb\nINFO | forged")
        'a\\x1b[31mb\n    INFO | forged'
    """
    return text if text.isprintable() else text.translate(_CONTROLS)


def setup(
    level: str = "INFO",
    format: Literal["text", "json"] = "text",  # noqa: A002 - the config's word
    *,
    access: bool = True,
    fd: int = 2,
) -> "Logs":
    """Send all logging of this process to a file descriptor: loguru, the standard library's, uvicorn's.

    Args:
        level: Lowest level written; above INFO, access lines are off too.
        format: Lines for people, or one JSON object a line.
        access: Whether one line a request is written.
        fd: Where to write; stderr unless a caller has another.

    Returns:
        The owner of the output; close it last, it flushes. Done at exit otherwise.
    """
    number = logger.level(level).no
    logs = Logs(fd, as_json=format == "json", access=access and number <= logging.INFO)
    logger.remove()
    # diagnose would print the values of variables, secrets and prompts among them, into tracebacks.
    logger.add(
        logs.record,
        level=level,
        format=_template if format == "text" else "{message}",
        colorize=format == "text" and os.isatty(fd),
        backtrace=False,
        diagnose=False,
    )
    _take_over_stdlib(number)
    atexit.register(logs.close)
    return logs


class Logs:
    """The buffer before a file descriptor, and the thread that empties it."""

    def __init__(self, fd: int, *, as_json: bool = False, access: bool = True, limit: int = BUFFERED_LINES) -> None:
        # Fixed for life
        self.access_enabled = access
        self._fd = fd
        self._as_json = as_json
        self._format_access = access_json if as_json else access_line
        self._limit = limit
        # Counters, exported by metrics
        self.written = 0
        self.dropped = 0
        # What waits to be written
        self._entries: SimpleQueue[Access | str | None] = SimpleQueue()
        self._closing = threading.Event()
        # A daemon: a reader that never reads must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Logs fd={self._fd} waiting={self._entries.qsize()} written={self.written} dropped={self.dropped}>"

    def access(self, entry: Access) -> None:
        """Take one request's line. Never waits; formats nothing."""
        if self.access_enabled:
            self._put(entry)

    def record(self, message: "Message") -> None:
        """Take one loguru record, already formatted (loguru's sink)."""
        self._put(_json_of(message.record) if self._as_json else str(message))

    def close(self, deadline_s: float = 2.0) -> None:
        """Write what waits, for at most so many seconds; idempotent."""
        if not self._closing.is_set():
            self._closing.set()
            self._entries.put(None)  # wakes the thread
        self._thread.join(deadline_s)
        atexit.unregister(self.close)

    def _put(self, entry: Access | str) -> None:
        if self._entries.qsize() < self._limit:
            self._entries.put(entry)
        else:
            self.dropped += 1

    def _run(self) -> None:
        told = 0
        while not self._closing.is_set():
            first = self._entries.get()
            # Gathering a batch keeps this thread from contending with the event loop for each line.
            self._closing.wait(GATHER_S)
            lines = [self._line(entry) for entry in (first, *self._waiting()) if entry is not None]
            if self.dropped > told:
                lines.append(self._told_of(self.dropped - told))
                told = self.dropped
            self._write(lines)
        self._write([self._line(entry) for entry in self._waiting() if entry is not None])

    def _waiting(self) -> "Iterator[Access | str | None]":
        with suppress(Empty):
            while True:
                yield self._entries.get_nowait()

    def _line(self, entry: Access | str) -> str:
        if isinstance(entry, Access):
            return self._format_access(entry)
        # A JSON line was masked and cut before it became one: both could break it now.
        return entry if self._as_json else _safe(entry.removesuffix("\n")) + "\n"

    def _told_of(self, dropped: int) -> str:
        at, message = time.time(), f"{dropped} lines dropped"
        if self._as_json:
            fields = {"time": _zoned(at), "level": "WARNING", "name": __name__, "message": message}
            return msgspec.json.encode(fields).decode() + "\n"
        return f"{_stamp(at)} | WARNING  | {__name__} | {message}\n"

    def _write(self, lines: list[str]) -> None:
        rest = memoryview("".join(lines).encode("utf-8", "backslashreplace"))
        try:
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:  # someone made the shared descriptor non-blocking
                    self._await_room()
            self.written += len(lines)
        except OSError:  # closed, or the disk is full: the proxy goes on without its log
            self.dropped += len(lines)

    def _await_room(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.poll(1000)


class StdlibBridge(logging.Handler):
    """Passes the standard library's records on to loguru, with the place they came from."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on; its own place replaces this one."""

        def place(to: "Record") -> None:
            to["name"], to["function"], to["line"] = record.name, record.funcName or "", record.lineno

        known = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
        level = record.levelname if record.levelname in known else record.levelno
        logger.patch(place).opt(exception=record.exc_info).log(level, "{}", record.getMessage())


def _take_over_stdlib(level: int) -> None:
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, StdlibBridge)]:
        root.removeHandler(old)
    root.addHandler(StdlibBridge())
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def _template(record: "Record") -> str:
    record["message"] = printable(record["message"])
    bound = "".join(f"<cyan>{{extra[{key}]}}</cyan> | " for key in ("request_id", "service") if key in record["extra"])
    return _HEAD + bound + _TAIL


def _json_of(record: "Record") -> str:
    fields: dict[str, Any] = {"time": record["time"].isoformat(" ", "milliseconds"), "level": record["level"].name}
    fields |= {"name": record["name"], "function": record["function"], "line": record["line"]}
    extra = {key: _safe(value) if isinstance(value, str) else value for key, value in record["extra"].items()}
    fields |= {"message": _safe(record["message"]), **extra}
    if (caught := record["exception"]) is not None:
        fields["exception"] = _safe(repr(caught.value))
        fields["traceback"] = _safe("".join(traceback.format_exception(*caught)))
    return msgspec.json.encode(fields, enc_hook=_safe_repr).decode() + "\n"


def _safe(text: str) -> str:
    """Mask credentials and bound the length."""
    text = redact(text)
    return text if len(text) <= LINE_CHARS else f"{text[:LINE_CHARS]} … {len(text) - LINE_CHARS} more"


def _safe_repr(value: object) -> str:
    return _safe(repr(value))


def _zoned(at: float) -> str:
    """A moment as loguru's records have it in JSON."""
    return _stamp(at) + _zone(int(at))


def _stamp(at: float) -> str:
    return _stamp_of_ms(int(at * 1000))


# Under load many lines end in one millisecond and one second: both are formatted once.
@lru_cache(maxsize=64)
def _stamp_of_ms(at_ms: int) -> str:
    second, ms = divmod(at_ms, 1000)
    return f"{_second(second)}.{ms:03d}"


@lru_cache(maxsize=4)
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


@lru_cache(maxsize=4)
def _zone(at: int) -> str:
    zone = time.strftime("%z", time.localtime(at))
    return f"{zone[:3]}:{zone[3:]}"


def _path(target: bytes) -> str:
    return _plain(target.partition(b"?")[0].decode("ascii", "backslashreplace"))


def _plain(text: str) -> str:
    if len(text) <= NAME_CHARS and text.isprintable() and '"' not in text:
        return text
    return text[:NAME_CHARS].encode("unicode_escape").decode().replace('"', '\\"')
