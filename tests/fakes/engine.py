"""A small inference server that misbehaves on order: a real program on a real socket, standard library only.

Run it as a subprocess (`argv("--port", "0")`, or `with running(...) as engine`). It speaks enough of llama-server's
HTTP: `/health` (503 "Loading model" until ready), `/v1/models`, `/v1/chat/completions` and `/v1/completions` (plain
and SSE), `/v1/embeddings` (501), `/slots`; and of vLLM's, `/metrics` and, with `VLLM_SERVER_DEV_MODE=1`, `/sleep`,
`/wake_up`, `/is_sleeping`, `/collective_rpc`, `/reset_prefix_cache`. Without its weights it
talks garbage. Its own paths:

    GET  /fake/stats   {"received", "cut", "started", "completed", "aborted", "open", "models"}: requests but those of
                       `/fake/`, of which a cut one lost its client in its body, and completions, of which an aborted
                       one lost its client; "calls": those to sleep and wake
    GET  /fake/env     its environment
    POST /fake/exit    ?code=N (or ?signal=N): end at once, in mid-stream too
    POST /fake/busy    ?slots=N: `/slots` says so many slots work though no request is open
    POST /fake/order   ?fail=PATH or ?hang=PATH: that path answers 500, or never; ?stays_awake=1; ?calm=1 undoes it all
    *    /fake/echo…   method, target, headers as [name, value] pairs, body's size and sha256
"""

import argparse
import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fakes.engine_flags import parse
from tests.fakes.vram import Vram

SLOTS = 2
DEV_PATHS = frozenset({"/sleep", "/wake_up", "/is_sleeping", "/collective_rpc", "/reset_prefix_cache"})
COUNTED = ("received", "cut", "started", "completed", "aborted")


def argv(*flags: str) -> tuple[str, ...]:
    """The command line that runs this engine with these flags."""
    return (sys.executable, "-I", "-S", str(Path(__file__).resolve()), *flags)


@dataclass(slots=True)
class Running:
    """An engine that was started by `running` and listens."""

    process: "subprocess.Popen[str]"
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        """The JSON that GET `path` answers."""
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.load(answer)

    def post(self, path: str) -> None:
        """POST nothing to `path`; an engine that ends instead of answering is fine."""
        with suppress(OSError):
            urllib.request.urlopen(urllib.request.Request(self.url + path, data=b""), timeout=5).close()


@contextmanager
def running(*flags: str) -> Iterator[Running]:
    """Run an engine on a free port until the block ends."""
    command = argv("--port", "0", *flags)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("listening on "):
                    break
            else:
                raise AssertionError(f"the engine ended before it listened: {command}")
            yield Running(process, int(line.rsplit(":", 1)[1]))
        finally:
            process.kill()


@dataclass
class State:
    """What all connections share."""

    options: argparse.Namespace
    vram: Vram
    began: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    models: list[str | None] = field(default_factory=list)
    busy: int = 0
    fails: set[str] = field(default_factory=set)
    hangs: set[str] = field(default_factory=set)

    @property
    def is_ready(self) -> bool:
        ready_file: Path | None = self.options.ready_file
        if ready_file is not None:
            return ready_file.exists()
        return bool(time.monotonic() - self.began >= self.options.ready_after)

    def tokens(self) -> Iterator[int]:
        """Number an answer's tokens."""
        end_file: Path | None = self.options.end_file
        return takewhile(lambda _: end_file is None or not end_file.exists(), range(self.options.chunks))

    @property
    def open(self) -> int:
        return self.counts["started"] - self.counts["completed"] - self.counts["aborted"]

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1


class ClientGone(Exception):
    """The client closed its side while the engine worked."""


