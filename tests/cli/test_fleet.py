"""Verbs that talk to a running proxy."""

import json
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from select import select

import pytest

from tests.cli.shell import interrupt, run, running
from tests.e2e.harness import Proxy, process, until
from tests.fakes.certificates import Authority

pytestmark = pytest.mark.slow

SERVICES = {
    "small": process("--say", "ready to [/serve]"),
    "other": process(),
    "bad": process("--say", "error: no such model", "--exit-after", "0", "--exit-code", "3"),
}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path_factory.mktemp("proxy"), {"services": SERVICES})
    proxy.start()
    yield proxy
    proxy.close()


def ask(proxy: Proxy, *words: str) -> tuple[int, str, str]:
    """Run a verb against the proxy."""
    said = run(proxy.folder, *words, AI_PROXY_URL=proxy.url)
    return said.status, said.out, said.err


def test_services_are_started_seen_restarted_and_stopped(proxy: Proxy) -> None:
    assert ask(proxy, "start", "small") == (0, "small is ready\n", "")
    assert ask(proxy, "start", "small") == (0, "small is ready\n", "")

    status, table, _ = ask(proxy, "ps")
    lines = [line.split() for line in table.splitlines()]
    assert status == 0
    assert lines[0][:2] == ["SERVICE", "STATE"]
    assert lines[1][:2] == ["small", "ready"]
    assert lines[2][:2] == ["other", "stopped"]

    assert ask(proxy, "restart", "small")[1] == "small is ready\n"
    assert ask(proxy, "stop", "small") == (0, "small is stopped\n", "")
    assert ask(proxy, "stop", "small") == (0, "small is stopped\n", "")


def test_ps_as_json_is_for_scripts(proxy: Proxy) -> None:
    services = json.loads(ask(proxy, "ps", "--json")[1])

    assert [service["id"] for service in services] == list(SERVICES)


def test_a_start_that_fails_tells_its_cause_and_leaves_the_last_words_to_be_read(proxy: Proxy) -> None:
    assert ask(proxy, "start", "bad") == (
        1, "", "bad was not started: bad exited with code 3 while it was loading\n"
    )  # fmt: skip
    assert ask(proxy, "logs", "bad") == (0, "error: no such model\n", "")
    assert "bad exited with code 3 while it was loading" in ask(proxy, "ps")[1]


def test_no_wait_returns_at_once(proxy: Proxy) -> None:
    status, out, _ = ask(proxy, "start", "other", "--no-wait")

    assert status == 0
    assert out.startswith("other is ")
    proxy.await_state("other", "ready")


def test_an_unknown_service_is_one_line_with_the_nearest(proxy: Proxy) -> None:
    assert ask(proxy, "start", "smal?l") == (
        1, "", "no service 'smal?l' in the config; did you mean small?\n"
    )  # fmt: skip


def test_the_output_of_a_service_comes_as_it_is(proxy: Proxy) -> None:
    ask(proxy, "start", "small")

    assert ask(proxy, "logs", "small")[1].startswith("ready to [/serve]\nlistening on ")


def test_ctrl_c_ends_following_a_log_without_a_word(proxy: Proxy) -> None:
    ask(proxy, "start", "small")
    with running(proxy.folder, "logs", "-f", "small", AI_PROXY_URL=proxy.url) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "ready to [/serve]\n"

        said = interrupt(command)

    assert (said.status, said.err) == (130, "")


def test_following_a_log_ends_with_the_replica(proxy: Proxy) -> None:
    ask(proxy, "start", "small")
    with running(proxy.folder, "logs", "-f", "small", AI_PROXY_URL=proxy.url) as command:
        assert command.stdout is not None
        command.stdout.readline()
        proxy.post("/api/v1/service/small/stop")

        assert command.wait(20) == 0


@pytest.mark.parametrize("flag", ["--json", None])
def test_events_are_followed_until_ctrl_c(proxy: Proxy, flag: str | None) -> None:
    words = ["events", *([flag] if flag else [])]
    with running(proxy.folder, *words, AI_PROXY_URL=proxy.url) as command:
        assert command.stdout is not None
        stdout = command.stdout
        # It follows from some moment on: something happens until it has seen something.
        until(lambda: proxy.post("/api/v1/service/other/restart?wait=true") and select([stdout], [], [], 0)[0])
        line = stdout.readline()
        said = interrupt(command)

    assert (said.status, said.err) == (130, "")
    assert (json.loads(line)["service"] == "other") if flag else (" other: " in line)


