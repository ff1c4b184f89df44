"""A YAML file as a tree of nodes that remember where they were written.

Owns YAML: syntax, anchors, merge keys, duplicate keys, tags. A scalar stays the text that was written (`1.10` is not
1.1, `010` is not 8), because the Fields give types, not YAML; only `null` is special. Knows nothing of our keys.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from ai_proxy.config.faults import ConfigError, Fault

type Value = Mapping[str, Node] | tuple[Node, ...] | str | None

_MAX_NODES = 200_000
_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset(_TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge"))


@dataclass(frozen=True, slots=True)
class Node:
    """A value and the place where it was written.

    Attributes:
        value: A mapping, a tuple, text or None.
        line: Where it starts: the line of its key, or of the item in a list.
        key: Its path, as written: `templates.gguf.volumes.0`, also where a service inherits it.
    """

    value: Value
    line: int
    key: str

    @property
    def entries(self) -> Mapping[str, "Node"]:
        """The children of a mapping by key; empty for anything else."""
        return self.value if isinstance(self.value, Mapping) else {}

    def get(self, *path: str) -> "Node | None":
        """The node at a path of mapping keys, or None."""
        node: Node | None = self
        for name in path:
            node = node.entries.get(name) if node else None
        return node

    def replace(self, value: Value) -> "Node":
        """The same place with another value."""
        return Node(value, self.line, self.key)

    def put(self, name: str, child: "Node | None") -> "Node":
        """A mapping with one key set, or taken away if `child` is None; anything else as it is."""
        if not isinstance(self.value, Mapping):
            return self
        others = {key: node for key, node in self.value.items() if key != name}
        return self.replace(others if child is None else {**others, name: child})

    def plain(self) -> object:
        """The bare value: dicts, lists, text and None."""
        match self.value:
            case str() | None:
                return self.value
            case tuple():
                return [item.plain() for item in self.value]
            case _:
                return {name: child.plain() for name, child in self.value.items()}


@dataclass(slots=True)
class Findings:
    """Collects the faults of one file, each at the node it concerns.

    Attributes:
        file: The file's name as it is shown.
        faults: What was found so far.
    """

    file: str
    faults: list[Fault] = field(default_factory=list)
    _unknown: set[tuple[int, str]] = field(default_factory=set)

    def add(self, node: Node, message: str, fix: str, *, child: str = "") -> None:
        """Note a fault of a node, or of a child that it lacks; not of one whose value is unknown."""
        if (node.line, node.key) not in self._unknown:
            self._note(node, message, fix, child)

    def add_unknown(self, node: Node, message: str, fix: str) -> None:
        """Note why a node's value is unknown: whatever else is found to be wrong with it follows from that."""
        self._note(node, message, fix)
        self._unknown.add((node.line, node.key))

    def _note(self, node: Node, message: str, fix: str, child: str = "") -> None:
        self.faults.append(Fault(self.file, node.line, _join(node.key, child) if child else node.key, message, fix))


def merge(base: Node, over: Node) -> Node:
    """Lay one node over another: mappings merge by key, anything else replaces.

    Example:
        >>> base = read("{a: {x: 1, y: 2}, b: [1]}", Findings("f"))
        >>> merge(base, read("{a: {y: 3}, b: [2]}", Findings("f"))).plain()
        {'a': {'x': '1', 'y': '3'}, 'b': ['2']}
    """
    if not isinstance(base.value, Mapping) or not isinstance(over.value, Mapping):
        return over
    merged = dict(base.value)
    for name, child in over.value.items():
        merged[name] = merge(merged[name], child) if name in merged else child
    return over.replace(merged)


def read(text: str, findings: Findings) -> Node:
    """Read one YAML document.

    Args:
        text: The document.
        findings: Gets what can be read but is not allowed: duplicate keys, foreign tags, endless anchors.

    Returns:
        The root; its value is None for an empty document.

    Raises:
        ConfigError: Syntax that can't be read.

    Example:
        >>> read("port: 8000", Findings("ai-proxy.yaml")).get("port")
        Node(value='8000', line=1, key='port')
    """
    try:
        tree = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_syntax_fault(error, findings.file)]) from error
    except yaml.YAMLError as error:
        message = f"not YAML: {str(error).splitlines()[0]}"
        raise ConfigError([Fault(findings.file, 0, "", message, "save it as UTF-8 text")]) from error
    if tree is None:
        return Node(None, 1, "")
    return _Reader(findings).convert(tree, "", tree.start_mark.line + 1)


