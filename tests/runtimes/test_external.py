"""External services: an address, and a runtime that keeps its hands off."""

import asyncio

import pytest

from ai_proxy.runtimes.external import ExternalRuntime
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
