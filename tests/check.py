"""The check command: `python -m tests.check` judges the whole tree, `--fix` mends what a tool can mend.

Format, lint, types, import contracts, generated files, and sizes of files and functions. It runs all of them before
it fails, so that one run shows everything there is to do.
"""

import argparse
import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.generated import GENERATED

ROOT = Path(__file__).parents[1]
SOURCES = [name for name in ("src", "tests", "benchmarks") if any((ROOT / name).rglob("*.py"))]

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def command(*argv: str) -> Callable[[], list[str]]:
    """A check that is a program: what it says is the fault, if it fails."""

    def run() -> list[str]:
        program = Path(sys.executable).with_name(argv[0])
        done = subprocess.run([program, *argv[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr).strip().splitlines() if done.returncode else []

    return run


def stale_files() -> list[str]:
    """Generated files that differ from what their generators say now."""
    return [
        f"{path} is not what its generator says: run `python -m tests.check --fix`"
        for path, generate in GENERATED.items()
        if (text := text_of(path)) != generate(text)
    ]


def write_generated() -> None:
    """Write every generated file anew."""
    for path, generate in GENERATED.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(generate(text_of(path)), "utf-8")


def text_of(path: Path) -> str:
    """The text of a file of the tree; empty if there is none yet."""
    return (ROOT / path).read_text("utf-8") if (ROOT / path).is_file() else ""


def oversized() -> list[str]:
    """Files and functions that are too long to be read at once."""
    faults = []
    for path in (path for source in SOURCES for path in sorted((ROOT / source).rglob("*.py"))):
        text = path.read_text("utf-8")
        name = path.relative_to(ROOT)
        if (lines := text.count("\n")) > MAX_FILE_LINES:
            faults.append(f"{name}: {lines} lines, more than {MAX_FILE_LINES}")
        faults += [
            f"{name}:{at}: {function} has {length} lines, more than {MAX_FUNCTION_LINES}"
            for function, at, length in functions(text)
            if length > MAX_FUNCTION_LINES
        ]
    return faults


def functions(text: str) -> Iterator[tuple[str, int, int]]:
    r"""Name, first line and length of each function in a module.

    Example:
        >>> list(functions("def f():\n    return 1\n"))
        [('f', 1, 2)]
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


CHECKS: dict[str, Callable[[], list[str]]] = {
    "format": command("ruff", "format", "--check", "--output-format=concise", *SOURCES),
    "lint": command("ruff", "check", "--quiet", "--output-format=concise", *SOURCES),
    "types": command("mypy", "--no-error-summary", *SOURCES),
    "import contracts": command("lint-imports", "--no-logo"),
    "generated files": stale_files,
    "sizes": oversized,
}


def main(arguments: list[str]) -> int:
    """Run all checks; the exit status says whether any found a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.check", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--fix", action="store_true", help="format, mend lint, write generated files; then check")
    if parser.parse_args(arguments).fix:
        write_generated()
        command("ruff", "check", "--fix", "--quiet", *SOURCES)()
        command("ruff", "format", *SOURCES)()
    failed = False
    for name, check in CHECKS.items():
        faults = check()
        failed |= bool(faults)
        print("\n".join([f"{'✗' if faults else '✓'} {name}", *(f"    {fault}" for fault in faults)]), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