class Connection(BaseHTTPRequestHandler):
    """One client connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: State

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        print(format % args, flush=True)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ClientGone, ConnectionError):
            self.close_connection = True

    def _dispatch(self) -> None:
        path = urlsplit(self.path).path
        if self.state.options.hang or path in self.state.hangs:
            self._wait(3600)
        if path.startswith("/fake/"):
            self._control(path, self._read_body())
        else:
            self.state.count("received")
            self._serve(path, self._read_body())

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = _dispatch  # noqa: N815 - http.server's names

    def _serve(self, path: str, body: bytes) -> None:
        if path in self.state.fails:
            self._error(500, "CUDA error: out of memory", "server_error")
        elif not self.state.is_ready:
            self._error(503, "Loading model", "unavailable_error")
        elif self.state.options.echo and path != "/health":
            self._echo(body)
        elif path in {"/v1/chat/completions", "/v1/completions"}:
            self._complete(body)
        elif path == "/v1/embeddings":
            self._error(501, "This server does not support embeddings", "not_supported_error")
        elif path == "/health":
            self._json({"status": "ok"})
        elif path == "/v1/models":
            self._json({"object": "list", "data": [{"id": self.state.options.model or "fake", "object": "model"}]})
        elif path == "/slots":
            busy = max(self.state.busy, self.state.open)
            self._json([{"id": slot, "is_processing": slot < busy} for slot in range(SLOTS)])
        elif path == "/metrics":
            self._text(f'vllm:num_requests_running{{engine="0"}} {max(self.state.busy, self.state.open)}.0\n')
        elif path in DEV_PATHS and os.environ.get("VLLM_SERVER_DEV_MODE") == "1":
            self._develop(path, body)
        else:
            self._error(404, "File Not Found", "not_found_error")

    def _develop(self, path: str, body: bytes) -> None:
        """Take vLLM's calls for development, each when its order is right."""
        vram, query = self.state.vram, parse_qs(urlsplit(self.path).query)
        if path == "/is_sleeping":
            return self._json({"is_sleeping": bool(vram.asleep)})
        vram.calls.append(self.path if path != "/collective_rpc" else f"{path} {json.loads(body)['method']}")
        done = True
        if path == "/sleep":
            done = vram.sleep(int(query.get("level", ["1"])[0]))
        elif path == "/wake_up":
            vram.wake(query.get("tags", []))
        elif path == "/collective_rpc":
            done = vram.reload()
        return self._text("") if done else self._error(500, "not now", "server_error")

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            size = int(self.headers.get("content-length", 0))
            body = self.rfile.read(size)
            if len(body) < size:
                self._cut()
            return body
        parts = []
        while size := int(self.rfile.readline().split(b";")[0] or self._cut(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(parts)

    def _cut(self) -> NoReturn:
        self.state.count("cut")
        raise ClientGone

    def _control(self, path: str, body: bytes) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if path == "/fake/exit":
            self.state.vram.leave()
            if "signal" in query:
                os.kill(os.getpid(), int(query["signal"][0]))
            os._exit(int(query["code"][0]) if "code" in query else 0)
        elif path == "/fake/busy":
            self.state.busy = int(query["slots"][0])
            self._json({})
        elif path == "/fake/order":
            self._order(query)
        elif path == "/fake/stats":
            stats = {"open": self.state.open, "models": self.state.models, "calls": self.state.vram.calls}
            self._json({**self.state.counts, **stats})
        elif path == "/fake/env":
            self._json(dict(os.environ))
        else:
            self._echo(body)

    def _order(self, query: dict[str, list[str]]) -> None:
        self.state.fails.update(query.get("fail", []))
        self.state.hangs.update(query.get("hang", []))
        self.state.vram.stays_awake = "stays_awake" in query
        if "calm" in query:
            self.state.fails.clear()
            self.state.hangs.clear()
        self._json({})

    def _echo(self, body: bytes) -> None:
        about = {"method": self.command, "target": self.path, "headers": self.headers.items()}
        self._json({**about, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()})

    def _complete(self, body: bytes) -> None:
        try:
            asked = json.loads(body)
            model = asked.get("model")
        except (ValueError, AttributeError):
            return self._error(400, "not a JSON object", "invalid_request_error")
        only = self.state.options.model
        if only is not None and model != only:
            return self._error(404, f"model '{model}' not found", "not_found_error")
        self.state.count("started")
        self.state.models.append(model)
        try:
            self._wait(self.state.options.first_byte_after)
            self._stream(model) if asked.get("stream") else self._answer(model)
        except (ClientGone, ConnectionError):
            self.state.count("aborted")
            raise
        self.state.count("completed")
        return None

    def _answer(self, model: str | None) -> None:
        chunks = len(list(self.state.tokens()))
        self._wait(chunks * self.state.options.interval)
        text = " ".join(f"token{n}" for n in range(chunks)) if self.state.vram.has_weights else "!!!!"
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "text": text, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": chunks, "total_tokens": chunks + 1}
        self._json({**self._head_of("chat.completion", model), "choices": [choice], "usage": usage})

    def _stream(self, model: str | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for n in self.state.tokens():
            self._wait(self.state.options.interval)
            text = f"{' ' if n else ''}token{n}"
            choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "text": text, "finish_reason": None}
            self._event(json.dumps({**self._head_of("chat.completion.chunk", model), "choices": [choice]}))
        last: dict[str, Any] = {"index": 0, "delta": {}, "text": "", "finish_reason": "stop"}
        self._event(json.dumps({**self._head_of("chat.completion.chunk", model), "choices": [last]}))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _head_of(self, kind: str, model: str | None) -> dict[str, Any]:
        return {"id": "fake-1", "object": kind, "created": 0, "model": model or "fake"}

    def _event(self, data: str) -> None:
        payload = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(payload), payload))

    def _wait(self, seconds: float) -> None:
        """Work for a while; a client that closes meanwhile ends it."""
        if seconds and select.select([self.connection], [], [], seconds)[0]:
            if self.connection.recv(1, socket.MSG_PEEK) == b"":
                raise ClientGone
            time.sleep(seconds)  # pipelined bytes: they wait for their turn

    def _error(self, status: int, message: str, kind: str) -> None:
        self._json({"error": {"message": message, "type": kind, "code": status}}, status)

    def _json(self, value: object, status: int = 200) -> None:
        self._text(json.dumps(value), status, "application/json")

    def _text(self, text: str, status: int = 200, kind: str = "text/plain") -> None:
        payload = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def server_bind(self) -> None:
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()


