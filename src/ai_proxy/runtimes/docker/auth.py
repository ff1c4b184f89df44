"""Registry logins, read where `docker login` wrote them: Docker's own config file and its credential helpers.

Knows nothing of engines or pulls. A login that can't be read is no login: the registry's refusal is the clearer word.
"""

import asyncio
import base64
import binascii
import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_HUB = "https://index.docker.io/v1/"
_HELPER_DEADLINE_S = 20
_TOKEN_USER = "<token>"  # noqa: S105 - the user name by which a helper marks its secret as an identity token


def registry_of(image: str) -> str:
    """Name the registry of an image as Docker's config file does.

    Example:
        >>> registry_of("ghcr.io/ggml-org/llama.cpp:server"), registry_of("localhost:5000/x")
        ('ghcr.io', 'localhost:5000')
        >>> registry_of("vllm/vllm-openai:v0.11.2")
        'https://index.docker.io/v1/'
    """
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost") and first != "docker.io":
        return first
    return _HUB


async def registry_auth(image: str, config_dir: Path | None = None) -> str | None:
    """Find the login for an image's registry.

    Args:
        image: The image to pull.
        config_dir: Where Docker's `config.json` lies; None for `$DOCKER_CONFIG` or `~/.docker`.

    Returns:
        The value of the `X-Registry-Auth` header; None without a login.
    """
    config = await asyncio.to_thread(_read_config, config_dir)
    registry = registry_of(image)
    login = await _from_helper(config, registry) or _from_file(config, registry)
    if login is None:
        return None
    text = json.dumps({**login, "serveraddress": registry})
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_config(config_dir: Path | None) -> Mapping[str, Any]:
    folder = config_dir or Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _from_file(config: Mapping[str, Any], registry: str) -> dict[str, str] | None:
    auths = config.get("auths") or {}
    entry = auths.get(registry) or auths.get(f"https://{registry}") or {}
    if token := entry.get("identitytoken"):
        return {"identitytoken": token}
    try:
        username, _, password = base64.b64decode(entry.get("auth", "")).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return {"username": username, "password": password} if username else None


async def _from_helper(config: Mapping[str, Any], registry: str) -> dict[str, str] | None:
    helper = (config.get("credHelpers") or {}).get(registry) or config.get("credsStore")
    if not helper:
        return None
    try:
        answer = json.loads(await _ask_helper(f"docker-credential-{helper}", registry))
        username, secret = answer["Username"], answer["Secret"]
    except (OSError, TimeoutError, ValueError, KeyError, TypeError):
        return None
    if username == _TOKEN_USER:
        return {"identitytoken": secret}
    return {"username": username, "password": secret}


async def _ask_helper(program: str, registry: str) -> bytes:
    pipe = asyncio.subprocess.PIPE
    helper = await asyncio.create_subprocess_exec(
        program, "get", stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_HELPER_DEADLINE_S):
            answer, _ = await helper.communicate(registry.encode())
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            helper.kill()
        await helper.wait()
        raise
    return answer
