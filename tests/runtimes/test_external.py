"""External services: an address, and a runtime that keeps its hands off."""

import asyncio
import ssl
from pathlib import Path

import pytest

from ai_proxy.errors import StartFailed
from ai_proxy.runtimes.external import ExternalRuntime
from tests.fakes.certificates import Authority
from tests.runtimes.harness import ignore, spec_of


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://10.0.0.7:8000", ("http", "10.0.0.7", 8000, "")),
        ("http://llm.example.com/", ("http", "llm.example.com", 80, "")),
        ("https://llm.example.com/v1", ("https", "llm.example.com", 443, "/v1")),
        ("https://[2001:db8::1]:8443/llm/v1/", ("https", "2001:db8::1", 8443, "/llm/v1")),
    ],
)
async def test_a_url_is_an_origin_and_a_base_path(url: str, expected: tuple[str, str, int, str]) -> None:
    instance = await ExternalRuntime().start(spec_of("cloud", url=url), ignore)
    assert (instance.scheme, instance.host, instance.port, instance.base_path) == expected


async def test_two_services_behind_one_url_are_left_one_by_one() -> None:
    runtime = ExternalRuntime()
    first, second = [await runtime.start(spec_of(name, url="http://10.0.0.7/v1"), ignore) for name in ("a", "b")]
    waiting = asyncio.create_task(runtime.wait(second))
    await runtime.stop(first, 30)
    await runtime.wait(first)
    assert not waiting.done()
    await runtime.aclose()
    assert (await waiting).code is None


async def test_its_log_says_where_the_output_is() -> None:
    runtime = ExternalRuntime()
    instance = await runtime.start(spec_of("cloud", url="http://10.0.0.7"), ignore)
    lines = [line async for line in runtime.logs(instance, follow=True)]
    assert lines == ["cloud runs elsewhere (http://10.0.0.7); its output is there"]


async def test_only_https_has_a_context_made_once_for_services_that_say_nothing_of_it() -> None:
    runtime = ExternalRuntime()
    plain, first, second = [
        await runtime.start(spec_of(url[-1], url=url), ignore) for url in ("http://a", "https://b", "https://c")
    ]
    assert plain.tls is None
    assert first.tls is not None
    assert first.tls is second.tls
    assert (first.tls.context.verify_mode, first.tls.context.check_hostname) == (ssl.CERT_REQUIRED, True)


async def test_a_service_says_whom_to_believe_to_be_it(tmp_path: Path) -> None:
    authority, runtime = Authority(tmp_path), ExternalRuntime()
    cert, key = map(str, authority.issue())
    ours = {"ca": str(authority.file), "server_name": "llm.internal", "client_cert": cert, "client_key": key}
    known = (await runtime.start(spec_of("a", url="https://a", tls=ours), ignore)).tls
    anybody = (await runtime.start(spec_of("b", url="https://b", tls={"verify": False}), ignore)).tls
    assert known is not None
    assert anybody is not None
    assert (len(known.context.get_ca_certs()), known.server_name) == (1, "llm.internal")
    assert (anybody.context.verify_mode, anybody.context.check_hostname) == (ssl.CERT_NONE, False)


async def test_a_file_that_is_gone_by_the_start_is_named_by_its_key() -> None:
    service = spec_of("cloud", url="https://a", tls={"ca": "/nowhere/ca.pem"})
    with pytest.raises(StartFailed, match=r"^tls\.ca of service 'cloud' can't be used$"):
        await ExternalRuntime().start(service, ignore)
