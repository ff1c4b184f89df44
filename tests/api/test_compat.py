"""Tools written for llama-swap find what they know."""

import asyncio

import pytest

from tests.api.house import House, house_of

CONFIG = """
services:
  a: {image: x, models: {Qwen/Qwen3-8B: m, gpt-4o-mini: m}, command: "serve --api-key s3cret", idle_timeout_s: 600}
  b: {command: "serve 'my model'"}
  cloud: {url: "http://127.0.0.1:1", models: [big-*]}
"""


async def test_nothing_runs_at_first(house: House) -> None:
    assert (await house.http.get("/running")).json() == {"running": []}


async def test_what_runs_is_told_in_the_shape_that_is_known() -> None:
    async with house_of(CONFIG) as house:
        for service in ("b", "a"):
            await house.post(f"/service/{service}/start", wait=True)
        answer = await house.http.get("/running")

    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "running": [
            {
                "model": "Qwen/Qwen3-8B",
                "state": "ready",
                "cmd": "serve --api-key '•••'",
                "proxy": "http://127.0.0.1:8000/services/a",
                "ttl": 600,
                "name": "a",
                "description": "",
            },
            {
                "model": "b",
                "state": "ready",
                "cmd": "serve 'my model'",
                "proxy": "http://127.0.0.1:8000/services/b",
                "ttl": 0,
                "name": "b",
                "description": "",
            },
        ]
    }


async def test_a_start_under_way_runs_already(house: House) -> None:
    house.fleet.docker.hold("a")
    await house.post("/service/a/start")
    await asyncio.sleep(0)

    assert [(it["model"], it["state"]) for it in (await house.http.get("/running")).json()["running"]] == [
        ("chat", "starting")
    ]


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", "/unload", "OK"),
        ("POST", "/unload", "OK"),
        ("POST", "/api/models/unload", '{"msg":"ok"}'),
    ],
)
async def test_unload_stops_everything_and_answers_when_it_is_done(method: str, path: str, said: str) -> None:
    async with house_of(CONFIG) as house:
        for service in ("a", "b", "cloud"):
            await house.post(f"/service/{service}/start", wait=True)
        answer = await house.http.request(method, path)
        states = {it["id"]: it["state"] for it in (await house.get("/services")).json()}

    assert (answer.status_code, answer.text) == (200, said)
    assert states == {"a": "stopped", "b": "stopped", "cloud": "ready"}


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "gpt-4o-mini", "a"])
async def test_one_model_is_unloaded_by_name_or_id(name: str) -> None:
    async with house_of(CONFIG) as house:
        for service in ("a", "b"):
            await house.post(f"/service/{service}/start", wait=True)
        answer = await house.http.post(f"/api/models/unload/{name}")
        left = (await house.http.get("/running")).json()["running"]

    assert (answer.status_code, answer.text) == (200, "OK")
    assert [it["name"] for it in left] == ["b"]


async def test_an_unknown_model_is_404_and_names_the_nearest(house: House) -> None:
    answer = await house.http.post("/api/models/unload/chatt")

    assert answer.status_code == 404
    assert answer.json()["detail"] == "no model 'chatt' here; did you mean chat?"


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"host": "evil.example"},
    ],
    ids=["link", "image", "rebinding"],
)
async def test_a_foreign_page_unloads_nothing(house: House, headers: dict[str, str]) -> None:
    await house.post("/service/a/start", wait=True)
    answer = await house.http.get("/unload", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_page")
    assert len((await house.http.get("/running")).json()["running"]) == 1
