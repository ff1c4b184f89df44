"""Connections over TLS: pooled like others, to those alone who can prove who they are, and without losing a byte."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from ai_proxy.config.certificates import server_context
from ai_proxy.config.tls import ServerTls
from ai_proxy.transport.errors import CertificateRejected, ConnectFailed
from ai_proxy.transport.origin import Origin, Tls
from ai_proxy.transport.tls import CertificateFault
from tests.fakes.certificates import Authority, Pair
from tests.fakes.upstream import Peer, Upstream, answering
from tests.transport.pools import GET, OK, body_of, get, pool_of, until_idle

BIG = 200_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def shows(pair: Pair, client_ca: Path | None = None) -> ssl.SSLContext:
    cert, key = map(str, pair)
    return server_context(ServerTls(cert=cert, key=key, client_ca=str(client_ca) if client_ca else None))


def believed(upstream: Upstream, context: ssl.SSLContext, name: str | None = None) -> Origin:
    return Origin("https", "127.0.0.1", upstream.port, tls=Tls(context, name))


async def test_connections_are_pooled_like_others(authority: Authority) -> None:
    async with Upstream(answering(OK), tls=shows(authority.issue())) as upstream, pool_of() as pool:
        origin = believed(upstream, authority.believer())

        assert [await get(pool, origin) for _ in range(2)] == [b"hello", b"hello"]
        assert repr(pool) == "<Pool: 1 origins, 0 active, 1 idle, 0 waiting>"
        assert len(upstream.peers) == 1


async def test_a_connection_is_never_used_by_who_believes_others(authority: Authority, tmp_path: Path) -> None:
    async with Upstream(answering(OK), tls=shows(authority.issue())) as upstream, pool_of() as pool:
        assert await get(pool, believed(upstream, authority.believer())) == b"hello"
        await until_idle(pool, 1)

        with pytest.raises(CertificateRejected):
            await get(pool, believed(upstream, Authority(tmp_path).believer()))


REJECTED: dict[CertificateFault, Callable[[Authority, Authority], Pair]] = {
    CertificateFault.EXPIRED: lambda ours, _: ours.issue(name="old", expired=True),
    CertificateFault.WRONG_NAME: lambda ours, _: ours.issue("llm.example", name="other"),
    CertificateFault.NOT_TRUSTED: lambda _, theirs: theirs.issue(),
}


@pytest.mark.parametrize(("fault", "issue"), REJECTED.items(), ids=REJECTED)
async def test_a_certificate_that_proves_nothing_is_a_failed_connect(
    fault: CertificateFault, issue: Callable[[Authority, Authority], Pair], authority: Authority, tmp_path: Path
) -> None:
    shown = issue(authority, Authority(tmp_path, "theirs"))
    async with Upstream(answering(OK), tls=shows(shown)) as upstream, pool_of() as pool:
        with pytest.raises(CertificateRejected) as raised:
            await get(pool, believed(upstream, authority.believer()))

        assert raised.value.fault is fault
        assert repr(pool) == "<Pool: 0 origins, 0 active, 0 idle, 0 waiting>"


async def test_without_settings_the_system_s_authorities_decide(authority: Authority) -> None:
    async with Upstream(answering(OK), tls=shows(authority.issue())) as upstream, pool_of() as pool:
        with pytest.raises(CertificateRejected):
            await get(pool, upstream.origin)


async def test_a_plain_server_is_a_failed_connect_too(authority: Authority) -> None:
    async def speak_first(peer: Peer) -> None:
        await peer.send(OK)

    async with Upstream(speak_first) as upstream, pool_of() as pool:
        with pytest.raises(ConnectFailed) as raised:
            await get(pool, believed(upstream, authority.believer()))

        assert not isinstance(raised.value, CertificateRejected)


async def test_an_origin_may_bear_another_name_than_its_address(authority: Authority) -> None:
    shown = authority.issue("llm.internal", name="internal")
    async with Upstream(answering(OK), tls=shows(shown)) as upstream, pool_of() as pool:
        assert await get(pool, believed(upstream, authority.believer(), "llm.internal")) == b"hello"


async def test_an_origin_may_ask_who_we_are(authority: Authority, tmp_path: Path) -> None:
    clients = Authority(tmp_path, "clients")
    ours = clients.issue("proxy", name="proxy")
    async with Upstream(answering(OK), tls=shows(authority.issue(), clients.file)) as upstream, pool_of() as pool:
        assert await get(pool, believed(upstream, authority.believer(ours))) == b"hello"


def answer_and_leave(listener: socket.socket, context: ssl.SSLContext) -> socket.socket:
    """Answer one request and send a FIN, which TLS does not wait with, before anybody may have read the answer."""
    connection, _ = listener.accept()
    server = context.wrap_socket(connection, server_side=True)
    server.recv(65536)
    server.sendall(OK.replace(b" 5\r\n", b" %d\r\n" % BIG)[:-5] + bytes(BIG))
    server.shutdown(socket.SHUT_WR)
    return server


async def test_what_came_before_the_upstream_closed_is_read_however_late(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = Origin("https", "127.0.0.1", listener.getsockname()[1], tls=Tls(authority.believer()))
        left = asyncio.create_task(asyncio.to_thread(answer_and_leave, listener, shows(authority.issue())))
        async with pool_of() as pool:
            exchange = await pool.send(origin, GET, method=b"GET")
            with await left:
                for _ in range(20):
                    await asyncio.sleep(0)

                assert len(await body_of(exchange)) == BIG
