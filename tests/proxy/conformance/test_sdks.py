"""What the SDKs of OpenAI and Anthropic make of our errors: their own exceptions, and retries only where they help."""

import asyncio
import inspect
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest

from ai_proxy import errors
from ai_proxy.errors import ProxyError, QueueFull
from tests.fakes.upstream import Upstream, answering
from tests.proxy.plane import plane
from tests.proxy.serving import until

pytestmark = pytest.mark.slow

ERRORS = [kind("m") for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ProxyError)]
EXCEPTIONS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    429: "RateLimitError",
    **dict.fromkeys((405, 408, 413, 414, 415, 431), "APIStatusError"),
    **dict.fromkeys((500, 501, 502, 503, 504), "InternalServerError"),
}
ASKED = {"model": "chat", "messages": [{"role": "user", "content": "?"}]}


@dataclass(frozen=True)
class Sdk:
    """One of them: what it is called, where it asks, and what it takes for an answer."""

    module: str
    client: str
    base: str
    answer: bytes

    def connect(self, port: int) -> Any:
        """Its client. It is imported here: who collects these tests need not wait for it."""
        of_module = getattr(import_module(self.module), self.client)
        return of_module(base_url=f"http://127.0.0.1:{port}{self.base}", api_key="k")

    def exception(self, status: int) -> type[Exception]:
        """What it raises for a status."""
        kind: type[Exception] = getattr(import_module(self.module), EXCEPTIONS[status])
        return kind

    async def ask(self, client: Any) -> object:
        """Ask one question."""
        if self.module == "openai":
            return await client.chat.completions.create(**ASKED)
        return await client.messages.create(**ASKED, max_tokens=1)

    @property
    def response(self) -> bytes:
        """The answer on the wire."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        return head % len(self.answer) + self.answer


COMPLETION = b'{"id": "c", "object": "chat.completion", "created": 0, "model": "chat", "choices": []}'
MESSAGE = b'{"id": "m", "type": "message", "role": "assistant", "model": "chat", "content": []}'
SDKS = pytest.mark.parametrize(
    "sdk",
    [Sdk("openai", "AsyncOpenAI", "/v1", COMPLETION), Sdk("anthropic", "AsyncAnthropic", "", MESSAGE)],
    ids=["openai", "anthropic"],
)


@SDKS
async def test_b60_b61_each_error_is_one_of_the_sdk_s_own_and_is_repeated_only_if_that_helps(sdk: Sdk) -> None:
    async with Upstream() as upstream, plane(upstream) as proxy, sdk.connect(proxy.port) as client:
        del proxy.gate.ready["chat"]
        for error in ERRORS:
            proxy.gate.failing["chat"] = error  # type: ignore[assignment]  # the gate passes on what it is told
            proxy.entries.clear()
            with pytest.raises(sdk.exception(error.status)) as caught:
                await sdk.ask(client.with_options(max_retries=0) if error.retryable else client)
            seen: Any = caught.value
            told = seen.body.get("error", seen.body)
            assert (seen.status_code, told["message"], told["code"]) == (error.status, "m", error.code)
            assert len(proxy.entries) == 1, error
            assert seen.request_id == proxy.entries[0].request_id
            assert ("retry-after" in seen.response.headers) is error.retryable, error


@SDKS
async def test_b61_what_time_mends_is_mended_by_the_sdk_itself(sdk: Sdk) -> None:
    async with (
        Upstream(answering(sdk.response)) as upstream,
        plane(upstream) as proxy,
        sdk.connect(proxy.port) as client,
    ):
        del proxy.gate.ready["chat"]
        proxy.gate.failing["chat"] = QueueFull("full", retry_after_s=0.5)
        asking = asyncio.ensure_future(sdk.ask(client))
        await until(lambda: proxy.entries)
        del proxy.gate.failing["chat"]
        proxy.gate.ready["chat"] = upstream.origin
        answer: Any = await asking
        assert answer._request_id == proxy.entries[-1].request_id
        *refused, served = [entry.status for entry in proxy.entries]
        assert (set(refused), served) == ({503}, 200)
