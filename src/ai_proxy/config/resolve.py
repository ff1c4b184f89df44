"""One service out of its layers: `defaults` < its templates < its own keys, with env files, vars and args worked in.

Owns what the layers mean. Works on nodes, so that a fault in an inherited value points at the template's line. Reads
env files and nothing else; whether a value has the right type is the models' question, asked afterwards.
"""

import difflib
import shlex
from collections.abc import Iterable, Mapping
from functools import reduce
from pathlib import Path

from ai_proxy.config.document import Findings, Node, merge
from ai_proxy.config.env_file import parse_env_file
from ai_proxy.config.substitute import START_NAMES, fill
from ai_proxy.config.tls_files import anchor_tls

LAYER_KEYS = ("defaults", "templates")
"""Top-level keys that exist only in a file: services take them in."""


class Layers:
    """The defaults and templates of one file, and how a service is laid over them.

    Args:
        root: The file's root.
        findings: Gets unknown templates and cycles.
    """

    def __init__(self, root: Node, findings: Findings) -> None:
        self._findings = findings
        self._defaults = _lists_as_maps(root.get("defaults") or Node({}, root.line, "defaults"))
        templates = root.get("templates")
        self._templates = {name: _lists_as_maps(node) for name, node in templates.entries.items()} if templates else {}

    def __repr__(self) -> str:
        return f"<Layers templates={sorted(self._templates)}>"

    def lay(self, node: Node) -> Node:
        """Lay a service (or a template) over the templates it extends, and these over the defaults."""
        own = _lists_as_maps(node)
        layers = [self._defaults, *reversed(self._extended(own)), own]
        merged = reduce(merge, (layer for layer in layers if layer.value is not None))
        return _without_name(node.replace(merged.value), "extends")

    def all(self) -> Iterable[Node]:
        """The defaults and every template as services of their own, whether or not a service uses them."""
        yield self._defaults
        for template in self._templates.values():
            yield self.lay(template)

    def _extended(self, node: Node) -> list[Node]:
        """The templates that a node extends, the nearest first."""
        chain: list[Node] = []
        seen: list[str] = []
        while (extends := node.get("extends")) is not None and isinstance(name := extends.value, str):
            if name in seen:
                message = f"templates extend each other: {' > '.join([*seen, name])}"
                self._findings.add(extends, message, "remove one extends of the circle")
                break
            if name not in self._templates:
                near = difflib.get_close_matches(name, self._templates, 1)
                fix = f"write {near[0]}" if near else f"add it under templates, which has {_listed(self._templates)}"
                self._findings.add(extends, f"unknown template: {name!r}", fix)
                break
            seen.append(name)
            node = self._templates[name]
            chain.append(node)
        return chain


