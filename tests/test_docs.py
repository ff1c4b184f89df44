"""What the documents say of the tree is so."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["architecture.md", "traps.md"])
def test_every_test_that_is_said_to_hold_something_exists(page: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / page).read_text("utf-8")))
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }

    assert named
    assert named - there == set()


def test_the_code_map_names_every_part_of_the_package() -> None:
    shown = (ROOT / "docs/architecture.md").read_text("utf-8")
    parts = {
        path.name + "/" * path.is_dir()
        for path in (ROOT / "src/ai_proxy").iterdir()
        if not path.name.startswith("__") and path.name != "py.typed"
    }

    assert {part for part in parts if f"`{part}`" not in shown} == set()
