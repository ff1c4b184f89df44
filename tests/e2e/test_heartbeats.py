"""A stream whose model still loads, seen by an SDK and through nginx, which gives up on who says nothing."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from ai_proxy.runtimes.process.ports import free_port
from tests.conftest import missing
from tests.e2e.clients import question
from tests.e2e.conftest import Serve
from tests.e2e.harness import GUARD_S, Proxy, process, until
from tests.proxy.serving import Client

pytestmark = pytest.mark.slow

BEAT_S = 0.2
PATIENCE_S = 5
"""nginx's, in place of its 60 s, which no test can wait for; longer than a busy machine makes a beat late."""

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_read_timeout {patience}s; }}
    }}
}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the engines find whether they are ready."""
    return tmp_path_factory.mktemp("ready")


@pytest.fixture(scope="module")
def proxy(serve_module: Serve, folder: Path) -> Proxy:
    """A proxy of models that load until a file of their name is there."""
    slow = {name: process("--ready-file", str(folder / name)) for name in ("chat", "behind", "broken")}
    slow["broken"]["health"] = {"start_timeout_s": 2}
    return serve_module({"server": {"heartbeat_after_s": BEAT_S}, "services": slow})


@pytest.fixture(scope="module")
def nginx(proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an nginx in front of it."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        missing("nginx is not installed")
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port(())
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, upstream=proxy.port, patience=PATIENCE_S), "utf-8")
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen([program, "-p", folder, "-c", config], stdin=subprocess.DEVNULL, stderr=log)
    try:
        until(lambda: _listens(port) or running.poll(), (folder / "log").read_text)
        yield port
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(GUARD_S)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return not sock.connect_ex(("127.0.0.1", port))


def sdk(port: int) -> openai.AsyncOpenAI:
    """OpenAI's client, as it is."""
    return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=GUARD_S, max_retries=0)


def asked(model: str) -> dict[str, Any]:
    """A chat request to be streamed."""
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def test_openai_s_client_has_its_stream_before_the_model_is_loaded_and_all_of_it_afterwards(
    proxy: Proxy, folder: Path
) -> None:
    async with sdk(proxy.port) as client:
        stream = await client.chat.completions.create(**asked("chat"))
        assert await asyncio.to_thread(proxy.state, "chat") in {"starting", "loading"}
        (folder / "chat").touch()
        said = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]

    assert "".join(word or "" for word in said).split() == ["token0", "token1", "token2"]
    until(lambda: "end=done beats=" in proxy.log)


async def test_b12_openai_s_client_is_told_why_a_start_failed_after_its_stream_had_begun(proxy: Proxy) -> None:
    async with sdk(proxy.port) as client:
        stream = await client.chat.completions.create(**asked("broken"))
        with pytest.raises(openai.APIError, match="broken was not ready within 2 s"):
            await anext(aiter(stream))


async def test_nginx_gives_up_on_who_waits_in_silence_and_not_on_a_stream(
    proxy: Proxy, nginx: int, folder: Path
) -> None:
    async with Client.to(nginx) as silent, Client.to(nginx) as stream:
        await stream.send(question("behind", stream=True))
        assert (await stream.head())[0] == 200
        first = await stream.chunk()
        await silent.send(question("behind"))
        assert (await silent.head())[0] == 504
        (folder / "behind").touch()
        text = b""
        while chunk := await stream.chunk():
            text += chunk

    assert first.startswith(b": ")
    assert b": loading behind" in text
    assert text.endswith(b"data: [DONE]\n\n")
