"""Whom listeners let in and what they show, by certificates, renewed ones among them; what a wrong one is called."""

import asyncio
import ssl
from pathlib import Path

import pytest

from tests.fakes.certificates import Authority, tls_of
from tests.fakes.upstream import Upstream, answering
from tests.proxy.plane import OK, get, plane
from tests.proxy.serving import GET, Client, echo, serving


async def test_a_certificate_that_is_not_accepted_is_told_without_an_address(shown: ssl.SSLContext) -> None:
    async with (
        Upstream(answering(OK), tls=shown) as upstream,
        plane(upstream) as proxy,
        Client.to(proxy.port) as client,
    ):
        answer = await client.ask(get("/files/a"))

    assert answer.status == 502
    assert b'"code":"upstream_unreachable"' in answer.body
    assert b"the certificate that service 'files' shows is not accepted (certificate_not_trusted)" in answer.body
    assert b"127.0.0.1" not in answer.body


async def test_who_may_connect_is_decided_by_a_certificate(authority: Authority, tmp_path: Path) -> None:
    clients = Authority(tmp_path, "clients")
    known, unknown = clients.issue("app", name="app"), authority.issue("app", name="app")
    context = tls_of(authority, clients.file).context
    async with serving(echo, tls=context) as server:
        for shown in (None, unknown):
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                async with Client.to(server.port, tls=authority.believer(shown)) as client:
                    await client.ask(GET)
        async with Client.to(server.port, tls=authority.believer(known)) as client:
            assert (await client.ask(GET)).status == 200


async def test_who_speaks_no_tls_is_let_go_and_disturbs_nobody(shown: ssl.SSLContext, believed: ssl.SSLContext) -> None:
    async with serving(echo, tls=shown) as server:
        async with Client.to(server.port) as client:
            await client.send(GET)
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await client.head()
        async with Client.to(server.port, tls=believed) as client:
            assert (await client.ask(GET)).status == 200


async def test_a_renewed_certificate_is_shown_to_who_comes_next_and_a_broken_one_to_nobody(tmp_path: Path) -> None:
    first, second = Authority(tmp_path, "listener"), None
    tls = tls_of(first)
    async with serving(echo, tls=tls.context) as server, Client.to(server.port, tls=first.believer()) as stays:
        assert (await stays.ask(GET)).status == 200
        second = Authority(tmp_path, "listener")
        pair = second.issue()
        await tls.renew()
        for broken in (b"", b"no certificate"):
            pair.cert.write_bytes(broken)
            await tls.renew()

        async with Client.to(server.port, tls=second.believer()) as client:
            assert (await client.ask(GET)).status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            async with Client.to(server.port, tls=Authority(tmp_path).believer()):
                pass
        assert (await stays.ask(GET)).status == 200


async def test_a_client_of_an_authority_that_is_no_longer_believed_stays_out(
    authority: Authority, tmp_path: Path
) -> None:
    former = Authority(tmp_path, "clients")
    known = authority.believer(former.issue("app", name="app"))
    tls = tls_of(authority, former.file)
    async with serving(echo, tls=tls.context) as server:
        async with Client.to(server.port, tls=known) as client:
            assert (await client.ask(GET)).status == 200
        Authority(tmp_path, "clients")
        await tls.renew()

        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            async with Client.to(server.port, tls=known) as client:
                await client.ask(GET)
