"""Verbs that need no running proxy: what they print, and how they fail."""

import json
import socket
from pathlib import Path

import pytest

from ai_proxy import __version__
from tests.cli.shell import run, run_apart

pytestmark = pytest.mark.slow

FINE = "services: {small: {command: serve}, chat: {image: x}}"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "ai-proxy.yaml"
    path.write_text(FINE, "utf-8")
    return path


def test_help_lists_every_verb(tmp_path: Path) -> None:
    said = run_apart(tmp_path, "--help")

    verbs = {"serve", "check", "schema", "import", "demo", "pull", "version"}
    verbs |= {"ps", "start", "stop", "restart", "logs", "events", "reload"}
    assert said.status == 0
    assert verbs <= set(said.out.split())


def test_version_names_itself_and_python(tmp_path: Path) -> None:
    assert run(tmp_path, "version").out.startswith(f"ai-proxy {__version__} (Python 3.")


def test_schema_is_json_that_knows_the_services(tmp_path: Path) -> None:
    assert "services" in json.loads(run(tmp_path, "schema").out)["properties"]


def test_check_shows_what_was_discovered_and_what_was_not(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("a.gguf", "half-00001-of-00002.gguf"):
        (tmp_path / "models" / name).touch()
    (tmp_path / "ai-proxy.yaml").write_text(
        "templates: {t: {command: x}}\n"
        "discover:\n"
        "  - {glob: models/*.gguf, extends: t}\n"
        "  - {glob: other/*.gguf, extends: t}\n"
    )

    said = run(tmp_path, "check")

    assert said.status == 0
    assert said.out.splitlines() == [
        f"{tmp_path}/ai-proxy.yaml: fine, 1 service",
        f"discovered: a from {tmp_path}/models/a.gguf",
        "note: line 3: half-00001-of-00002.gguf waits for 1 more of its shards, such as half-00002-of-00002.gguf",
        "note: line 4: other/*.gguf matches no model file",
    ]


def test_check_says_that_a_file_is_fine(config: Path) -> None:
    assert run(config.parent, "check").out == f"{config}: fine, 2 services\n"


def test_check_lists_every_fault_one_a_line(config: Path) -> None:
    config.write_text("services:\n  a: {image: x, port: http}\n  b: {nonsense: 1, image: y}\n", "utf-8")

    said = run(config.parent, "check", str(config))

    lines = said.err.splitlines()
    assert (said.status, said.out, len(lines)) == (2, "", 2)
    assert lines[0].startswith(f"{config}:2: services.a.port: ")
    assert lines[1].startswith(f"{config}:3: services.b.nonsense: ")


def test_check_warns_of_what_can_not_be_kept(config: Path) -> None:
    config.write_text("{server: {on_exit: keep}, services: {small: {command: serve}}}", "utf-8")

    assert "these end with the proxy: small" in run(config.parent, "check").out


def test_check_against_another_file_tells_what_would_change(config: Path) -> None:
    new = config.with_name("new.yaml")
    new.write_text("{log: {level: DEBUG}, services: {small: {command: other}, embed: {image: z}}}", "utf-8")

    said = run(config.parent, "check", str(new), "--against", str(config))

    assert said.out.splitlines()[1:] == [
        "new services: embed",
        "removed, drain and stop: chat",
        "restart: small",
        "other keys: log.level",
        "of these, only at the next start: log.level",
    ]


def test_check_against_itself_changes_nothing(config: Path) -> None:
    assert run(config.parent, "check", "--against", str(config)).out.endswith("nothing changes\n")


@pytest.mark.parametrize("verb", ["serve", "check", "pull"])
def test_a_missing_config_is_one_line_that_says_where_it_was_looked_for(tmp_path: Path, verb: str) -> None:
    said = run(tmp_path, verb)

    assert said.status == 2
    assert said.err.count("\n") == 1
    assert str(tmp_path / "ai-proxy.yaml") in said.err
    assert "--config FILE" in said.err


def test_a_config_that_is_named_and_missing_is_one_line(tmp_path: Path) -> None:
    said = run(tmp_path, "serve", "--config", "no.yaml")

    assert (said.status, said.err.count("\n")) == (2, 1)
    assert said.err.startswith("no.yaml: can't be read: No such file")


def test_a_port_that_is_taken_is_one_line_that_names_the_way_out(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        said = run(config.parent, "serve", "--port", port)

    assert said.status == 1
    assert (
        said.err == f"can't listen on 127.0.0.1:{port}: Address already in use; choose another with --host or --port\n"
    )


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_refused(config: Path, port: str) -> None:
    said = run(config.parent, "serve", "--port", port)

    assert said.status == 2
    assert "Traceback" not in said.err
    assert "--port" in said.err


def test_a_host_that_is_not_ours_is_one_line(config: Path) -> None:
    said = run(config.parent, "serve", "--host", "192.0.2.1", "--port", "0")

    assert (said.status, said.err.count("\n")) == (1, 1)
    assert said.err.startswith("can't listen on 192.0.2.1:0: ")


def test_a_state_directory_that_can_not_be_made_is_one_line(config: Path) -> None:
    config.write_text("{state_dir: ai-proxy.yaml/state, services: {small: {command: serve}}}", "utf-8")

    said = run_apart(config.parent, "serve", "--port", "0")

    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "Not a directory" in said.err


def test_pull_of_an_unknown_service_names_those_that_there_are(config: Path) -> None:
    said = run(config.parent, "pull", "chta")

    assert (said.status, said.err) == (1, f"not in {config}: chta; it has small, chat\n")


def test_pull_has_nothing_to_do_for_processes(config: Path) -> None:
    said = run(config.parent, "pull", "small")

    assert (said.status, said.err.strip()) == (0, "No service of the config runs in a container: nothing to fetch.")


def test_pull_tells_for_each_service_what_went_wrong(config: Path) -> None:
    said = run(config.parent, "pull", DOCKER_HOST=f"unix://{config.parent}/no.sock")

    assert said.status == 1
    assert said.err.splitlines()[-1].startswith("chat: ")
    assert "Traceback" not in said.err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    said = run_apart(tmp_path, "--debug", "check")

    assert said.status != 0
    assert "Traceback (most recent call last)" in said.err
