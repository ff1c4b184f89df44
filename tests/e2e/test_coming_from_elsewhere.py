"""What a user of another tool meets: an imported config, model files that appear, paths that their tools know."""

import asyncio
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.clients import asking, chat
from tests.e2e.conftest import Serve
from tests.e2e.harness import GUARD_S, Settings, process, until
from tests.fakes import engine

pytestmark = pytest.mark.slow


def imported(folder: Path, text: str) -> Settings:
    """Another tool's config as `ai-proxy import` writes it."""
    theirs = folder / "theirs.yaml"
    theirs.write_text(text)
    command = [sys.executable, "-m", "ai_proxy", "import", str(theirs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GUARD_S)
    settings: Settings = yaml.safe_load(done.stdout)
    return settings


async def test_a_config_of_llama_swap_serves_the_same_names(serve: Serve, tmp_path: Path) -> None:
    command = shlex.join(engine.argv("--port", "PORT")).replace("PORT", "${PORT}")
    settings = imported(
        tmp_path,
        f"""
macros: {{engine: "{command}"}}
models:
  Org/First: {{cmd: "${{engine}}", aliases: [gpt-4o], env: [CUDA_VISIBLE_DEVICES=]}}
  second: {{cmd: "${{engine}}", env: [CUDA_VISIBLE_DEVICES=]}}
groups: {{g: {{members: [Org/First, second]}}}}
""",
    )
    proxy = serve(settings)
    async with asking(proxy) as client:
        assert (await chat(client, "gpt-4o")).status_code == 200
        assert [it["model"] for it in (await client.get("/running")).json()["running"]] == ["Org/First"]
        assert (await chat(client, "second")).status_code == 200
        assert (await client.get("/upstream/Org/First/health")).status_code == 200
        assert (await client.get("/unload")).text == "OK"
        assert (await client.get("/running")).json() == {"running": []}


async def test_a_model_file_that_appears_is_served_and_one_that_goes_is_not(serve: Serve, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "first.gguf").touch()
    proxy = serve(
        {
            "services": {},
            "templates": {"gguf": process()},
            "discover": [{"glob": f"{models}/*.gguf", "extends": "gguf"}],
            "default_service": "first",
        }
    )

    def listed() -> list[str]:
        return [model["id"] for model in proxy.get("/v1/models")["data"]]

    assert listed() == ["first"]
    (models / "second-Q4_0.gguf").touch()
    await asyncio.to_thread(until, lambda: listed() == ["first", "second-q4_0"], listed)
    async with asking(proxy) as client:
        assert (await chat(client, "second-q4_0")).status_code == 200
    (models / "first.gguf").unlink()
    await asyncio.to_thread(until, lambda: listed() == ["second-q4_0"], listed)
    await asyncio.to_thread(until, lambda: "default_service: there is no first now" in proxy.log, lambda: proxy.log)
