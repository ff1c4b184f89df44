"""Logins where Docker keeps them."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ai_proxy.runtimes.docker.auth import registry_auth

BASIC = base64.b64encode(b"me:se:cret").decode()


async def login(folder: Path, image: str, config: Any) -> dict[str, str] | None:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    header = await registry_auth(image, folder)
    return None if header is None else json.loads(base64.urlsafe_b64decode(header))


def helper(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "docker-credential-stub"
    program.write_text(f"#!/bin/sh\nread registry\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


async def test_a_login_in_the_file_is_found_by_registry(tmp_path: Path) -> None:
    config = {"auths": {"ghcr.io": {"auth": BASIC}, "https://index.docker.io/v1/": {"identitytoken": "t"}}}
    basic = {"username": "me", "password": "se:cret", "serveraddress": "ghcr.io"}
    assert await login(tmp_path, "ghcr.io/a/b:1", config) == basic
    token = {"identitytoken": "t", "serveraddress": "https://index.docker.io/v1/"}
    assert await login(tmp_path, "busybox", config) == token
    assert await login(tmp_path, "quay.io/a", config) is None


@pytest.mark.parametrize(
    "config", ["not json", "[]", {}, {"auths": None}, {"auths": {"ghcr.io": {}}}, {"auths": {"ghcr.io": {"auth": "?"}}}]
)
async def test_a_file_without_a_readable_login_is_no_login(tmp_path: Path, config: Any) -> None:
    assert await login(tmp_path, "ghcr.io/a", config) is None
    assert await registry_auth("ghcr.io/a", tmp_path / "nowhere") is None


@pytest.mark.parametrize("chosen_by", [{"credsStore": "stub"}, {"credHelpers": {"ghcr.io": "stub"}}])
async def test_a_credential_helper_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen_by: dict[str, Any]
) -> None:
    helper(tmp_path, """echo '{"Username": "me", "Secret": "s-'$registry'"}'""", monkeypatch)
    found = await login(tmp_path, "ghcr.io/a", chosen_by)
    assert found == {"username": "me", "password": "s-ghcr.io", "serveraddress": "ghcr.io"}


async def test_a_helpers_token_is_an_identity_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, """echo '{"Username": "<token>", "Secret": "t"}'""", monkeypatch)
    assert await login(tmp_path, "ghcr.io/a", {"credsStore": "stub"}) == {
        "identitytoken": "t",
        "serveraddress": "ghcr.io",
    }


@pytest.mark.parametrize("script", ["exit 1", "echo '[]'", "echo nonsense"])
async def test_a_helper_that_fails_falls_back_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    helper(tmp_path, script, monkeypatch)
    config = {"credsStore": "stub", "auths": {"ghcr.io": {"auth": BASIC}}}
    found = await login(tmp_path, "ghcr.io/a", config)
    assert found is not None
    assert found["username"] == "me"
