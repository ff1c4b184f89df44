"""Making connections: TLS, deadlines, cancellation."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ai_proxy.transport.errors import ConnectFailed, ConnectTimeout
from ai_proxy.transport.limits import Timeouts
from ai_proxy.transport.origin import Origin
from ai_proxy.transport.pool import Pool
from tests.conftest import missing

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose backlog is full: the kernel drops each further SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port
        for filler in fillers:
            filler.close()


async def test_b54_a_connection_that_is_not_made_in_time_is_a_timeout_and_frees_its_turn(full_port: int) -> None:
    pool = Pool()
    with pytest.raises(ConnectTimeout):
        await pool.send(Origin("http", "127.0.0.1", full_port), GET, method=b"GET", timeouts=Timeouts(connect_s=0.02))
    assert repr(pool) == "<Pool: 0 origins, 0 active, 0 idle, 0 waiting>"


async def test_cancelled_while_connecting_it_frees_its_turn(full_port: int) -> None:
    pool = Pool()
    sending = asyncio.create_task(pool.send(Origin("http", "127.0.0.1", full_port), GET, method=b"GET"))
    await asyncio.sleep(0)
    assert pool.active == 1
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert repr(pool) == "<Pool: 0 origins, 0 active, 0 idle, 0 waiting>"


async def test_a_name_that_does_not_resolve_is_a_failed_connect() -> None:
    pool = Pool()
    with pytest.raises(ConnectFailed):
        await pool.send(Origin("http", "a" * 70, 80), GET, method=b"GET")
    with pytest.raises(ConnectFailed):
        await pool.send(Origin("http", "x", 80, uds="/nowhere/engine.sock"), GET, method=b"GET")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        missing("needs the openssl command")
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    subprocess.run([*command, "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    with path.open("a") as file:
        file.write(Path(f"{path}.crt").read_text())
    return path


async def serve_tls(certificate: Path) -> tuple[asyncio.Server, Origin]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(OK)
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    return server, Origin("https", "localhost", server.sockets[0].getsockname()[1])


async def test_tls_connections_are_pooled_like_others(certificate: Path) -> None:
    server, origin = await serve_tls(certificate)
    pool = Pool(ssl_context=ssl.create_default_context(cafile=certificate))
    for _ in range(2):
        exchange = await pool.send(origin, GET, method=b"GET")
        assert await exchange.read() == b"hello"
    assert repr(pool) == "<Pool: 1 origins, 0 active, 1 idle, 0 waiting>"
    await pool.aclose()
    server.close()


async def test_a_certificate_nobody_vouches_for_is_a_failed_connect(certificate: Path) -> None:
    server, origin = await serve_tls(certificate)
    pool = Pool()
    with pytest.raises(ConnectFailed, match="certificate"):
        await pool.send(origin, GET, method=b"GET")
    await pool.aclose()
    server.close()
