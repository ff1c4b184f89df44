"""What routing costs: matching a path, resolving a name, finding and replacing the model in a body."""

import json

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ai_proxy.config.models import Config
from ai_proxy.errors import UnknownModel
from ai_proxy.routing.extract import finder_for
from ai_proxy.routing.json_body import model_in_json, rename_in_json
from ai_proxy.routing.multipart import MultipartFinder
from ai_proxy.routing.table import Route, RouteTable

SIZES = {"0.8kB": 3, "23kB": 110, "229kB": 1100, "2.3MB": 11000}
TEXTS = {
    "ascii": "It is a truth universally acknowledged, that a single GPU in possession of a good model. ",
    "cjk": "吾輩は猫である。",
}


def chat(turns: int, text: str) -> bytes:
    message = text * (200 // len(text.encode()) + 1)
    messages = [{"role": "user", "content": message[:180]} for _ in range(turns)]
    document = {"model": "gpt-4o-mini", "stream": True, "messages": messages}
    return json.dumps(document, ensure_ascii=False).encode()


def table(services: int) -> RouteTable:
    chosen = {f"service-{number}": {"url": "http://127.0.0.1:1"} for number in range(services)}
    return RouteTable(Config.model_validate({"services": chosen}))


@pytest.mark.parametrize("services", [10, 1000])
def test_match_model_route(benchmark: BenchmarkFixture, services: int) -> None:
    benchmark(table(services).match, b"/v1/chat/completions", "POST")


@pytest.mark.parametrize("services", [10, 1000])
def test_match_prefix(benchmark: BenchmarkFixture, services: int) -> None:
    route = benchmark(table(services).match, b"/service-7/v1/chat/completions", "POST")
    assert route == Route("service-7", b"/v1/chat/completions")


@pytest.mark.parametrize("services", [10, 1000])
def test_resolve(benchmark: BenchmarkFixture, services: int) -> None:
    benchmark(table(services).resolve, "service-7")


@pytest.mark.parametrize("services", [10, 1000])
def test_resolve_unknown(benchmark: BenchmarkFixture, services: int) -> None:
    routes = table(services)

    def refuse() -> None:
        with pytest.raises(UnknownModel):
            routes.resolve("servise-77-instruct")

    benchmark(refuse)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size", SIZES)
def test_find_in_json(benchmark: BenchmarkFixture, size: str, text: str) -> None:
    body = chat(SIZES[size], TEXTS[text])
    assert benchmark(model_in_json, body) == "gpt-4o-mini"


@pytest.mark.parametrize("size", SIZES)
def test_rename_in_json(benchmark: BenchmarkFixture, size: str) -> None:
    body = chat(SIZES[size], TEXTS["ascii"])
    assert model_in_json(benchmark(rename_in_json, body, "gpt-4o-mini", "Qwen/Qwen2.5-32B-Instruct"))


def test_finder_around_a_small_body(benchmark: BenchmarkFixture) -> None:
    body = chat(SIZES["0.8kB"], TEXTS["ascii"])

    def find() -> bytes:
        finder = finder_for(b"application/json")
        finder.feed(body)
        finder.finish()
        return finder.take()

    assert benchmark(find) is body


def test_find_in_a_form_after_a_file_of_1_mib(benchmark: BenchmarkFixture) -> None:
    file = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + bytes(1 << 20)
    field = b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--b--\r\n'
    body = file + field
    chunks = [body[at : at + 65536] for at in range(0, len(body), 65536)]

    def find() -> str | None:
        finder = MultipartFinder(b"b")
        for chunk in chunks:
            finder.feed(chunk)
        return finder.name

    assert benchmark(find) == "whisper-1"
