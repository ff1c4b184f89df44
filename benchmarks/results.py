"""Results of a benchmark, kept as JSON and as a page."""

import json
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def keep(folder: Path, name: str, figures: Mapping[str, Any], page: Callable[[Mapping[str, Any]], str]) -> None:
    """Write `<now>-<name>.json` and `.md` into a folder, with day and machine, and print the page."""
    now = datetime.now(UTC)
    machine = f"{platform.machine()}, Linux {platform.release()}, CPython {platform.python_version()}"
    result = {"date": now.date().isoformat(), "machine": machine, **figures}
    folder.mkdir(exist_ok=True)
    stem = folder / f"{now:%Y-%m-%dT%H%M}-{name}"
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    stem.with_suffix(".md").write_text(page(result))
    print(page(result))
