"""The corpus: inputs worth running again, one a line as Python writes bytes, so that it can be read and compared.

Those above the line `# learnt` were written by hand or once were a finding; those below taught a fuzzer something, and
are replaced by what a later run has learnt.
"""

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "corpus"
LEARNT: Final = "# learnt"
MOST_BYTES: Final = 30_000


def kept(door: str) -> list[bytes]:
    """All inputs that are kept for a door."""
    by_hand, learnt = _lines(door)
    return [ast.literal_eval(line) for line in (*by_hand, *learnt) if not line.startswith("#")]


def keep(door: str, inputs: Iterable[bytes]) -> None:
    """Keep what a run has learnt, as much as there is room for, the short ones first."""
    by_hand, _ = _lines(door)
    known = set(by_hand)
    lines, size = [], sum(map(len, by_hand))
    for line in sorted({repr(data) for data in inputs} - known, key=lambda line: (len(line), line)):
        size += len(line) + 1
        if size <= MOST_BYTES:
            lines.append(line)
    _file(door).write_text("\n".join((*by_hand, LEARNT, *lines, "")), "ascii")


def _lines(door: str) -> tuple[list[str], list[str]]:
    lines = _file(door).read_text("ascii").splitlines()
    at = lines.index(LEARNT) if LEARNT in lines else len(lines)
    return lines[:at], lines[at + 1 :]


def _file(door: str) -> Path:
    return FOLDER / f"{door}.txt"
