"""Fixtures: a config file from text, and the lines of its faults."""

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from ai_proxy.config.faults import ConfigError
from ai_proxy.config.load import load
from ai_proxy.config.models import Config

type Load = Callable[..., Config]
type Faults = Callable[..., list[str]]


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    def loaded(text: str, environ: Mapping[str, str] | None = None) -> Config:
        path = tmp_path / "ai-proxy.yaml"
        path.write_text(dedent(text), "utf-8")
        return load(path, environ or {})

    return loaded


@pytest.fixture
def faults_of(load_text: Load, tmp_path: Path) -> Faults:
    """The faults as shown, the directory taken off."""

    def faults(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as raised:
            load_text(text, environ)
        return str(raised.value).replace(f"{tmp_path}/", "").splitlines()

    return faults
