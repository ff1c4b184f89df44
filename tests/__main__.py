"""The test command: `python -m tests` runs the checks, then every test under coverage.

Further arguments go to pytest; with any, coverage is reported but not judged.
"""

import subprocess
import sys

from tests import check

MIN_COVERAGE = 90
# The tests wait as much as they compute: three keep two cores busy. A file stays with one worker, and so do the
# engines that it shares; the files come in their own order, in which the last ones are short.
AT_ONCE = ("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "-p", "no:benchmark")


def main(arguments: list[str]) -> int:
    """Run everything; the exit status is that of the first part that failed."""
    python = [sys.executable, "-m"]
    threshold = [] if arguments else [f"--fail-under={MIN_COVERAGE}"]
    runs = [[*AT_ONCE, *arguments]] if arguments else [[*AT_ONCE, "-m", "not oom"], ["-m", "oom", *alone()]]
    parts = (
        [*python, "tests.check"],
        [*python, "coverage", "erase"],
        *([*python, "coverage", "run", "-m", "pytest", *run] for run in runs),
        [*python, "coverage", "combine", "--quiet"],
        [*python, "coverage", "report", *threshold],
    )
    for part in parts:
        print("$", " ".join(["python", *part[1:]]), flush=True)
        done = subprocess.run(part, cwd=check.ROOT, check=False)
        if done.returncode:
            return done.returncode
    return 0


def alone() -> list[str]:
    """The files that have a test which runs alone: to collect all others again would take longer than to run it."""
    paths = sorted((check.ROOT / "tests").rglob("test_*.py"))
    return [str(path) for path in paths if "mark.oom" in path.read_text("utf-8")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
