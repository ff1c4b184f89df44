"""Fuzz one door: `python -m tests.fuzz requests --seconds 600`.

Needs atheris, which no test does and which is large, so it is no dependency:

    uv run --with atheris python -m tests.fuzz DOOR [--seconds N] [FILE…]

Begins with the corpus beside it and what it has found in earlier runs; a finding is written to `fuzz-findings/`, and
given as FILE it is run alone. What a run has learnt is merged into the corpus by hand, as little of it as covers it.
"""

import argparse
import importlib
import sys
from pathlib import Path

from loguru import logger

DOORS = ("requests", "responses", "bodies", "frames", "configs")
CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Run until something is found, or the time is over."""
    arguments = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    arguments.add_argument("door", choices=DOORS)
    arguments.add_argument("--seconds", type=int, default=600)
    arguments.add_argument("--learnt", type=Path, default=Path("fuzz-learnt"), help="where new inputs go")
    arguments.add_argument("files", nargs="*", type=Path, help="run these alone")
    given = arguments.parse_args()

    import atheris  # type: ignore[import-untyped]  # noqa: PLC0415 (only here, and perhaps not installed)

    with atheris.instrument_imports(include=["ai_proxy", "multipart"]):
        check = importlib.import_module(f"tests.fuzz.{given.door}").check
    logger.remove()
    options = [f"-dict={CORPUS / given.door}.dict"] if (CORPUS / f"{given.door}.dict").exists() else []
    if given.files:
        options += map(str, given.files)
    else:
        learnt, findings = given.learnt / given.door, Path("fuzz-findings")
        learnt.mkdir(parents=True, exist_ok=True)
        findings.mkdir(exist_ok=True)
        options += [f"-max_total_time={given.seconds}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=4096"]
        options += [f"-artifact_prefix={findings}/{given.door}-", str(learnt), str(CORPUS / given.door)]
    atheris.Setup([sys.argv[0], *options], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
