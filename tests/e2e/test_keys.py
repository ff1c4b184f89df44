"""Keys as an ordinary client library meets them: 401, 403, 429 and an answer; and nothing tells one."""

import asyncio
import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.conftest import Serve
from tests.e2e.harness import GUARD_S, Proxy, Settings, external, process, until
from tests.fakes import engine

pytestmark = pytest.mark.slow

SECRETS = {"wide": "sk-aip-a-wide-key", "narrow": "sk-aip-a-narrow-key"}
HASHES = {name: sha256(secret.encode()).hexdigest() for name, secret in SECRETS.items()}


def keys(**limits: Mapping[str, Any]) -> list[Settings]:
    """The entries of some keys, each with what it may."""
    return [{"name": name, "hash": f"${{{name.upper()}_HASH}}", **more} for name, more in limits.items()]


def holder(proxy: Proxy, secret: str) -> openai.AsyncOpenAI:
    """A client with a key."""
    return openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=secret, max_retries=0, timeout=3 * GUARD_S)


async def ask(client: openai.AsyncOpenAI, model: str = "chat") -> str | None:
    """A question's answer."""
    answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    return answer.choices[0].message.content


async def test_a_client_library_is_let_in_kept_out_and_slowed_down(
    serve: Serve, small_engine: engine.Running, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    services = {"chat": external(small_engine.port), "slow": process("--ready-file", str(ready))}
    settings = {"services": services, "keys": keys(wide={"max_in_flight": 1}, narrow={"models": ["chat"]})}
    proxy = serve(settings, environ={f"{name.upper()}_HASH": f"sha256:{hash_}" for name, hash_ in HASHES.items()})
    async with (
        holder(proxy, "sk-aip-nobody's") as stranger,
        holder(proxy, SECRETS["narrow"]) as narrow,
        holder(proxy, SECRETS["wide"]) as wide,
    ):
        with pytest.raises(openai.AuthenticationError) as unknown:
            await ask(stranger)
        assert unknown.value.code == "invalid_api_key"

        assert await ask(narrow)
        assert [model.id async for model in narrow.models.list()] == ["chat"]
        with pytest.raises(openai.PermissionDeniedError) as closed:
            await ask(narrow, "slow")
        assert closed.value.code == "model_not_allowed"

        waiting = asyncio.create_task(ask(wide, "slow"))
        await asyncio.to_thread(until, proxy.requests)
        assert [(it["service"], it["key"]) for it in proxy.requests()] == [("slow", "wide")]
        with pytest.raises(openai.RateLimitError) as limited:
            await ask(wide)
        assert (limited.value.code, limited.value.response.headers["retry-after"]) == ("rate_limit_exceeded", "1")
        assert proxy.metric('ai_proxy_key_requests_in_flight{key="wide"}') == 1
        assert proxy.metric('ai_proxy_key_requests_total{code="4xx",key="wide"}') == 1
        ready.touch()
        assert await waiting
        await asyncio.to_thread(proxy.await_quiet)
        assert await ask(wide)

        proxy.configure({**settings, "keys": keys(narrow={"models": ["chat"]})})
        await asyncio.to_thread(until, lambda: "Config applied" in proxy.log)
        with pytest.raises(openai.AuthenticationError):
            await ask(wide)
        assert await ask(narrow)

    until(lambda: " key=narrow " in proxy.log)
    told = proxy.log + json.dumps([proxy.get("/api/v1/config"), proxy.get("/api/v1/services")])
    assert not [secret for secret in (*SECRETS.values(), *HASHES.values(), "nobody's") if secret in told]
