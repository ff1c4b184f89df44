"""The proxy itself over the API: alive, ready, its config, its faults; what all services share."""

import pytest
from fastapi import FastAPI
from loguru import logger

from ai_proxy import __version__
from ai_proxy.errors import RuntimeUnavailable
from tests.api.house import House, house_of


@pytest.mark.parametrize("path", ["/health", "/api/v1/health"])
async def test_it_is_alive(house: House, path: str) -> None:
    assert (await house.http.get(path)).json() == {"status": "ok", "version": __version__}


async def test_it_is_ready_and_counts_services_by_state(house: House) -> None:
    await house.post("/service/a/start", wait=True)

    assert (await house.get("/ready")).json() == {"status": "ready", "services": {"ready": 1, "stopped": 1}}


async def test_it_is_degraded_while_a_runtime_does_not_answer() -> None:
    async with house_of() as house:
        house.fleet.docker.adopt_failure = RuntimeUnavailable("the Docker engine does not answer")
        await house.post("/service/a/start", wait=True)

        assert (await house.get("/ready")).json()["status"] == "degraded"


async def test_it_is_not_ready_while_it_shuts_down(house: House) -> None:
    house.closing.set()

    answer = await house.get("/ready")

    assert (answer.status_code, answer.json()["code"]) == (503, "draining")


async def test_the_config_is_shown_without_its_secrets() -> None:
    text = "services: {a: {image: x, environment: {HF_TOKEN: hf_abcdefgh}, command: serve --api-key s3cret}}"
    async with house_of(text) as house:
        answer = await house.get("/config")

    assert answer.json()["services"]["a"]["image"] == "x"
    assert "hf_abcdefgh" not in answer.text
    assert "s3cret" not in answer.text


async def test_a_reload_tells_what_changed(house: House) -> None:
    house.fleet.edit("{log: {level: DEBUG}, services: {b: {command: serve, pinned: true}, c: {image: y}}}")

    answer = await house.post("/config/reload")

    assert answer.json() == {
        "added": ["c"],
        "removed": ["a"],
        "restarts": [],
        "live": ["b"],
        "settings": ["log.level"],
        "deferred": ["log.level"],
    }


async def test_a_faulty_file_is_refused_with_its_faults(house: House) -> None:
    house.fleet.spoil()

    answer = await house.post("/config/reload")

    assert answer.status_code == 409
    assert answer.json()["code"] == "config_refused"
    assert answer.json()["detail"] == "ai-proxy.yaml:3: services.a.port: not a number; fix: write 8080"


async def test_metrics_are_prometheus_text(house: House) -> None:
    answer = await house.http.get("/metrics")

    assert answer.text == "up 1.0\n"
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_requests_in_the_house_are_listed_and_can_be_cancelled(house: House) -> None:
    cancelled: list[str] = []
    grant = await house.fleet.grant("a", cancel=lambda: cancelled.append("a"))

    shown = (await house.get("/requests")).json()
    answer = await house.http.delete("/api/v1/requests/for-a")

    assert [(it["id"], it["service"], it["state"]) for it in shown] == [("for-a", "a", "running")]
    assert shown[0]["age_s"] >= 0
    assert shown[0]["key"] is None
    assert (answer.status_code, answer.content, cancelled) == (204, b"", ["a"])
    grant.close()


async def test_cancelling_a_request_that_is_not_there_is_404(house: House) -> None:
    answer = await house.http.delete("/api/v1/requests/nobody")

    assert (answer.status_code, answer.json()["code"]) == (404, "request_not_found")


async def test_a_path_that_nobody_knows_points_to_the_docs(house: House) -> None:
    answer = await house.get("/servises")

    assert (answer.status_code, answer.json()["code"]) == (404, "path_not_found")
    assert "/api/v1/docs" in answer.json()["detail"]


async def test_a_wrong_method_names_the_right_one(house: House) -> None:
    answer = await house.get("/service/a/start")

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "GET is not allowed here, but POST" in answer.json()["detail"]
    assert answer.headers["allow"] == "POST"


async def test_what_nobody_expected_is_logged_and_tells_nothing_of_the_inside(
    house: House,
) -> None:
    _breaks(house.api)
    logged: list[str] = []
    sink = logger.add(logged.append, format="{extra[request_id]} {message} {exception}", diagnose=False)

    answer = await house.http.get("/broken", headers={"x-request-id": "r-7"})

    assert answer.status_code == 500
    assert answer.json() == {
        "detail": "unexpected error: the proxy's log has it, under this request id",
        "code": "internal_error",
        "request_id": "r-7",
    }
    logger.remove(sink)
    assert logged[0].startswith("r-7 A management request failed unexpectedly")
    assert "secret of the inside" in logged[0]


def _breaks(api: FastAPI) -> None:
    @api.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret of the inside")


@pytest.mark.parametrize(("given", "kept"), [("r-1", True), ("", False), ("x" * 129, False)])
async def test_every_answer_carries_its_request_id(house: House, given: str, kept: bool) -> None:
    answer = await house.http.get("/health", headers={"x-request-id": given})

    assert (answer.headers["x-request-id"] == given) is kept
    assert answer.headers["x-request-id"]