def _syntax_fault(error: yaml.MarkedYAMLError, file: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "unreadable"
    if "'\\t'" in problem:
        fix = "indent with spaces, not tabs"
    elif "single document" in (error.context or ""):
        fix = "keep one document: remove the '---' between them"
    elif "mapping values are not allowed" in problem:
        fix = "quote a value that contains ': ', and check the indentation"
    else:
        fix = "check quotes, brackets and indentation here and on the line before"
    context = f" {error.context}" if error.context else ""
    return Fault(file, mark.line + 1 if mark else 0, "", f"not YAML: {problem}{context}", fix)


class _Loader(yaml.SafeLoader):
    """Composes only. Every plain scalar is text but `null` and the merge key."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML's own class attribute, replaced as a whole
        first: [(tag, pattern)]
        for tag, pattern, firsts in [
            (_TAG + "null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
            (_TAG + "merge", re.compile(r"<<\Z"), ["<"]),
        ]
        for first in firsts
    }


class _Reader:
    """Turns PyYAML's nodes into ours."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        # An anchor's node is met once for itself and once for each alias.
        self._done: dict[yaml.Node, tuple[Node, int]] = {}
        self._open: set[yaml.Node] = set()

    def convert(self, node: yaml.Node, key: str, line: int) -> Node:
        return self._sized(node, key, line)[0]

    def _sized(self, node: yaml.Node, key: str, line: int) -> tuple[Node, int]:
        """The node and how many nodes it is with its aliases written out."""
        if node in self._done:
            return self._done[node]
        if node in self._open:
            return self._refuse(key, line, "this anchor contains itself", "write the value out"), 1
        if node.tag not in _TAGS:
            self._refuse(key, line, f"tag {node.tag} is not allowed", "remove the tag")
        self._open.add(node)
        value, size = self._value(node, key)
        self._open.discard(node)
        if size > _MAX_NODES:
            return self._refuse(key, line, f"anchors grow to more than {_MAX_NODES} values", "use fewer aliases"), 1
        self._done[node] = Node(value, line, key), size
        return self._done[node]

    def _value(self, node: yaml.Node, key: str) -> tuple[Value, int]:
        match node:
            case yaml.SequenceNode(value=items):
                pairs = [
                    self._sized(item, _join(key, str(index)), item.start_mark.line + 1)
                    for index, item in enumerate(items)
                ]
                return tuple(child for child, _ in pairs), 1 + sum(size for _, size in pairs)
            case yaml.MappingNode():
                return self._mapping(node, key)
            case _:
                return (None if node.tag == _TAG + "null" else str(node.value)), 1

    def _mapping(self, node: yaml.MappingNode, key: str) -> tuple[dict[str, Node], int]:
        own: dict[str, Node] = {}
        inherited: dict[str, Node] = {}
        total = 1
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":
                sources, size = self._sized(value_node, _join(key, "<<"), line)
                self._inherit(sources, inherited)
            elif not isinstance(key_node, yaml.ScalarNode):
                self._refuse(key, line, "a key must be plain text", "quote it if it starts with { or [")
                continue
            else:
                name, size = str(key_node.value), 1
                if name in own:
                    message = f"duplicate key, first on line {own[name].line}"
                    self._refuse(_join(key, name), line, message, "keep one of them")
                own[name], size = self._sized(value_node, _join(key, name), line)
            total += size
        return {**inherited, **own}, total

    def _inherit(self, sources: Node, inherited: dict[str, Node]) -> None:
        for source in sources.value if isinstance(sources.value, tuple) else (sources,):
            if not isinstance(source.value, Mapping):
                self._refuse(source.key, source.line, "<< needs a mapping", "write <<: *anchor")
            for name, child in source.entries.items():
                inherited.setdefault(name, child)

    def _refuse(self, key: str, line: int, message: str, fix: str) -> Node:
        node = Node(None, line, key)
        self._findings.add(node, message, fix)
        return node


def _join(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name
