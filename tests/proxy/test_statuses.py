"""What a client is told of each way in which an engine may fail: a status, a code, when to come back, no address."""

import json

import pytest

from ai_proxy.proxy.forward import as_ours
from ai_proxy.proxy.replies import reply
from ai_proxy.transport import errors
from ai_proxy.transport.limits import Limits
from tests.fakes.upstream import Peer, Upstream
from tests.proxy.plane import get, plane
from tests.proxy.serving import Client, until

ADDRESS = "10.9.8.7:4321"
FAILURES = [
    (errors.ConnectFailed(f"cannot connect to {ADDRESS}"), 502, "upstream_unreachable"),
    (errors.PoolClosed(f"{ADDRESS} was dropped"), 502, "upstream_unreachable"),
    (errors.UpstreamClosed(f"{ADDRESS} closed", started=False), 502, "upstream_broken"),
    (errors.ProtocolError(f"two lengths from {ADDRESS}"), 502, "upstream_broken"),
    (errors.PoolTimeout(f"no free connection to {ADDRESS}"), 503, "pool_busy"),
    (errors.ConnectTimeout(f"no connection to {ADDRESS}"), 504, "upstream_too_slow"),
    (errors.FirstByteTimeout(f"no response of {ADDRESS}"), 504, "upstream_too_slow"),
    (errors.IdleTimeout(f"no byte of {ADDRESS}"), 504, "upstream_too_slow"),
    (errors.WriteTimeout(f"{ADDRESS} takes no more"), 504, "upstream_too_slow"),
]


@pytest.mark.parametrize(("error", "status", "code"), FAILURES, ids=[type(case[0]).__name__ for case in FAILURES])
def test_b54_b55_b56_b59_b60_b61_each_failure_has_its_status_and_shows_no_address(
    error: errors.TransportError, status: int, code: str
) -> None:
    class OfAService:
        service = "chat"

    answer = reply(as_ours(error, OfAService()), "r-1")  # type: ignore[arg-type]  # all that it looks at
    told = json.loads(answer.body)["error"]
    assert (answer.status, told["code"], told["service"]) == (status, code, "chat")
    assert "10.9.8.7" not in answer.body.decode()
    assert (b"retry-after", b"1") in answer.headers


async def test_b61_a_client_that_left_is_a_499_in_the_log_alone() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.wait_eof()

    async with Upstream(script) as upstream, plane(upstream) as proxy:
        async with Client.to(proxy.port) as client:
            await client.send(get("/files/a"))
            await upstream.accepted(1)
        await until(lambda: proxy.entries)

    assert proxy.entries[0].status == 499
    assert proxy.metrics.service("files").responses[4] == 1


def test_b53_our_idle_connections_expire_before_those_of_llama_cpp_and_uvicorn() -> None:
    assert Limits().idle_expiry_s < 5
