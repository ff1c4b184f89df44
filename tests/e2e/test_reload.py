"""Another config under a running proxy, and its end: what is open is finished, what is faulty changes nothing."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.e2e.clients import asking, chat, error_of, rest_of, streaming
from tests.e2e.conftest import Serve
from tests.e2e.harness import Proxy, Settings, process, until
from tests.proxy.serving import Client

pytestmark = pytest.mark.slow

FOR_A_WHILE = ("--chunks", "60", "--interval", "0.02")
ENDLESS = ("--chunks", "1000000", "--interval", "0.02")


def applied(proxy: Proxy, services: dict[str, Settings], **more: Settings) -> None:
    """Give a proxy another config and wait until it is in force, or refused."""
    before = proxy.log.count("Config applied") + proxy.log.count("Config refused")
    proxy.configure({"services": services, **more})
    until(lambda: proxy.log.count("Config applied") + proxy.log.count("Config refused") > before, lambda: proxy.log)


async def test_l13_services_come_change_and_go_without_a_restart_of_the_others(serve: Serve) -> None:
    stays, goes, changes = process(), process(), process(environment={"LIFE": "first"})
    proxy = serve({"services": {"stays": stays, "goes": goes, "changes": changes}})
    async with asking(proxy) as client:
        for name in ("stays", "goes", "changes"):
            assert (await chat(client, name)).status_code == 200
        instance = proxy.service("stays")["instance"]

        renamed = {**stays, "models": ["stays", "also"]}
        changed = process(environment={"LIFE": "second"})
        applied(proxy, {"stays": renamed, "changes": changed, "comes": process()})

        for name in ("stays", "also", "changes", "comes"):
            assert (await chat(client, name)).status_code == 200
        gone = await chat(client, "goes")
        assert (gone.status_code, error_of(gone)["code"]) == (404, "model_not_found")
    assert proxy.service("stays")["instance"] == instance
    assert proxy.get("/services/changes/fake/env")["LIFE"] == "second"
    assert [service["id"] for service in proxy.get("/api/v1/services")] == ["stays", "changes", "comes"]


@pytest.mark.parametrize("new", [{"environment": {"LIFE": "second"}}, None], ids=["changed", "removed"])
async def test_l13_a_busy_service_finishes_before_it_changes_or_goes(
    new: Settings | None, serve: Serve, tmp_path: Path
) -> None:
    until_told = (*ENDLESS, "--end-file", str(tmp_path / "end"))
    proxy = serve({"services": {"chat": process(*until_told), "other": process()}})
    async with streaming(proxy, "chat") as stream, asking(proxy) as client:
        applied(proxy, {"other": process(), **({"chat": process(*until_told, **new)} if new is not None else {})})
        if new is not None:
            assert proxy.state("chat") == "draining"
        assert (await chat(client, "other")).status_code == 200
        (tmp_path / "end").touch()
        assert (await rest_of(stream)).endswith(b"data: [DONE]\n\n")
        if new is not None:
            assert (await chat(client, "chat")).status_code == 200
            assert proxy.get("/services/chat/fake/env")["LIFE"] == "second"


async def test_l17_a_faulty_config_changes_nothing_and_its_fault_is_named(serve: Serve) -> None:
    proxy = serve({"services": {"chat": process()}})
    async with asking(proxy) as client:
        assert (await chat(client, "chat")).status_code == 200
        instance = proxy.service("chat")["instance"]
        applied(proxy, {"chat": process(idle_timeout=5)})
        assert (await chat(client, "chat")).status_code == 200
    assert proxy.service("chat")["instance"] == instance
    line = proxy.config.read_text().splitlines().index("    idle_timeout: 5") + 1
    refusal = proxy.log.partition("Config refused")[2]
    assert f"ai-proxy.yaml:{line}" in refusal
    assert "services.chat.idle_timeout" in refusal
    assert "idle_timeout_s" in refusal


async def test_sighup_reads_what_the_config_refers_to(serve: Serve) -> None:
    """A file that the config names is not followed; the signal has it read."""
    proxy = serve({"services": {"chat": process(*FOR_A_WHILE)}})
    variables = proxy.folder / "chat.env"
    variables.write_text("LIFE=first\n")
    applied(proxy, {"chat": process(*FOR_A_WHILE, env_file=str(variables))})
    async with asking(proxy) as client:
        assert (await chat(client, "chat")).status_code == 200
        variables.write_text("LIFE=second\n")
        proxy.signal(signal.SIGHUP)
        until(lambda: proxy.log.count("Config applied") == 2, lambda: proxy.log)
        assert (await chat(client, "chat")).status_code == 200
    assert proxy.get("/services/chat/fake/env")["LIFE"] == "second"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_b62_asked_to_end_it_finishes_what_streams(number: signal.Signals, serve: Serve) -> None:
    proxy = serve({"services": {"chat": process(*FOR_A_WHILE)}})
    async with streaming(proxy, "chat") as stream, Client.to(proxy.port) as idle:
        proxy.signal(number)
        assert await idle.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        text = await rest_of(stream)
    assert b"token59" in text
    assert text.endswith(b"data: [DONE]\n\n")
    assert await asyncio.to_thread(proxy.wait) == 0
    until(lambda: not proxy.processes(), proxy.processes)


async def test_b62_asked_twice_it_ends_at_once(serve: Serve) -> None:
    proxy = serve({"services": {"chat": process(*ENDLESS)}})
    async with streaming(proxy, "chat") as stream, Client.to(proxy.port) as idle:
        proxy.signal(signal.SIGTERM)
        await idle.rest()
        proxy.signal(signal.SIGTERM)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await rest_of(stream)
    assert await asyncio.to_thread(proxy.wait) == 1
    until(lambda: not proxy.processes(), proxy.processes)
