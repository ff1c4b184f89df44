"""What header fields cost: the head that goes upstream, the fields that come back."""

from pytest_benchmark.fixture import BenchmarkFixture

from ai_proxy.proxy.headers import SetFields, inbound, outbound, peer_lines

CURL = [
    (b"Host", b"127.0.0.1:8000"),
    (b"User-Agent", b"curl/8.9.1"),
    (b"Accept", b"*/*"),
    (b"Content-Type", b"application/json"),
    (b"Content-Length", b"612"),
]
# What openai-python sends, by httpx.
SDK = [
    (b"Host", b"127.0.0.1:8000"),
    (b"Accept-Encoding", b"gzip, deflate"),
    (b"Connection", b"keep-alive"),
    (b"Accept", b"application/json"),
    (b"Content-Type", b"application/json"),
    (b"User-Agent", b"OpenAI/Python 1.60.0"),
    (b"X-Stainless-Lang", b"python"),
    (b"X-Stainless-Runtime-Version", b"3.12.1"),
    (b"Authorization", b"Bearer sk-0123456789abcdef0123456789abcdef"),
    (b"Content-Length", b"612"),
]
RARE = [(b"X-Custom-%d" % number, b"value") for number in range(10)]
ANSWER = [
    (b"date", b"Sun, 22 Nov 2026 10:00:00 GMT"),
    (b"server", b"uvicorn"),
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"transfer-encoding", b"chunked"),
    (b"connection", b"keep-alive"),
    (b"cache-control", b"no-cache"),
]
PEER = peer_lines("10.0.0.9", "http")


NOTHING = SetFields()
KEY = SetFields.of({"authorization": "Bearer k"})


def head(fields: list[tuple[bytes, bytes]], setting: SetFields = NOTHING) -> bytes:
    target, request_id = b"/v1/chat/completions", b"req-0123456789abcdef"
    return outbound(b"POST", target, fields, peer=PEER, request_id=request_id, setting=setting).data


def test_outbound_5_fields(benchmark: BenchmarkFixture) -> None:
    assert benchmark(head, CURL)


def test_outbound_10_fields(benchmark: BenchmarkFixture) -> None:
    assert benchmark(head, SDK)


def test_outbound_20_fields_half_of_them_unknown(benchmark: BenchmarkFixture) -> None:
    assert benchmark(head, SDK + RARE)


def test_outbound_10_fields_with_a_key_of_the_service(benchmark: BenchmarkFixture) -> None:
    assert b"Bearer k" in benchmark(head, SDK, KEY)


def test_inbound_6_fields(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(lambda: inbound(ANSWER, request_id=b"req-0123456789abcdef", service=b"chat"))) == 6


def test_peer_lines_once_per_connection(benchmark: BenchmarkFixture) -> None:
    assert benchmark(peer_lines, "10.0.0.9", "http") == PEER
