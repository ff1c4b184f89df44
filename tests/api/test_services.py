"""Services over the API: seen, started, stopped."""

import asyncio

import pytest

from ai_proxy.errors import RuntimeUnavailable, StartFailed
from tests.api.house import House, house_of


async def test_services_come_in_the_order_of_the_config_with_their_state(house: House) -> None:
    shown = (await house.get("/services")).json()

    assert [(it["id"], it["state"], it["runtime"], it["models"]) for it in shown] == [
        ("a", "stopped", "docker", ["chat"]),
        ("b", "stopped", "process", ["b"]),
    ]


@pytest.mark.parametrize("path", ["/service/a", "/services/a"])
async def test_a_service_is_shown_under_both_names(house: House, path: str) -> None:
    assert (await house.get(path)).json()["id"] == "a"


@pytest.mark.parametrize(("verb", "path"), [("GET", ""), ("POST", "/start"), ("POST", "/stop"), ("GET", "/logs")])
async def test_an_unknown_service_is_404_and_names_the_nearest(verb: str, path: str) -> None:
    async with house_of("services: {whisper: {image: x}, chat: {image: y}}") as house:
        answer = await house.http.request(verb, f"/api/v1/service/wisper{path}", headers={"x-request-id": "r-1"})

    assert answer.status_code == 404
    assert answer.json() == {
        "detail": "no service 'wisper' in the config; did you mean whisper?",
        "code": "service_not_found",
        "request_id": "r-1",
    }


async def test_starting_twice_starts_once(house: House) -> None:
    first = await house.post("/service/a/start", wait=True)
    second = await house.post("/service/a/start", wait=True)

    assert (first.json()["state"], second.json()["state"]) == ("ready", "ready")
    assert house.fleet.docker.starts("a") == 1


async def test_a_ready_service_tells_its_instance_and_how_long_it_has_been_idle(house: House) -> None:
    shown = (await house.post("/service/a/start", wait=True)).json()

    assert shown["instance"] == "fake-1"
    assert shown["placement"] == {"devices": [], "vram_mb": 0, "memory_mb": 0}
    assert shown["idle_for_s"] >= 0
    assert shown["failure"] is None


async def test_without_wait_a_start_answers_at_once(house: House) -> None:
    house.fleet.docker.hold("a")

    answer = await house.post("/service/a/start")

    assert answer.json()["state"] in {"stopped", "queued", "starting"}
    await house.fleet.docker.until("start a")


async def test_stopping_twice_is_as_good_as_once(house: House) -> None:
    await house.post("/service/a/start", wait=True)

    states = [(await house.post("/service/a/stop", wait=True)).json()["state"] for _ in range(2)]

    assert states == ["stopped", "stopped"]
    assert house.fleet.docker.stops("a") == 1


async def test_a_busy_service_is_stopped_once_its_requests_are_done(house: House) -> None:
    grant = await house.fleet.grant("a")

    assert (await house.post("/service/a/stop")).json()["state"] == "draining"
    stopping = asyncio.create_task(house.post("/service/a/stop", wait=True))
    grant.close()
    assert (await stopping).json()["state"] == "stopped"


async def test_a_restart_ends_the_replica_and_starts_another(house: House) -> None:
    await house.post("/service/a/start", wait=True)

    shown = (await house.post("/service/a/restart", wait=True)).json()

    assert (shown["state"], shown["instance"]) == ("ready", "fake-2")


async def test_waiting_for_a_start_that_fails_is_409_with_the_cause(house: House) -> None:
    house.fleet.docker.fail("a", StartFailed("a: no such image: x", log_tail=("pull access denied",)))

    answer = await house.post("/service/a/start", wait=True)

    assert answer.status_code == 409
    assert answer.json()["detail"] == "a was not started: a: no such image: x"
    assert answer.json()["code"] == "start_failed"
    failure = (await house.get("/service/a")).json()["failure"]
    assert (failure["message"], failure["log_tail"]) == ("a: no such image: x", ["pull access denied"])
    assert failure["retry_in_s"] > 0


async def test_a_start_after_a_failure_is_tried_at_once_and_forgets_it(house: House) -> None:
    house.fleet.docker.fail("a", StartFailed("a: no such image"))
    await house.post("/service/a/start", wait=True)

    shown = (await house.post("/service/a/start", wait=True)).json()

    assert (shown["state"], shown["failure"]) == ("ready", None)


async def test_waiting_for_a_start_without_room_is_409_with_the_reason() -> None:
    async with house_of("services: {a: {image: x, resources: {min_memory_mb: 65000}}}") as house:
        answer = await house.post("/service/a/start", wait=True)

    assert answer.status_code == 409
    assert "65,000 MB of host memory" in answer.json()["detail"]


async def test_waiting_for_a_start_on_a_runtime_that_does_not_answer_is_409_with_the_cause() -> None:
    async with house_of() as house:
        house.fleet.docker.adopt_failure = RuntimeUnavailable("the Docker engine does not answer")

        answer = await house.post("/service/a/start", wait=True)

    assert answer.status_code == 409
    assert answer.json()["code"] == "runtime_unavailable"
    assert "the Docker engine does not answer" in answer.json()["detail"]


async def test_a_wait_that_takes_too_long_is_504_and_tells_how_far_it_came(house: House) -> None:
    house.fleet.docker.hold("a")

    answer = await house.post("/service/a/start", wait=True, timeout_s=0.01)

    assert answer.status_code == 504
    assert "it is starting" in answer.json()["detail"]


async def test_a_wait_ends_when_the_proxy_does(house: House) -> None:
    house.fleet.docker.hold("a")
    waiting = asyncio.create_task(house.post("/service/a/start", wait=True))
    await house.fleet.docker.until("start a")

    house.closing.set()

    assert (await waiting).json()["code"] == "draining"


async def test_a_service_that_leaves_the_config_during_a_wait_is_404(house: House) -> None:
    house.fleet.docker.hold("a")
    waiting = asyncio.create_task(house.post("/service/a/start", wait=True))
    await house.fleet.docker.until("start a")
    house.fleet.edit("services: {b: {command: serve}}")

    await house.fleet.plane.reload()

    assert (await waiting).status_code == 404


async def test_a_parameter_of_the_wrong_kind_is_named(house: House) -> None:
    answer = await house.post("/service/a/start", wait="perhaps", timeout_s=-1)

    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_parameter"
    assert "wait: Input should be a valid boolean" in answer.json()["detail"]
    assert "timeout_s: Input should be greater than 0" in answer.json()["detail"]
    assert house.fleet.docker.starts("a") == 0
