"""What the docs offer for a proxy in a container fits the proxy and itself."""

import shlex
from hashlib import sha256
from pathlib import Path

import yaml
from typer.testing import CliRunner

from ai_proxy.cli.app import app
from ai_proxy.config.load import load

DOCS = Path(__file__).parents[2] / "docs" / "docker"


def test_the_config_is_valid_and_management_has_a_key() -> None:
    config = load(DOCS / "config/ai-proxy.yaml", {"OPS_KEY_HASH": sha256(b"ops").hexdigest()})
    assert [key.management for key in config.keys] == [True]


def test_compose_mounts_what_there_is_and_only_the_gate_has_docker_s_socket() -> None:
    compose = yaml.safe_load((DOCS / "compose.yaml").read_text("utf-8"))
    mounts = {name: [it.split(":")[0] for it in service["volumes"]] for name, service in compose["services"].items()}
    assert [name for name, it in mounts.items() if "/var/run/docker.sock" in it] == ["docker-gate"]
    for source in (it for each in mounts.values() for it in each):
        assert source in compose["volumes"] or source.startswith("/") or (DOCS / source).exists(), source


def test_the_image_s_command_is_one_of_ours() -> None:
    line = next(line for line in (DOCS / "Dockerfile").read_text("utf-8").splitlines() if line.startswith("CMD"))
    command = yaml.safe_load(line.removeprefix("CMD"))
    options = [word for word in command if word.startswith("--")]
    shown = CliRunner().invoke(app, [command[0], "--help"], env={"COLUMNS": "200"}).output
    assert all(option in shown for option in options), shlex.join(command)
