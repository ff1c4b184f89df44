"""Fifty clients stream while everything behind the proxy breaks, again and again.

Every request ends in a whole answer, in an error that says so, or in a stream that is visibly cut; and when it is over,
nothing is left of it. `AI_PROXY_TEST_CHAOS_ROUNDS` makes it go on for longer.
"""

import asyncio
import itertools
import os
import random
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.e2e.clients import rest_of
from tests.e2e.conftest import Serve
from tests.e2e.harness import GUARD_S, Proxy, Settings, external, until
from tests.e2e.test_containers import shell
from tests.fakes import engine
from tests.fakes.listening import stop_listening
from tests.fixtures.docker import MakeDockerd
from tests.fixtures.dockerd import Dockerd
from tests.fixtures.images import TINY
from tests.proxy.serving import Client

pytestmark = [pytest.mark.slow, pytest.mark.docker]

ROUNDS = int(os.environ.get("AI_PROXY_TEST_CHAOS_ROUNDS", "1"))
CLIENTS = 50
TROUBLE_S = 0.4
CALM_S = 1.5
HONEST = ("whole", "cut", "502", "503", "504")
PATH = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
PATHS = {"one": "/one/cgi-bin/stream", "two": "/two/cgi-bin/stream", "away": "/away/v1/chat/completions"}
TOKENS = 5
LAST = b"data: [DONE]\n\n"
STREAM = rf"""#!/bin/sh
printf 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n'
for n in $(seq {TOKENS}); do printf '9\r\ndata: %d\n\n\r\n' $n; sleep 0.2; done
printf 'e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n'
"""


def streaming_service(folder: Path) -> Settings:
    """A service: a container whose server answers in events."""
    script = folder / "cgi-bin/stream"
    script.parent.mkdir(exist_ok=True)
    script.write_text(STREAM)
    script.chmod(0o755)
    serve = "trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait"
    return shell(serve, volumes=[f"{script.parent}:/www/cgi-bin:ro"], mem_limit="64m")


class Trouble:
    """What is done to the containers of a proxy, and to their engine."""

    def __init__(self, proxy: Proxy, host: Dockerd) -> None:
        self._proxy = proxy
        self._host = host

    def drop(self) -> None:
        """Lose what is sent to them."""
        self._filter("-j", "DROP")

    def reset(self) -> None:
        """Have their connections reset."""
        self._filter("-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")

    def pause(self) -> None:
        """Have them hang."""
        running = self._running()
        self._host.docker("pause", *running, check=False)
        time.sleep(TROUBLE_S)
        self._host.docker("unpause", *running, check=False)

    def kill(self) -> None:
        """End them."""
        self._host.docker("kill", *self._running(), check=False)
        time.sleep(TROUBLE_S)

    def eat(self) -> None:
        """Have the kernel kill one of their processes for want of memory."""
        for container in self._running():
            assert self._host.docker("exec", container, "tail", "/dev/zero", check=False).returncode == 137

    def restart(self) -> None:
        """Have the engine crash and start again, which takes them along."""
        self._host.kill()
        self._host.start()

    def _filter(self, *rule: str) -> None:
        pids = [str(self._host.inspect(container)["State"]["Pid"]) for container in self._running()]
        for order in ("-I", "-D"):
            for pid in pids:
                inside = ("nsenter", "-t", pid, "-n", "iptables", "-w")
                subprocess.run((*inside, order, "INPUT", *rule), env=PATH, capture_output=True, check=True, timeout=5)
            if order == "-I":
                time.sleep(TROUBLE_S)

    def _running(self) -> list[str]:
        """Both containers, once the clients have had them started."""
        label = f"label=ai-proxy.name={self._proxy.name}"
        look = ("ps", "-q", "--no-trunc", "--filter", label, "--filter", "status=running")

        def look_for_both() -> list[str]:
            found = self._host.docker(*look).stdout.split()
            return found if len(found) == 2 else []

        return until(look_for_both, lambda: self._proxy.get("/api/v1/services"))


class Crowd:
    """Clients that stream, on a loop of a thread of their own, and a relay before the engine that is elsewhere.

    Args:
        proxy: Whom they ask.
        relay: Where the relay listens.
        engine_port: What is behind it.
    """

    def __init__(self, proxy: Proxy, relay: socket.socket, engine_port: int) -> None:
        self.ends: Counter[str] = Counter()
        self.over = threading.Event()
        self._proxy = proxy
        self._relay = relay
        self._engine_port = engine_port
        self._random = random.Random(7)
        self._relaying: set[asyncio.Task[None]] = set()

    @property
    def has_seen_cuts(self) -> bool:
        """Whether streams of every service were cut."""
        return self.ends.keys() >= {f"{service}: cut" for service in PATHS}

    def run(self) -> None:
        """Stream until it is over."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        server = await asyncio.start_server(self._accept, sock=self._relay)
        await asyncio.gather(*(self._client(path) for path in itertools.islice(itertools.cycle(PATHS), CLIENTS)))
        await stop_listening(server)
        for relaying in self._relaying:
            relaying.cancel()
        await asyncio.gather(*self._relaying, return_exceptions=True)

    async def _client(self, service: str) -> None:
        while not self.over.is_set():
            end = await stream(self._proxy.port, PATHS[service])
            self.ends[f"{service}: {end}"] += 1
            if end != "whole":
                await asyncio.sleep(0.1)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relaying = asyncio.create_task(self._spoil(reader, writer))
        self._relaying.add(relaying)
        relaying.add_done_callback(self._relaying.discard)

    async def _spoil(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay to the engine, with delays, and resets where chance will have them."""
        async with Client.to(self._engine_port) as engine:
            ways = {
                asyncio.create_task(pump(reader, engine.writer, lambda: None)),
                asyncio.create_task(pump(engine.reader, writer, self._chance)),
            }
            try:
                done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                if Reset in {type(way.exception()) for way in done}:
                    Client(reader, writer).reset()
            finally:
                for way in ways:
                    way.cancel()
                writer.close()

    def _chance(self) -> None:
        if self._random.random() < 0.03:
            raise Reset


