"""Fuzz one door: `python -m tests.fuzz requests --seconds 600`.

Needs atheris, which no test does and which is large, so it is no dependency:

    uv run --with atheris python -m tests.fuzz DOOR [--seconds N] [FILE…]    look for findings, or run these alone
    python -m tests.fuzz DOOR --keep                                         keep what the runs have learnt

A run begins with the corpus and with what earlier runs have learnt (`fuzz-learnt/`), ends at its first finding, and
writes that to `fuzz-findings/`.
"""

import argparse
import hashlib
import importlib
import sys
from pathlib import Path

from loguru import logger

from tests.fuzz.kept import FOLDER, keep, kept

DOORS = ("requests", "responses", "relays", "bodies", "frames", "configs")
LEARNT = Path("fuzz-learnt")
FINDINGS = Path("fuzz-findings")


def main() -> None:
    """Run until something is found, or the time is over."""
    arguments = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz one door.")
    arguments.add_argument("door", choices=DOORS)
    arguments.add_argument("--seconds", type=int, default=600)
    arguments.add_argument("--keep", action="store_true", help="keep what was learnt, and run nothing")
    arguments.add_argument("files", nargs="*", help="run these alone")
    given = arguments.parse_args()
    learnt = LEARNT / given.door
    if given.keep:
        keep(given.door, [file.read_bytes() for file in learnt.iterdir()])
    else:
        _fuzz(given.door, given.files or _options(given.door, learnt, given.seconds))


def _options(door: str, learnt: Path, seconds: int) -> list[str]:
    learnt.mkdir(parents=True, exist_ok=True)
    FINDINGS.mkdir(exist_ok=True)
    for data in kept(door):
        (learnt / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    words = FOLDER / f"{door}.dict"
    options = [f"-dict={words}"] if words.exists() else []
    options += [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=4096"]
    return [*options, f"-artifact_prefix={FINDINGS}/{door}-", str(learnt)]


def _fuzz(door: str, options: list[str]) -> None:
    import atheris  # type: ignore[import-untyped]  # noqa: PLC0415 (only here, and perhaps not installed)

    with atheris.instrument_imports(include=["ai_proxy"]):
        check = importlib.import_module(f"tests.fuzz.{door}").check
    logger.remove()
    atheris.Setup([sys.argv[0], *options], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
