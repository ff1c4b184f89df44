"""Web pages are kept out of the management API; programs and the proxy's own pages are not."""

import pytest
from starlette.datastructures import Headers

from ai_proxy.api.guard import fault_of
from tests.api.house import House, house_of


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8000",
        "[::1]:8000",
        "10.0.0.7",
        "localhost:8000",
        "LOCALHOST",
        "gpu-box:8000",
        "proxy.svc.cluster.local",
    ],
)
def test_an_address_or_a_local_name_is_let_in(host: str) -> None:
    assert fault_of("POST", Headers({"host": host})) == ""


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "a:b:c", "localhost:x", "[:::::]"]
)
def test_a_name_that_may_be_a_rebinding_page_is_refused(host: str) -> None:
    assert "is not known as a name of this proxy" in fault_of("GET", Headers({"host": host}))


def test_the_configured_host_is_let_in() -> None:
    assert fault_of("GET", Headers({"host": "ai.example.com:8000"}), {"ai.example.com"}) == ""


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8000", "localhost:8000"),
        ("http://10.0.0.7", "10.0.0.7:80"),
        ("https://gpu-box", "gpu-box"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_a_page_of_the_proxy_itself_is_let_in(origin: str, host: str) -> None:
    assert fault_of("POST", Headers({"host": host, "origin": origin})) == ""


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost:3000",
        "https://localhost",
        "null",
        "file://",
        "chrome-extension://x",
        "http://a:b",
        "http://[localhost:8000",
    ],
)
def test_b65_a_page_of_another_origin_is_refused(origin: str) -> None:
    fault = fault_of("POST", Headers({"host": "localhost:8000", "origin": origin}))

    assert fault.startswith(f"a page of {origin!r} may not use the management API; management.trusted_origins ")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("mode", ["no-cors", "cors", "navigate"])
def test_b65_what_the_browser_calls_another_site_is_refused(site: str, mode: str) -> None:
    headers = Headers({"host": "localhost", "sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": "iframe"})

    assert fault_of("GET", headers).startswith("a page of another site may not use the management API; ")


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_what_the_browser_calls_its_user_or_ourselves_is_let_in(site: str) -> None:
    assert fault_of("GET", Headers({"host": "localhost", "sec-fetch-site": site})) == ""


@pytest.mark.parametrize(("method", "is_let_in"), [("GET", True), ("POST", False)])
def test_a_link_may_be_followed_but_no_form_be_sent(method: str, is_let_in: bool) -> None:
    link = {
        "host": "localhost",
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
    }

    assert (fault_of(method, Headers(link)) == "") is is_let_in


async def test_a_refused_request_does_nothing(house: House) -> None:
    answer = await house.http.post("/api/v1/service/a/start", headers={"origin": "https://evil.example"})

    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_page")
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert house.fleet.moves("a") == []


async def test_hosts_and_origins_of_the_config_in_force_count() -> None:
    config = """
        server: {host: ai.example.com}
        management: {host: ops.example.com, port: 1, allowed_hosts: [AI.other.example], trusted_origins: ['https://ops.example:443']}
        services: {a: {image: x}}
    """

    async def status(**headers: str) -> int:
        return (await house.http.get("/api/v1/ready", headers=headers)).status_code

    async with house_of(config) as house:
        assert await status(host="ai.example.com") == await status(host="ops.example.com:1") == 200
        assert await status(host="ai.other.example:8000") == 200
        assert await status(host="evil.example.com") == 403
        assert await status(origin="https://ops.example") == 200
        assert await status(origin="http://ops.example") == 403
        assert await status(origin="https://ops.example:8443") == 403


async def test_everybody_may_ask_whether_it_lives(house: House) -> None:
    assert (await house.http.get("/health", headers={"host": "evil.example"})).status_code == 200


def test_a_page_of_a_trusted_origin_may_be_of_another_site() -> None:
    headers = {"host": "10.0.0.7:8000", "origin": "https://ops.example", "sec-fetch-site": "cross-site"}

    assert fault_of("POST", Headers(headers), trusted_origins=["https://ops.example"]) == ""
    assert fault_of("POST", Headers({**headers, "host": "evil.example"}), trusted_origins=["https://ops.example"])
