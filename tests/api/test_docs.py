"""The API's description is whole, and its page loads nothing from elsewhere."""

import re
from collections.abc import Iterator
from typing import Any

from tests.api.house import House

SILENT = {"204"}
"""Statuses without a body."""


async def described(house: House) -> dict[str, Any]:
    """The OpenAPI document."""
    document: dict[str, Any] = (await house.get("/openapi.json")).json()
    return document


def routes(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every route by its verb and path."""
    for path, verbs in document["paths"].items():
        for verb, route in verbs.items():
            yield f"{verb.upper()} {path}", route


async def test_every_route_of_the_design_is_there(house: House) -> None:
    assert {name for name, _ in routes(await described(house))} == {
        "GET /api/v1/services",
        "GET /api/v1/service/{service_id}",
        "POST /api/v1/service/{service_id}/start",
        "POST /api/v1/service/{service_id}/stop",
        "POST /api/v1/service/{service_id}/restart",
        "GET /api/v1/service/{service_id}/logs",
        "GET /api/v1/resources",
        "GET /api/v1/requests",
        "GET /api/v1/requests/{request_id}",
        "DELETE /api/v1/requests/{request_id}",
        "POST /api/v1/plan",
        "POST /api/v1/leases",
        "GET /api/v1/leases",
        "GET /api/v1/leases/{lease_id}",
        "PUT /api/v1/leases/{lease_id}",
        "DELETE /api/v1/leases/{lease_id}",
        "GET /api/v1/events",
        "GET /api/v1/config",
        "POST /api/v1/config/reload",
        "GET /api/v1/health",
        "GET /api/v1/ready",
    }


async def test_every_route_has_a_tag_a_summary_and_a_description(house: House) -> None:
    for name, route in routes(await described(house)):
        assert len(route["tags"]) == 1, name
        assert route["summary"], name
        assert route["description"].endswith("."), name


async def test_every_parameter_says_what_it_is_with_an_example(house: House) -> None:
    for name, route in routes(await described(house)):
        for parameter in route.get("parameters", []):
            assert parameter["description"], (name, parameter["name"])
            assert parameter.get("examples") or parameter["schema"].get("examples"), (name, parameter["name"])


async def test_every_answer_has_a_description_and_its_form(house: House) -> None:
    for name, route in routes(await described(house)):
        for status, answer in route["responses"].items():
            assert answer["description"], (name, status)
            forms = answer.get("content", {})
            assert status in SILENT or forms, (name, status)
            for media, form in forms.items():
                assert form.get("schema") or form.get("example"), (name, status, media)


async def test_errors_have_the_form_that_they_are_sent_in(house: House) -> None:
    for name, route in routes(await described(house)):
        for status, answer in route["responses"].items():
            if status >= "400":
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (name, status)


async def test_every_field_of_the_wire_has_a_description_and_an_example(house: House) -> None:
    for model, schema in (await described(house))["components"]["schemas"].items():
        for field, about in schema["properties"].items():
            refers = "$ref" in str(about.get("anyOf", about)) or "$ref" in str(about.get("items"))
            assert about.get("description"), (model, field)
            assert about.get("examples") or refers, (model, field)


async def test_the_page_loads_nothing_from_elsewhere(house: House) -> None:
    answer = await house.get("/docs")

    assert answer.headers["content-security-policy"] == "default-src 'self' 'unsafe-inline'"
    assert re.findall(r"https?://|//[\w-]+\.\w", answer.text) == []
    assert '"/api/v1/openapi.json"' in answer.text
