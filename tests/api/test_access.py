"""Management is for holders of a management key, and while there is none, for this machine."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator

import httpx
import pytest
from loguru import logger

from ai_proxy.api.access import distance_of
from ai_proxy.devices import Device
from ai_proxy.forwarding import TrustedProxies
from tests.api.house import House, house_of

OPS, DATA = "sk-aip-ops", "sk-aip-data"
LOOPBACK, NOBODY = TrustedProxies(["127.0.0.0/8", "::1"]), TrustedProxies()


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


KEYS = f"""
keys:
  - {{name: ops, hash: {sha256(OPS)}, management: true}}
  - {{name: backend, hash: {sha256(DATA)}}}
services: {{a: {{image: x}}}}
"""


def client_of(house: House, address: str) -> httpx.AsyncClient:
    """A client at another address."""
    transport = httpx.ASGITransport(house.api, raise_app_exceptions=False, client=(address, 4711))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the audit log says, from DEBUG on."""
    lines: list[str] = []
    sink = logger.add(
        lambda it: lines.append(f"{it.record['level'].name} {it.record['message']}"), filter="ai_proxy.api.audit"
    )
    yield lines
    logger.remove(sink)


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


GOOD = {
    "bearer": {"authorization": f"Bearer {OPS}"},
    "x-api-key": {"x-api-key": OPS},
    "a password": basic("me", OPS),
    "a user name": basic(OPS, ""),
}
BAD = {"none": {}, "another": {"x-api-key": "sk-aip-x"}, "no Basic": {"authorization": "Basic %%"}}


@pytest.mark.parametrize("headers", GOOD.values(), ids=GOOD)
async def test_a_management_key_opens_it_from_everywhere(headers: dict[str, str]) -> None:
    async with house_of(KEYS) as house, client_of(house, "203.0.113.9") as far:
        assert (await far.get("/api/v1/services", headers=headers)).status_code == 200


@pytest.mark.parametrize("headers", BAD.values(), ids=BAD)
@pytest.mark.parametrize("path", ["/api/v1/services", "/metrics", "/running", "/api/v1/docs", "/api/v1/none"])
async def test_once_there_is_a_management_key_nothing_opens_without_it(headers: dict[str, str], path: str) -> None:
    async with house_of(KEYS) as house:
        answer = await house.http.get(path, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "management_key_needed")
    assert answer.headers["www-authenticate"] == 'Basic realm="ai-proxy management", Bearer'


async def test_a_data_key_opens_no_management() -> None:
    async with house_of(KEYS) as house:
        answer = await house.http.get("/api/v1/services", headers={"x-api-key": DATA})

    assert (answer.status_code, answer.json()["code"]) == (403, "not_a_management_key")


async def test_a_page_that_is_not_ours_is_not_asked_for_a_key() -> None:
    async with house_of(KEYS) as house:
        answer = await house.http.get("/api/v1/services", headers={"host": "evil.example"})

    assert answer.status_code == 403
    assert "www-authenticate" not in answer.headers


async def test_everybody_may_ask_whether_it_lives() -> None:
    async with house_of(KEYS) as house, client_of(house, "203.0.113.9") as far:
        assert (await far.get("/health")).status_code == 200


async def test_without_a_management_key_only_this_machine_may_manage(house: House) -> None:
    async with client_of(house, "203.0.113.9") as far:
        refused = await far.post("/api/v1/service/a/start")
        with_some_key = await far.post("/api/v1/service/a/start", headers={"x-api-key": DATA})

    assert (refused.status_code, refused.json()["code"]) == (403, "not_local")
    assert "`ai-proxy key create ops --management`" in refused.json()["detail"]
    assert with_some_key.status_code == 403
    assert (await house.post("/service/a/start")).status_code == 200


async def test_a_key_that_a_reload_brings_counts_at_once(house: House) -> None:
    assert (await house.get("/services")).status_code == 200

    house.fleet.edit(KEYS)
    await house.fleet.plane.reload()

    assert (await house.get("/services")).status_code == 401


async def test_a_proxy_of_this_machine_that_the_config_trusts_may_pass_on_who_is_local(lines: list[str]) -> None:
    trusting = "{server: {trusted_proxies: [127.0.0.1]}, services: {a: {image: x}}}"
    async with house_of(trusting) as house:
        near = await house.http.get("/api/v1/ready", headers={"x-forwarded-for": "127.0.0.1"})
        far = await house.http.get("/api/v1/ready", headers={"x-forwarded-for": "203.0.113.9"})

    assert (near.status_code, far.status_code) == (200, 403)
    assert lines == ["INFO Management: GET /api/v1/ready → 403, by no key from 203.0.113.9"]


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1", None])
def test_loopback_and_unix_sockets_are_this_machine(peer: str | None) -> None:
    assert distance_of(peer, [(b"host", b"x")], NOBODY) == ""


@pytest.mark.parametrize("peer", ["10.0.0.7", "::ffff:10.0.0.7", "fe80::1%eth0", "testclient"])
def test_all_else_is_another_one(peer: str) -> None:
    assert distance_of(peer, [], LOOPBACK) == f"{peer} is another one"


