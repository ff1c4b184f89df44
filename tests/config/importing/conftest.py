"""What these tests share: another tool's text as the config that comes of it."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

from ai_proxy.config.importing.convert import convert
from ai_proxy.config.importing.write import render, variables
from ai_proxy.config.load import load
from ai_proxy.config.models import Config, ServiceConfig

SAMPLES = Path(__file__).parent / "samples"


class Imported(NamedTuple):
    """A written file, what our own reader makes of it, and what was left."""

    text: str
    config: Config
    left: list[str]

    @property
    def service(self) -> ServiceConfig:
        """The only service."""
        (service,) = self.config.services.values()
        return service


type Import = Callable[[str], Imported]


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    """Convert, write, and read what was written; a variable NAME holds "/env/NAME"."""

    def run(text: str) -> Imported:
        draft = convert(dedent(text), "their.file")
        written = render(draft, "their.file")
        path = tmp_path / "ai-proxy.yaml"
        path.write_text(written, "utf-8")
        config = load(path, {name: f"/env/{name}" for name in variables(written)})
        return Imported(written, config, [str(left) for left in draft.left])

    return run
