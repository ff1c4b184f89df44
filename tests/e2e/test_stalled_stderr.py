"""A pipe behind stderr that nobody empties: lines are lost, requests are not."""

import fcntl
import os
import select

import pytest

from tests.e2e.clients import asking, chat, rest_of, streaming
from tests.e2e.conftest import Serve
from tests.e2e.harness import process, until

pytestmark = pytest.mark.slow

PIPE_BYTES = 4096
ENOUGH_TO_FILL_IT = 100


async def test_streams_and_management_go_on_and_the_proxy_ends_in_time(serve: Serve) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def is_full() -> bool:
        return not select.select([], [writing], [], 0)[1]

    proxy = serve({"services": {"chat": process("--chunks", "50", "--interval", "0.01")}}, stderr=writing)
    async with streaming(proxy, "chat") as stream, asking(proxy) as client:
        for _ in range(ENOUGH_TO_FILL_IT):
            assert (await client.get("/chat/health")).status_code == 200
        until(is_full)
        for _ in range(ENOUGH_TO_FILL_IT):
            assert (await client.get("/chat/health")).status_code == 200
        assert (await rest_of(stream)).endswith(b"data: [DONE]\n\n")
        assert (await chat(client, "chat")).status_code == 200
        assert proxy.state("chat") == "ready"
    proxy.close()
    assert is_full()
    os.close(writing)
    os.close(reading)