FORWARDED = {
    "x-forwarded-for": [(b"x-forwarded-for", b"127.0.0.1")],
    "x-real-ip": [(b"x-real-ip", b"127.0.0.1")],
    "forwarded": [(b"forwarded", b"for=127.0.0.1")],
}


@pytest.mark.parametrize("fields", FORWARDED.values(), ids=FORWARDED)
@pytest.mark.parametrize("peer", ["127.0.0.1", None])
def test_what_another_proxy_passed_on_is_not_this_machine(fields: list[tuple[bytes, bytes]], peer: str | None) -> None:
    assert distance_of(peer, fields, NOBODY).startswith("the request came through another proxy")


def fields_of(line: str) -> list[tuple[bytes, bytes]]:
    """Fields written as one line."""
    return [(name.encode(), value.encode()) for name, _, value in (it.partition(": ") for it in line.split(" / "))]


@pytest.mark.parametrize(
    "line",
    [
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-for: ::1, 127.0.0.1",
        "x-forwarded-for: 127.0.0.1:4711 / x-real-ip: 127.0.0.1",
        'forwarded: for="[::1]:4711";proto=https, FOR=127.0.0.1',
    ],
)
def test_a_trusted_proxy_on_this_machine_is_believed_that_its_client_is_too(line: str) -> None:
    assert distance_of("127.0.0.1", fields_of(line), LOOPBACK) == ""


@pytest.mark.parametrize(
    "line",
    [
        "x-forwarded-for: 203.0.113.9",
        "x-forwarded-for: 127.0.0.1, 203.0.113.9",
        "x-forwarded-for: 203.0.113.9, 127.0.0.1",
        "x-forwarded-for: 127.0.0.1 / x-forwarded-for: 203.0.113.9",
        "x-forwarded-for: 127.0.0.1 / x-real-ip: 203.0.113.9",
        "x-forwarded-for: unknown",
        "x-forwarded-for: ",
        "forwarded: for=127.0.0.1, for=203.0.113.9",
        "forwarded: for=_hidden",
        "forwarded: proto=https",
        'forwarded: for=203.0.113.9;by="[::1]", for="127.0.0.1',
        "x-forwarded-for: [127.0.0.1",
    ],
)
def test_one_address_that_is_not_loopback_is_enough_to_be_far(line: str) -> None:
    assert (
        distance_of("127.0.0.1", fields_of(line), LOOPBACK) == "the proxy in front says that its client is another one"
    )


async def test_acts_and_refusals_are_logged_with_their_key_and_never_the_key_itself(lines: list[str]) -> None:
    async with house_of(KEYS) as house:
        await house.http.post("/api/v1/service/a/start", headers=GOOD["bearer"])
        await house.http.get("/api/v1/services", headers=GOOD["bearer"])
        await house.http.get("/api/v1/services", headers={"x-api-key": DATA})
        await house.http.get("/api/v1/services", headers={"x-api-key": "sk-aip-guess"})
        await house.http.post("/api/v1/service/a%0Ab/stop", headers={"origin": "https://evil.example"})

    ops, data = sha256(OPS)[:8], sha256(DATA)[:8]
    assert lines == [
        f"INFO Management: POST /api/v1/service/a/start → 200, by key ops ({ops}) from 127.0.0.1",
        f"INFO Management: GET /api/v1/services → 403, by key backend ({data}) from 127.0.0.1",
        "INFO Management: GET /api/v1/services → 401, by an unknown key from 127.0.0.1",
        "INFO Management: POST /api/v1/service/a%0Ab/stop → 403, by a foreign page from 127.0.0.1",
    ]


async def test_an_act_without_a_key_is_logged_too_and_so_is_one_by_get(house: House, lines: list[str]) -> None:
    await house.post("/config/reload")
    await house.http.get("/unload")

    assert lines == [
        "INFO Management: POST /api/v1/config/reload → 200, by no key, loopback from 127.0.0.1",
        "INFO Management: GET /unload → 200, by no key, loopback from 127.0.0.1",
    ]


async def test_a_heartbeat_does_not_bury_the_rest(lines: list[str]) -> None:
    async with house_of(gpus=(Device("0", "GPU-a", 10_000),)) as house:
        lease = (await house.send("POST", "/leases", {"vram_mb": 8000})).json()
        await house.send("PUT", f"/leases/{lease['id']}", {"pids": []})

    assert [line.split(" → ")[0] for line in lines] == [
        "INFO Management: POST /api/v1/leases",
        f"DEBUG Management: PUT /api/v1/leases/{lease['id']}",
    ]


async def test_an_act_that_meets_a_bug_is_logged_as_one(
    house: House, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(service: str) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(house.fleet.plane, "start", broken)

    await house.post("/service/a/start")

    assert lines == ["INFO Management: POST /api/v1/service/a/start → 500, by no key, loopback from 127.0.0.1"]