class Finisher:
    """Works what a service only refers to into the service itself.

    Args:
        directory: Where relative paths start: the config file's directory.
        environ: Gives the values of variables that are passed on by name alone.
        findings: Gets missing files, and vars that hide a placeholder of ours.
    """

    def __init__(self, directory: Path, environ: Mapping[str, str], findings: Findings) -> None:
        self._directory = directory
        self._environ = environ
        self._findings = findings

    def finish(self, service: Node) -> Node:
        """Take in `env_file`, `args` and `vars`, and make host paths absolute; what has the wrong type is left."""
        if service.value is None or not isinstance(service.value, Mapping):
            return service
        for step in (
            self._take_env_files,
            self._pass_on_variables,
            _append_args,
            self._fill_vars,
            self._anchor_volumes,
        ):
            service = step(service)
        return anchor_tls(service, self._directory)

    def _take_env_files(self, service: Node) -> Node:
        node = service.get("env_file")
        if node is None or node.value is None:
            return service
        items = (node,) if isinstance(node.value, str) else node.value
        if not isinstance(items, tuple) or not all(isinstance(item.value, str) for item in items):
            return service
        given = service.get("environment")
        if given is not None and not isinstance(given.value, Mapping | None):
            return service
        variables: dict[str, Node] = {}
        for item in items:
            variables |= self._read_env_file(item)
        under = Node(variables, node.line, node.key)
        merged = merge(under, given) if given is not None and given.value is not None else under
        return service.put("environment", merged).put("env_file", None)

    def _read_env_file(self, item: Node) -> dict[str, Node]:
        path = self._directory / Path(str(item.value)).expanduser()
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            self._findings.add(item, f"can't read {path}: {reason}", "create the file, or correct the path")
            return {}
        variables, faults = parse_env_file(text, str(path))
        self._findings.faults.extend(faults)
        return {name: Node(value, item.line, item.key) for name, value in variables.items()}

    def _pass_on_variables(self, service: Node) -> Node:
        """A variable without a value is passed on from our own environment, if it is set there (as in Compose)."""
        node = service.get("environment")
        if node is None or not isinstance(node.value, Mapping):
            return service
        values = {
            name: child.replace(self._environ.get(name)) if child.value is None else child
            for name, child in node.value.items()
            if child.value is not None or name in self._environ
        }
        return service.put("environment", node.replace(values))

    def _fill_vars(self, service: Node) -> Node:
        node = service.get("vars")
        if node is None or not isinstance(node.value, Mapping):
            return service
        entries = node.value
        values = {name: child.value for name, child in entries.items() if isinstance(child.value, str)}
        if len(values) != len(entries):
            return service
        for name in START_NAMES & values.keys():
            self._findings.add(entries[name], f"{{{name}}} has its value from the placement", "give it another name")
        for key in ("command", "environment"):
            child = service.get(key)
            if child is not None:
                service = service.put(key, _filled(child, values))
        return service.put("vars", None)

    def _anchor_volumes(self, service: Node) -> Node:
        """`./models:/models` starts at the config file, `~` at the home directory (as in Compose)."""
        node = service.get("volumes")
        if node is None or not isinstance(node.value, tuple):
            return service
        return service.put("volumes", node.replace(tuple(self._anchored(item) for item in node.value)))

    def _anchored(self, item: Node) -> Node:
        if not isinstance(item.value, str) or not item.value.startswith((".", "~")):
            return item
        host, colon, rest = item.value.partition(":")
        path = (self._directory.absolute() / Path(host).expanduser()).resolve()
        return item.replace(f"{path}{colon}{rest}")


def _without_name(service: Node, key: str) -> Node:
    """Take away a key that has done its work; one that is no name stays, to be refused with the other types."""
    node = service.get(key)
    return service.put(key, None) if node is not None and isinstance(node.value, str | None) else service


def _append_args(service: Node) -> Node:
    args = service.get("args")
    if args is None:
        return service
    command = service.get("command") or args.replace(())
    words, more = _words(command), _words(args)
    if words is None or more is None:
        return service
    return service.put("command", command.replace((*words, *more))).put("args", None)


def _words(node: Node) -> tuple[Node, ...] | None:
    """The words of a command; None where it is none."""
    match node.value:
        case None:
            return ()
        case str():
            try:
                return tuple(node.replace(word) for word in shlex.split(node.value))
            except ValueError:
                return None
        case tuple():
            return node.value
        case _:
            return None


def _filled(node: Node, values: Mapping[str, str]) -> Node:
    """Placeholders are filled word by word, after splitting: a value with a space stays one word."""
    match node.value:
        case None:
            return node
        case str():
            words = _words(node)
            return node if words is None else _filled(node.replace(words), values)
        case tuple():
            return node.replace(tuple(_filled_text(item, values) for item in node.value))
        case _:
            return node.replace({name: _filled_text(child, values) for name, child in node.value.items()})


def _filled_text(node: Node, values: Mapping[str, str]) -> Node:
    return node.replace(fill(node.value, values)) if isinstance(node.value, str) else node


def _lists_as_maps(service: Node) -> Node:
    """Compose's list form (`[NAME=value, OTHER]`) as a mapping, so that layers merge by name."""
    for key in ("environment", "labels"):
        node = service.get(key)
        if node is None or not isinstance(node.value, tuple):
            continue
        if not all(isinstance(item.value, str) for item in node.value):
            continue
        entries = {}
        for item in node.value:
            name, equals, text = str(item.value).partition("=")
            entries[name] = item.replace(text if equals or key == "labels" else None)
        service = service.put(key, node.replace(entries))
    return service


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
