"""Measure what decisions cost as fleets grow; write JSON and a page into bench-results/.

Run as `python -m benchmarks.scale`: it runs `test_planner.py` and `test_cold_path.py` and keeps what counts. Exits 1 if
a bar is missed.
"""

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILES = ("test_planner.py", "test_cold_path.py")
GRANTS_PER_S = 10_000
PLAN_P99_MS = 5.0
STEP_MS = 5.0
"""For so long at most a step of the core may hold the loop, whatever follows from an event."""

type Figures = Mapping[str, Any]


def measure() -> dict[str, Figures]:
    """The figures of every benchmark, by its name."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        files = [str(HERE / file) for file in FILES]
        subprocess.run(  # a person started this; it ends when they say so
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--benchmark-json={told}", *files],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return {each["name"]: each["extra_info"] for each in json.loads(told.read_text())["benchmarks"]}


def bars(figures: Mapping[str, Figures]) -> dict[str, bool]:
    """What has to hold, and whether it does."""
    storms = {
        name: each["grants_per_s"] for name, each in figures.items() if "storm[1000-" in name and "a crowd" in name
    }
    plans = {name: each["p99_ms"] for name, each in figures.items() if "p99_ms" in each and "1000-256" in name}
    steps = {name: each["step_max_us"] / 1e3 for name, each in figures.items() if "step_max_us" in each}
    best, slowest = max(storms, key=lambda name: storms[name]), max(plans, key=lambda name: plans[name])
    longest = max(steps, key=lambda name: steps[name])
    raw = max(each["step_raw_max_us"] / 1e3 for each in figures.values() if "step_raw_max_us" in each)
    return {
        f"cold grants at 1,000 services: {storms[best]:,} a second ({best}), at least {GRANTS_PER_S:,}": (
            storms[best] >= GRANTS_PER_S
        ),
        f"p99 of one plan at 1,000 × 256: {plans[slowest]} ms ({slowest}), at most {PLAN_P99_MS:g} ms; "
        f"with whatever else held up the machine {figures[slowest]['raw_p99_ms']} ms": plans[slowest] <= PLAN_P99_MS,
        f"longest step of all: {steps[longest]:g} ms ({longest}), at most {STEP_MS:g} ms; "
        f"with whatever else held up the machine {raw:g} ms": steps[longest] <= STEP_MS,
    }


def page(about: str, figures: Mapping[str, Figures], verdicts: Mapping[str, bool]) -> str:
    """The page: the bars, then all figures, one table for each set of them."""
    lines = ["# What decisions cost as fleets grow", "", about, ""]
    lines += [f"- {'met' if met else '**missed**'}: {bar}" for bar, met in verdicts.items()]
    tables: dict[tuple[str, ...], list[str]] = {}
    for name, each in figures.items():
        tables.setdefault(tuple(each), []).append(_row([f"`{name}`", *each.values()]))
    for columns, rows in tables.items():
        lines += ["", _row(["case: services-devices", *columns]), _row(["---"] * (len(columns) + 1)), *rows]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells) + " |"


def main() -> int:
    figures = measure()
    now = datetime.now(UTC)
    machine = f"{platform.machine()}, Linux {platform.release()}, CPython {platform.python_version()}"
    about = (
        f"`python -m benchmarks.scale`, {now.date().isoformat()}, on {machine}. Times are the process's own; of each"
        " plan and step the fastest of three."
    )
    verdicts = bars(figures)
    stem = Path("bench-results") / f"{now:%Y-%m-%dT%H%M}-scale"
    stem.with_suffix(".json").write_text(json.dumps({"about": about, "figures": figures}, indent=1) + "\n")
    stem.with_suffix(".md").write_text(page(about, figures, verdicts))
    for bar, met in verdicts.items():
        print(f"{'met' if met else 'missed'}: {bar}")
    print(f"{stem}.md")
    return int(not all(verdicts.values()))


if __name__ == "__main__":
    sys.exit(main())
