"""The files of the tree that are written by code, and the code that writes each.

A generator is given the file's present text, so that it may renew a part and keep what was written by hand around it.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ai_proxy.config import reference
from ai_proxy.services import machine
from tests import behaviours

DOCS = Path("docs")


def schema(_: str) -> str:
    """The config file's JSON schema."""
    return json.dumps(reference.json_schema(), indent=2, ensure_ascii=False) + "\n"


GENERATED: Mapping[Path, Callable[[str], str]] = {
    DOCS / reference.PAGE: reference.page,
    DOCS / reference.SCHEMA: schema,
    DOCS / "states.md": lambda _: machine.page(),
    DOCS / "behaviours.md": lambda _: behaviours.page(),
}
