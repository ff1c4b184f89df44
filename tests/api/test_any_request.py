"""The management API against requests made from its own description: none may meet a bug or an answer not described.

The requests are the same in every run. What never ends by itself, following events and output, is left to its own
tests.
"""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ai_proxy.devices import Device
from tests.api.house import House, house_of

if TYPE_CHECKING:
    import httpx
    from schemathesis import Case

pytestmark = pytest.mark.slow

CONFIG = """
services:
  a: {image: x, models: [chat], resources: {gpus: 0}}
  b: {command: serve, resources: {gpus: 0}}
"""
ENDLESS = {"/api/v1/events"}
LEASES = "/api/v1/leases"
GUARD_S = 20

a_few = settings(
    max_examples=10,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


async def test_no_request_meets_a_bug_or_gets_an_answer_that_is_not_described() -> None:
    # Takes a second to import, and no other test needs it.
    import schemathesis  # noqa: PLC0415
    from schemathesis import GenerationMode  # noqa: PLC0415
    from schemathesis.core.result import Ok  # noqa: PLC0415

    async with house_of(CONFIG, gpus=(Device("0", "GPU-a", 10_000),)) as house:
        loop = asyncio.get_running_loop()
        schema = schemathesis.openapi.from_dict(house.api.openapi())
        answered: set[tuple[str, int]] = set()

        def ask(case: "Case[Any]", service: str) -> None:
            that_ends(case, service)
            answer = asyncio.run_coroutine_threadsafe(send(house, case), loop).result(GUARD_S)
            answered.add((case.operation.label, answer.status_code))
            assert answer.status_code != 500
            # A 503 or 504 that is described is no bug.
            case.validate_response(answer, excluded_checks=[schemathesis.checks.not_a_server_error])

        def ask_all() -> None:
            for result in schema.get_all_operations():
                assert isinstance(result, Ok)
                operation = result.ok()
                if operation.path in ENDLESS:
                    continue
                # Where nothing can be given there is nothing wrong to give.
                takes_something = bool(operation.query or operation.body)
                for mode in GenerationMode if takes_something else [GenerationMode.POSITIVE]:
                    cases = operation.as_strategy(generation_mode=mode)
                    a_few(given(cases, st.sampled_from("abc"))(ask))()

        await asyncio.to_thread(ask_all)

    assert {
        ("GET /api/v1/services", 200),
        ("POST /api/v1/service/{service_id}/start", 200),
        ("POST /api/v1/service/{service_id}/stop", 404),
        ("POST /api/v1/leases", 422),
        ("POST /api/v1/plan", 422),
    } <= answered


def that_ends(case: "Case[Any]", service: str) -> None:
    """Ask for what is there, and for nothing that waits."""
    if "service_id" in case.path_parameters:
        case.path_parameters["service_id"] = service
    if case.operation.path == LEASES and isinstance(case.body, dict):
        wait_s = case.body.get("wait_s", 600)
        if isinstance(wait_s, int | float) and not isinstance(wait_s, bool) and wait_s > 0:
            case.body["wait_s"] = 0
    case.query.pop("follow", None)


async def send(house: House, case: "Case[Any]") -> "httpx.Response":
    """Ask the application."""
    wish = case.as_transport_kwargs(base_url="http://127.0.0.1:8000")
    del wish["cookies"]
    if isinstance(wish.get("data"), bytes | str):
        wish["content"] = wish.pop("data")
    return await house.http.request(**wish)
