"""Which models llama-swap lets run together, by its groups or its matrix, as pairs that do not.

Pure. Only what was written counts: that all others swap one at a time there is its default, not anyone's wish.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

_TOKEN = re.compile(r"\s*([&|()]|\+?[^\s&|()+]+)")
_MOST_SETS = 10_000


@dataclass(frozen=True, slots=True)
class Group:
    """One of llama-swap's groups.

    Attributes:
        members: Model ids.
        swap: Only one of them runs at a time.
        exclusive: While one of them starts, other groups' models are unloaded.
        persistent: Other groups do not unload them.
    """

    members: tuple[str, ...]
    swap: bool = True
    exclusive: bool = True
    persistent: bool = False


type Pair = frozenset[str]


def group_pairs(groups: Iterable[Group]) -> set[Pair]:
    """Pairs of models that never run at the same time.

    Between groups that is so where each unloads the other; where only one does, both may run in one order and not in
    the other, which no rule of ours says.

    Example:
        >>> apart = group_pairs([Group(("a", "b")), Group(("c", "d"), swap=False), Group(("e",), exclusive=False)])
        >>> sorted("".join(sorted(pair)) for pair in apart)
        ['ab', 'ac', 'ad', 'bc', 'bd']
    """
    known = list(groups)
    apart = {frozenset(pair) for group in known if group.swap for pair in combinations(group.members, 2)}
    for one, other in combinations([group for group in known if group.exclusive and not group.persistent], 2):
        apart |= {frozenset(pair) for pair in product(one.members, other.members)}
    return {pair for pair in apart if len(pair) == 2}


def matrix_pairs(sets: Mapping[str, str], names: Mapping[str, str], models: Sequence[str]) -> set[Pair]:
    """Pairs of models that no set of a matrix has together.

    Args:
        sets: The expressions by name: `&` for together, `|` for either, brackets, `+name` for another set's.
        names: Short names for model ids.
        models: All model ids; one that is in no set runs alone.

    Raises:
        ValueError: An expression that can't be read, or that grows without end.

    Example:
        >>> apart = matrix_pairs({"s": "(a | b) & c", "t": "+s & d"}, {}, ["a", "b", "c", "d", "e"])
        >>> sorted("".join(sorted(pair)) for pair in apart)
        ['ab', 'ae', 'be', 'ce', 'de']
    """
    together = {pair for name in sets for row in _Expression(sets, names, (name,)).rows() for pair in _pairs(row)}
    return set(_pairs(models)) - together


def _pairs(models: Iterable[str]) -> Iterator[Pair]:
    return (frozenset(pair) for pair in combinations(models, 2))


class _Expression:
    """Reads one expression: `either := both ('|' both)*`, `both := one ('&' one)*`.

    Args:
        sets: All expressions.
        names: Short names.
        path: The sets that are being read, the last one's expression among them.
    """

    def __init__(self, sets: Mapping[str, str], names: Mapping[str, str], path: tuple[str, ...]) -> None:
        self._sets = sets
        self._names = names
        self._path = path
        text = sets[path[-1]]
        self._tokens = _TOKEN.findall(text)
        if re.sub(r"\s", "", text) != "".join(self._tokens):
            raise ValueError(f"can't be read: {text}")

    def rows(self) -> set[frozenset[str]]:
        """The sets of models that it stands for."""
        rows = self._either()
        if self._tokens:
            raise ValueError(f"unexpected {self._tokens[0]!r}")
        return rows

    def _either(self) -> set[frozenset[str]]:
        rows = self._both()
        while self._next_is("|"):
            rows |= self._both()
        return rows

    def _both(self) -> set[frozenset[str]]:
        rows = self._one()
        while self._next_is("&"):
            rows = {left | right for left, right in product(rows, self._one())}
            if len(rows) > _MOST_SETS:
                raise ValueError(f"stands for more than {_MOST_SETS} sets")
        return rows

    def _one(self) -> set[frozenset[str]]:
        if self._next_is("("):
            rows = self._either()
            if not self._next_is(")"):
                raise ValueError("a bracket is not closed")
            return rows
        word = self._tokens.pop(0) if self._tokens else ""
        if word.startswith("+"):
            name = word[1:]
            if name not in self._sets or name in self._path:
                raise ValueError(f"{word} is no set, or is part of itself")
            return _Expression(self._sets, self._names, (*self._path, name)).rows()
        if not word or word in "&|()":
            raise ValueError("a model is missing")
        return {frozenset({self._names.get(word, word)})}

    def _next_is(self, token: str) -> bool:
        if self._tokens[:1] == [token]:
            del self._tokens[0]
            return True
        return False
