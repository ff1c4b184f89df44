"""A real model behind the proxy, in a process of its own and in a container, asked as applications ask."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from ai_proxy.cli import demo_engine
from tests.e2e.clients import asking
from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy
from tests.fixtures.dockerd import DockerHost

pytestmark = pytest.mark.slow

SAYS = "The three primary colours are"
ONCE: dict[str, Any] = {"messages": [{"role": "user", "content": SAYS}], "max_tokens": 8}


def local(gguf: Path, **keys: Any) -> dict[str, Any]:
    command = [sys.executable, "-I", demo_engine.__file__, "--model", str(gguf), "--port", "{port}", "--alias", "{id}"]
    return {"type": "llama-cpp-server", "command": command, "resources": {"gpus": 0}, **keys}


def state_of(proxy: Proxy, model: str) -> str:
    return str(proxy.get(f"/v1/models/{model}")["status"]["value"])


@pytest.fixture(scope="module")
def proxy(serve_module: Serve, gguf: Path) -> Proxy:
    return serve_module({"services": {"gemma": local(gguf)}})


@pytest.fixture
async def client(proxy: Proxy) -> Any:
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_the_first_request_starts_it_and_the_list_says_so(proxy: Proxy, client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["gemma"]
    assert state_of(proxy, "gemma") == "unloaded"
    answer = await client.chat.completions.create(model="gemma", **ONCE)
    assert answer.model == "gemma"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert answer.choices[0].message.content
    assert state_of(proxy, "gemma") == "loaded"


async def test_its_tokens_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="gemma", stream=True, **ONCE)
    chunks = [chunk async for chunk in stream]
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(texts) > 1
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}


async def test_it_completes_text(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model="gemma", prompt=SAYS, max_tokens=8)
    assert answer.choices[0].text


async def test_its_own_errors_are_passed_on(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        await client.embeddings.create(model="gemma", input="x")
    assert refused.value.status_code in {400, 501}
    assert "embeddings" in refused.value.message


async def test_a_model_that_nobody_offers_is_the_proxys_error(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await client.chat.completions.create(model="gema", **ONCE)
    assert refused.value.code == "model_not_found"
    assert "gemma" in refused.value.message


async def test_idle_for_its_time_it_is_stopped_and_the_next_request_starts_it_again(serve: Serve, gguf: Path) -> None:
    proxy = serve({"services": {"gemma": local(gguf, idle_timeout_s=0.5)}})
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0) as client:
        for _ in range(2):
            answer = await client.chat.completions.create(model="gemma", **ONCE)
            assert answer.choices[0].message.content
            await asyncio.to_thread(proxy.await_state, "gemma", "stopped")
            assert proxy.processes() == []


@pytest.fixture
def in_a_container(serve_docker: Serve, llama_server_image: str, gguf: Path) -> Proxy:
    """A proxy with the model as a service `gemma` on the docker runtime."""
    service = {
        "type": "llama-cpp-server",
        "image": llama_server_image,
        "pull_policy": "never",
        "command": f"--model /models/{gguf.name} --port 8080 --alias {{id}}",
        "volumes": [f"{gguf.parent}:/models:ro"],
        "mem_limit": "2g",
        "stop_grace_period": 5,
        "resources": {"gpus": 0},
    }
    return serve_docker({"services": {"gemma": service}})


@pytest.mark.docker
async def test_l12_fifty_first_requests_start_one_container_and_get_fifty_answers(
    in_a_container: Proxy, docker_engine: DockerHost
) -> None:
    proxy = in_a_container
    async with asking(proxy) as client:
        body = {"model": "gemma", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
        asked = [client.post("/v1/chat/completions", json=body) for _ in range(50)]
        answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [200] * 50, answers[0].text
    assert {answer.json()["model"] for answer in answers} == {"gemma"}
    events = docker_engine.docker(
        "events", "--since", "10m", "--until", "0s", "--filter", f"label=ai-proxy.name={proxy.name}",
        "--format", "{{.Action}}",
    )  # fmt: skip
    assert [action for action in events.stdout.split() if action in {"create", "start"}] == ["create", "start"]
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0) as client_of_it:
        stream = await client_of_it.chat.completions.create(model="gemma", stream=True, **ONCE)
        chunks = [chunk async for chunk in stream]
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) > 1