class Reset(Exception):
    """The relay is to reset what it relays."""


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chance: Callable[[], None]) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            chance()
            await asyncio.sleep(random.choice([0, 0, 0.1]))
            writer.write(data)


async def stream(port: int, path: str) -> str:
    """How one request ended."""
    body = b'{"stream": true, "messages": []}'
    head = f"POST {path} HTTP/1.1\r\nHost: p\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    async with Client.to(port) as client:
        await client.send(head.encode() + body)
        status, fields = await client.head()
        if status != 200:
            length = dict(fields)[b"content-length"]
            assert b'"code":' in await client.reader.readexactly(int(length))
            return str(status)
        try:
            text = await rest_of(client)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return "cut"
    return "whole" if text.endswith(LAST) and text.count(b"data: ") > TOKENS else f"clean but short: {text!r}"


def descriptors(proxy: Proxy) -> Counter[str]:
    """What the proxy has open: files by name, the rest by kind; of sockets those that speak TCP."""
    found: Counter[str] = Counter()
    for fd in Path(f"/proc/{proxy.pid}/fd").iterdir():
        with suppress(OSError):
            found[str(fd.readlink()).split(":[")[0]] += 1
    found["socket"] = len(psutil.Process(proxy.pid).net_connections("tcp"))
    return found


def work(proxy: Proxy) -> dict[str, float]:
    """What the proxy has under way: its tasks, and the grants that each service has given."""
    grants = {service: proxy.metric(f'ai_proxy_grants_open{{service="{service}"}}') for service in PATHS}
    return {"tasks": proxy.metric("ai_proxy_tasks"), **grants}


def all_stream(proxy: Proxy) -> None:
    """Wait until each service is at work."""
    until(lambda: min(work(proxy)[service] for service in PATHS), lambda: work(proxy))


def is_cut(crowd: Crowd, trouble: Trouble, proxy: Proxy) -> bool:
    """Whether streams of each service were cut; if a machine that stood still missed all of one, they are cut again."""
    if not crowd.has_seen_cuts:
        all_stream(proxy)
        trouble.kill()
    return crowd.has_seen_cuts


def stop_all(proxy: Proxy) -> None:
    """Have it hold nothing."""
    for service in PATHS:
        proxy.post(f"/api/v1/service/{service}/stop")
        proxy.await_state(service, "stopped")
    proxy.await_quiet()


@pytest.mark.parametrize(
    "troubles",
    [
        pytest.param(("drop", "reset", "restart", "pause", "kill"), id="cut"),
        pytest.param(("eat", "kill"), id="starved", marks=pytest.mark.oom),
    ],
)
def test_every_stream_is_whole_or_visibly_not_and_nothing_is_left_whatever_breaks(
    troubles: tuple[str, ...], serve: Serve, make_dockerd: MakeDockerd, tmp_path: Path
) -> None:
    host = make_dockerd()
    foreign = host.docker("run", "-d", TINY).stdout.strip()
    with (
        engine.running("--chunks", str(TOKENS), "--interval", "0.05") as away,
        socket.create_server(("127.0.0.1", 0)) as relay,
        ThreadPoolExecutor(1) as threads,
    ):
        services = {name: streaming_service(tmp_path) for name in ("one", "two")}
        services["away"] = external(relay.getsockname()[1])
        proxy = serve({"services": services}, environ={"DOCKER_HOST": host.host})
        for service in ("one", "two"):
            proxy.post(f"/api/v1/service/{service}/start?wait=true")
        stop_all(proxy)
        until(lambda: descriptors(proxy)["socket"] == 1, "the listener alone")
        before = descriptors(proxy)
        # A moment's task is no part of what is always there.
        idle = min((work(proxy) for _ in range(5)), key=lambda seen: seen["tasks"])
        crowd, trouble = Crowd(proxy, relay, away.port), Trouble(proxy, host)
        crowding = threads.submit(crowd.run)
        all_stream(proxy)
        try:
            for what in itertools.chain.from_iterable(itertools.repeat(troubles, ROUNDS)):
                time.sleep(CALM_S)
                getattr(trouble, what)()
            until(lambda: is_cut(crowd, trouble, proxy), lambda: crowd.ends)
        finally:
            crowd.over.set()
        crowding.result(2 * GUARD_S)
        stop_all(proxy)
        until(lambda: work(proxy) == idle, lambda: (idle, work(proxy)))
        until(lambda: descriptors(proxy) == before, lambda: (before, descriptors(proxy)))
    assert host.docker("ps", "-aq", "--no-trunc").stdout.split() == [foreign]
    assert crowd.ends.keys() <= {f"{service}: {end}" for service in PATHS for end in HONEST}
    assert crowd.ends.keys() >= {"one: whole", "two: whole", "away: whole"}
    assert crowd.has_seen_cuts
