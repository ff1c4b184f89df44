"""What the READMEs promise is what the tree does."""

import re
from pathlib import Path

import pytest

from ai_proxy.config.load import load

ROOT = Path(__file__).parents[1]
READMES = ["README.md", "docs/ja/README.md"]


def blocks(readme: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / readme).read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("readme", READMES)
def test_the_config_that_it_shows_has_no_fault(readme: str, tmp_path: Path) -> None:
    [shown] = blocks(readme, "yaml")
    path = tmp_path / "ai-proxy.yaml"
    path.write_text(shown, "utf-8")

    config = load(path, {})

    assert [*config.services] == ["qwen", "small"]


@pytest.mark.parametrize("readme", READMES)
def test_ci_runs_the_test_command_that_it_names(readme: str) -> None:
    command = blocks(readme, "sh")[1].strip()

    assert (ROOT / ".ci/run").read_text("utf-8").splitlines()[-1] == command


@pytest.mark.parametrize("readme", READMES)
def test_every_link_leads_somewhere(readme: str) -> None:
    place = ROOT / readme
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", place.read_text("utf-8"))

    assert [link for link in links if "://" not in link and not (place.parent / link).exists()] == []