def test_reload_tells_what_changed_or_what_is_wrong(proxy: Proxy) -> None:
    assert ask(proxy, "reload") == (0, "nothing changed\n", "")
    good = proxy.config.read_text("utf-8")
    proxy.config.write_text(good + "nonsense: 1\n", "utf-8")
    try:
        status, out, err = ask(proxy, "reload")
    finally:
        proxy.config.write_text(good, "utf-8")

    assert (status, out, err.count("\n")) == (1, "", 1)
    assert ": nonsense: " in err


def test_the_proxy_is_found_by_its_config_file(proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "ai-proxy.yaml").write_text(f"{{server: {{port: {proxy.port}}}, services: {{}}}}", "utf-8")

    assert run(tmp_path, "ps").status == 0


def test_no_proxy_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    said = run(tmp_path, "ps", "--url", url)

    assert (said.status, said.out) == (1, "")
    assert said.err == f"no proxy answers at {url}: start one with `ai-proxy serve`, or say --url\n"


def test_an_url_that_is_none_is_one_line(tmp_path: Path) -> None:
    said = run(tmp_path, "ps", "--url", "ftp://x")

    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "ftp://x is no URL of a proxy" in said.err


def test_a_proxy_that_breaks_off_is_one_line(tmp_path: Path) -> None:
    def hang_up() -> None:
        listener.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up).start()
        said = run(tmp_path, "ps", "--url", f"127.0.0.1:{listener.getsockname()[1]}")

    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "broke off" in said.err
    assert "does it speak https?" in said.err


def test_a_proxy_that_asks_for_a_certificate_is_shown_one(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(*authority.issue())
    own = tmp_path / "me.pem"
    own.write_bytes(b"".join(path.read_bytes() for path in authority.issue("me.example", name="me")))

    def answer() -> None:
        for _ in range(2):
            with suppress(OSError), context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer).start()
        url = f"https://localhost:{listener.getsockname()[1]}"
        ca = str(authority.file)
        refused = run(tmp_path, "ps", "--url", url, SSL_CERT_FILE=ca)
        shown = run(tmp_path, "ps", "--json", "--url", url, SSL_CERT_FILE=ca, AI_PROXY_CERT=str(own))
        unusable = run(tmp_path, "ps", "--url", url, SSL_CERT_FILE=ca, AI_PROXY_CERT=ca)

    assert (refused.status, "set AI_PROXY_CERT if it asks for a certificate" in refused.err) == (1, True)
    assert (shown.status, shown.out) == (0, "[]\n")
    assert unusable.err.startswith(f"AI_PROXY_CERT: can't use {ca} (")


def test_a_faulty_config_does_not_lead_to_a_wrong_proxy(tmp_path: Path) -> None:
    (tmp_path / "ai-proxy.yaml").write_text("services: {a: {nonsense: 1, image: x}}", "utf-8")

    said = run(tmp_path, "ps")

    assert said.status == 2
    assert said.err.splitlines()[-1] == "The file does not tell where the proxy listens: mend it, or say --url"


def test_what_answers_but_is_no_proxy_is_said_to_be_none(proxy: Proxy, tmp_path: Path) -> None:
    proxy.post("/api/v1/service/small/start?wait=true")

    said = run(tmp_path, "ps", "--url", f"{proxy.url}/small")

    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "is that an ai-proxy?" in said.err


def test_a_proxy_that_ends_ends_those_who_follow_it(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path, {"services": SERVICES}).start()
    proxy.post("/api/v1/service/small/start?wait=true")
    with running(tmp_path, "logs", "-f", "small", AI_PROXY_URL=proxy.url) as command:
        assert command.stdout is not None
        command.stdout.readline()
        proxy.signal(signal.SIGTERM)

        assert command.wait(20) == 0
        assert proxy.wait() == 0
