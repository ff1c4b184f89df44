"""What the proxy promises of HTTP and of faults, by number, and the tests that prove each promise.

A test proves what its name names: `test_b38_b39_…` two behaviours, `test_b20_to_b26_…` a run of them, `test_l09_…` a
row of the faults. `docs/behaviours.md` is written from here and from the names of the tests, which are found in their
source: nothing is imported.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple

from tests.promises import BEHAVIOURS, FAULTS, Promise

TESTS: Final = Path(__file__).parent

OPEN: Final[frozenset[str]] = frozenset()
"""Promises that no test proves yet."""

_NUMBERS = re.compile(r"_([bl])(\d\d)(?:_to_[bl](\d\d))?(?=_|$)")
_TAIL = re.compile(r"^test_|(?:^|_)(?:rfc\d+_[\d_]*|[bl]\d\d(?:_to_[bl]\d\d)?)(?=_|$)")

_PAGE = """\
# What the proxy promises, and the tests that hold it

Written from the tests by `python -m tests.check --fix`: a row lists the tests that name its number, each with the file
that it stands in. The requirement's source is a section of an RFC where one says it; else it is a promise of our own,
or what good proxies do.

## HTTP

{behaviours}

## Faults of engines, machines and operators

{faults}
"""


class Proof(NamedTuple):
    """A test.

    Attributes:
        path: Its file, below `tests`.
        name: Its function.
    """

    path: str
    name: str


def numbers_in(name: str) -> list[str]:
    """The promises that a test's name names.

    Example:
        >>> numbers_in("test_b38_b39_names_are_kept"), numbers_in("test_b09_to_b11_ends"), numbers_in("test_bold_b2_")
        (['b38', 'b39'], ['b09', 'b10', 'b11'], [])
    """
    numbers = []
    for letter, first, last in _NUMBERS.findall(name):
        numbers += [f"{letter}{number:02d}" for number in range(int(first), int(last or first) + 1)]
    return numbers


def sentence_of(name: str) -> str:
    """A test's name without the numbers of what it proves.

    Example:
        >>> sentence_of("test_b38_b39_names_are_kept"), sentence_of("test_rfc9112_6_3_b20_both_framings")
        ('names are kept', 'both framings')
    """
    while name != (shorter := _TAIL.sub("", name, count=1).removeprefix("_")):
        name = shorter
    return name.replace("_", " ")


def proofs(tests: Path = TESTS) -> Mapping[str, list[Proof]]:
    """The tests of each promise that has any, in the order of their files."""
    found: dict[str, list[Proof]] = defaultdict(list)
    for path in sorted(tests.rglob("test_*.py")):
        for name in _functions(path):
            for number in numbers_in(name):
                found[number].append(Proof(path.relative_to(tests).as_posix(), name))
    return found


def page() -> str:
    """`docs/behaviours.md`."""
    found = proofs()
    return _PAGE.format(behaviours=_table(BEHAVIOURS, found), faults=_table(FAULTS, found))


def _functions(path: Path) -> Iterator[str]:
    text = path.read_text("utf-8")
    if _NUMBERS.search(text) is None:
        return  # most files: parsing is what takes the time
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name


def _table(promises: tuple[Promise, ...], found: Mapping[str, list[Proof]]) -> str:
    lines = ["| # | promise | source | tests |", "| --- | --- | --- | --- |"]
    for number, text, source in promises:
        lines.append(f"| {number} | {text} | {source} | {_listed(found.get(number, []))} |")
    return "\n".join(lines)


def _listed(tests: list[Proof]) -> str:
    files = groupby(tests, key=attrgetter("path"))
    parts = [f"[{path}](../tests/{path}): {_sentences(of_file)}" for path, of_file in files]
    return "<br>".join(parts) or "not yet"


def _sentences(tests: Iterable[Proof]) -> str:
    return "; ".join(dict.fromkeys(sentence_of(proof.name) for proof in tests))