def spawn(options: argparse.Namespace) -> None:
    """Start the children that were asked for."""
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" if options.child_ignores_sigterm else ""
    sleeper = [sys.executable, "-I", "-S", "-c", ignore + "import time; print('up', flush=True); time.sleep(120)"]
    if options.spawn:
        child = subprocess.Popen(sleeper, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        print("child", child.pid, flush=True)
    if options.spawn_daemon:
        launcher = (
            "import subprocess, sys\n"
            "child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, start_new_session=True)\n"
            "child.stdout.readline(); print('child', child.pid, flush=True)"
        )
        subprocess.run([sys.executable, "-I", "-S", "-c", launcher, *sleeper], check=True)


def flood() -> None:
    """Write without end."""
    block = b"".join(b"%07d the engine has much to say\n" % n for n in range(2048))
    while True:
        os.write(1, block)


def terminate(options: argparse.Namespace, vram: Vram) -> None:
    """End as asked by SIGTERM, from a thread so that open streams go on meanwhile."""

    def end() -> None:
        vram.leave()
        os._exit(0)

    threading.Timer(options.term_delay, end).start()


def main() -> None:
    options = parse(sys.argv[1:], __doc__)
    held_mb = {uuid: int(mb) for uuid, _, mb in (it.rpartition(":") for it in options.vram)}
    vram = Vram(held_mb, options.keeps, can_sleep=options.enable_sleep_mode)
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: terminate(options, vram))
    for line in options.say:
        print(line, file=sys.stderr, flush=True)
    if options.print_env:
        print("env", json.dumps(dict(os.environ)), flush=True)
    spawn(options)
    if options.exit_after is not None:
        if options.exit_after == 0:
            sys.exit(options.exit_code)
        threading.Timer(options.exit_after, os._exit, (options.exit_code,)).start()
    time.sleep(options.listen_after)
    vram.tell()
    Connection.state = State(options, vram)
    server = Server((options.host, options.port), Connection)
    print(f"listening on {options.host}:{server.server_address[1]}", flush=True)
    if options.flood:
        threading.Thread(target=flood, daemon=True).start()
    server.serve_forever(poll_interval=60)


if __name__ == "__main__":
    main()
