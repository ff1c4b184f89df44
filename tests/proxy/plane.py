"""A whole data plane on real sockets: our protocol in front, a scripted upstream behind, a fake gate between."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ai_proxy.config.models import Config
from ai_proxy.logging import Access
from ai_proxy.metrics import Ending, Metrics
from ai_proxy.proxy.app import ProxyApp
from ai_proxy.routing.table import RouteTable
from ai_proxy.transport.pool import Pool
from tests.fakes.gate import FakeGate
from tests.fakes.upstream import Upstream
from tests.proxy.serving import Serving, serving, until

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
UPLOAD = b"POST /files/up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

SERVICES: dict[str, Any] = {
    "chat": {"image": "i", "type": "vllm", "models": {"chat": None, "gpt": "Qwen/Qwen3"}},
    "files": {"image": "i"},
    "cold": {"image": "i"},
}


@dataclass
class Plane:
    """Everything that a test looks at.

    Attributes:
        app: The app under test.
        gate: What it asks for grants.
        entries: Its access entries.
        metrics: Its counters.
        pool: Its connections.
    """

    app: ProxyApp
    gate: FakeGate
    metrics: Metrics
    pool: Pool
    entries: list[Access] = field(default_factory=list)
    serving: Serving = None  # type: ignore[assignment]  # set once it listens

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self.serving.port


def make(**config: Any) -> Plane:
    """Build an app over a config."""
    built = Config.model_validate({"services": SERVICES, **config})
    gate, metrics, pool = FakeGate(), Metrics(built.services), Pool()
    entries: list[Access] = []
    states = {"chat": "loaded", "cold": "loading"}
    app = ProxyApp(
        built,
        RouteTable(built),
        gate=gate,
        pool=pool,
        metrics=metrics,
        access=entries.append,
        states=lambda service: states.get(service, "unloaded"),
    )
    return Plane(app, gate, metrics, pool, entries)


@asynccontextmanager
async def plane(upstream: Upstream, tls: ssl.SSLContext | None = None, /, **config: Any) -> AsyncIterator[Plane]:
    """Run it until the block ends; `chat` and `files` are ready at `upstream`."""
    made = make(**config)
    made.gate.ready = {"chat": upstream.origin, "files": upstream.origin}
    async with serving(made.app, tls=tls) as served:
        made.serving = served
        try:
            yield made
        finally:
            await made.pool.aclose()


def post(path: str, body: bytes, *fields: str, type: str = "application/json") -> bytes:  # noqa: A002
    """A POST with a body."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: ai.local",
        f"Content-Type: {type}",
        f"Content-Length: {len(body)}",
        *fields,
    ]
    return "\r\n".join([*lines, "\r\n"]).encode() + body


def chat(model: object = "chat", **more: Any) -> bytes:
    """A chat request."""
    return post("/v1/chat/completions", json.dumps({"messages": [], "model": model, **more}).encode())


def get(path: str, *fields: str) -> bytes:
    """A GET."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: ai.local", *fields, "\r\n"]).encode()


def event(n: int) -> bytes:
    """One event as a chunk."""
    return b"9\r\ndata: %d\n\n\r\n" % n


async def ended(proxy: Plane, ending: Ending) -> None:
    """Wait for the first access entry, which must say this."""
    await until(lambda: proxy.entries)
    assert proxy.entries[0].ending is ending
    assert proxy.gate.open == []
    assert proxy.metrics.service(proxy.entries[0].service).in_flight == 0
