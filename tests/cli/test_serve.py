"""`serve` as a process: signals, the lock, the end of what it started."""

import os
import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.shell import run_apart
from tests.e2e.harness import Proxy, process, until

pytestmark = pytest.mark.slow

ONE = {"services": {"small": process()}}


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path, ONE)
    proxy.start()
    yield proxy
    if proxy.is_running:
        proxy.close()


def begin(proxy: Proxy, path: str, body: bytes) -> socket.socket:
    """Send a request and don't read its answer yet."""
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=20)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def read(connection: socket.socket) -> bytes:
    """All that comes until the end."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_b62_a_signal_ends_it_with_status_0_and_its_replicas_with_it(proxy: Proxy, number: signal.Signals) -> None:
    proxy.post("/api/v1/service/small/start?wait=true")
    assert proxy.processes()

    proxy.signal(number)

    assert proxy.wait() == 0
    until(lambda: not proxy.processes(), proxy.processes)
    assert "small | stopping → stopped: the proxy is shutting down" in proxy.log
    assert "Traceback" not in proxy.log


def test_b62_a_stream_that_is_open_when_it_is_told_to_end_is_finished(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path, {"services": {"small": process("--chunks", "20", "--interval", "0.05")}}).start()
    with begin(proxy, "/v1/chat/completions", b'{"model":"small","stream":true}') as connection:
        assert connection.recv(1, socket.MSG_PEEK)
        proxy.signal(signal.SIGTERM)

        answer = read(connection)

    assert b"token19" in answer
    assert b"[DONE]" in answer
    assert proxy.wait() == 0


def test_b62_a_second_signal_ends_it_at_once_and_its_replicas_too(tmp_path: Path) -> None:
    stubborn = process("--chunks", "1000", "--interval", "0.1", "--ignore-sigterm", stop_grace_period=1)
    proxy = Proxy(tmp_path, {"services": {"small": stubborn}}).start()
    with begin(proxy, "/v1/chat/completions", b'{"model":"small","stream":true}') as connection:
        assert connection.recv(1, socket.MSG_PEEK)
        proxy.signal(signal.SIGTERM)
        until(lambda: not listens(proxy))

        proxy.signal(signal.SIGTERM)

        assert proxy.wait() == 1
    assert "Ending; open requests: 1, which have 30 s to be done" in proxy.log
    assert "Ending at once" in proxy.log
    assert "Traceback" not in proxy.log
    until(lambda: not proxy.processes(), proxy.processes)


def test_b62_a_second_signal_does_not_wait_for_a_replica_that_does_not_stop(tmp_path: Path) -> None:
    stubborn = process("--ignore-sigterm", stop_grace_period=60)
    proxy = Proxy(tmp_path, {"log": {"level": "DEBUG"}, "services": {"small": stubborn}}).start()
    proxy.post("/api/v1/service/small/start?wait=true")
    proxy.signal(signal.SIGTERM)
    until(lambda: "ready → stopping" in proxy.log)

    proxy.signal(signal.SIGTERM)

    assert proxy.wait() == 1
    assert "Traceback" not in proxy.log
    left = proxy.processes()
    assert left  # for as long as it may take to stop
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not proxy.processes(), proxy.processes)


def listens(proxy: Proxy) -> bool:
    """Whether new connections are still taken."""
    return any(it.status == psutil.CONN_LISTEN for it in psutil.Process(proxy.pid).net_connections("tcp"))


def test_sighup_reloads_the_config(proxy: Proxy) -> None:
    (config := proxy.config).write_text(config.read_text("utf-8").replace("small:", "renamed:"), "utf-8")

    proxy.signal(signal.SIGHUP)  # as soon as it listens, it may not be ready to reload yet

    until(lambda: [service["id"] for service in proxy.get("/api/v1/services")] == ["renamed"])
    assert "Config applied: added renamed; removed small" in proxy.log


def test_an_edit_is_noticed_without_being_asked_for(proxy: Proxy) -> None:
    proxy.configure({"services": {"small": process(), "more": process()}})

    until(lambda: "Config applied: added more" in proxy.log, lambda: proxy.log)


def test_l17_a_faulty_edit_changes_nothing_and_is_logged(proxy: Proxy) -> None:
    proxy.configure({"services": {"small": process(nonsense=1)}})
    proxy.signal(signal.SIGHUP)

    until(lambda: "Config refused" in proxy.log)
    assert proxy.state("small") == "stopped"


def test_l10_a_second_proxy_of_the_same_name_is_refused(proxy: Proxy) -> None:
    said = run_apart(proxy.folder, "serve", "--config", str(proxy.config), "--port", "0")

    assert (said.status, said.err.count("\n")) == (1, 1)
    assert said.err.startswith(f"process {proxy.pid} is a proxy of the same name: ")


def test_b62_a_follower_does_not_hold_up_the_end(proxy: Proxy) -> None:
    with urllib.request.urlopen(f"{proxy.url}/api/v1/events", timeout=20) as stream:
        stream.readline()
        rest: list[bytes] = []
        reader = threading.Thread(target=lambda: rest.append(stream.read()))
        reader.start()

        proxy.signal(signal.SIGTERM)
        reader.join(20)

    assert not reader.is_alive()
    assert proxy.wait() == 0
