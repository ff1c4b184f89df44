"""Services out of the model files that are there, as the rules under `discover` say.

Makes nodes as if each service had been written by hand: a template's name, and vars that tell it the file. Runs each
time the config is read, so a reload follows what came and went. That nothing is found is no fault, only worth a note.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ai_proxy.config.document import Findings, Node
from ai_proxy.config.model_files import ModelFile, Search, absolute, ids, search
from ai_proxy.config.models import Config
from ai_proxy.config.resolve import Layers

PROJECTOR = "mmproj"
"""The var that only a model with a projector has."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """What the rules of a file came to.

    Attributes:
        services: The services by id, not yet laid over their templates.
        paths: The file that each is made of.
        notes: What was left out and why, for people.
    """

    services: Mapping[str, Node]
    paths: Mapping[str, Path]
    notes: tuple[str, ...] = ()


def discover(root: Node, layers: Layers, directory: Path, taken: Collection[str], findings: Findings) -> Discovered:
    """Find the model files and make a service of each.

    Args:
        root: The file's root; rules that have the wrong type are passed over, for their types are checked later.
        layers: Knows the templates.
        directory: Where relative patterns start: the config file's.
        taken: Ids and model names of the services that were written by hand: these win.
        findings: Gets templates that are unknown, or that want a projector from files that may have none.
    """
    notes: list[str] = []
    rule_of: dict[ModelFile, Node] = {}
    for rule in _rules(root):
        if not _templates_are_right(rule, layers, findings):
            continue
        found = search(absolute(_text(rule, "glob"), directory))
        notes.extend(_notes(rule, found))
        known = {model.path for model in rule_of}
        rule_of |= {model: rule for model in found.models if model.path not in known}
    services, paths = {}, {}
    for model, service in ids(rule_of).items():
        if service in taken:
            notes.append(f"{model.path} is passed over: a service or model called {service} is written by hand")
        else:
            services[service] = _service(model, rule_of[model])
            paths[service] = model.path
    return Discovered(services, paths, tuple(notes))


def absent(config: Config) -> Iterator[str]:
    """Say what the config expects of services that are not there: their files are gone, or have not come yet."""
    services = config.services
    if config.default_service is not None and config.default_service not in services:
        yield f"default_service: there is no {config.default_service} now; what nothing else takes is a 404"
    for service, it in services.items():
        if gone := [name for name in it.requires if name not in services]:
            yield f"{service} requires {', '.join(gone)}, not there now: until then it does not start"
        if gone := [name for name in it.conflicts if name not in services]:
            yield f"{service} conflicts with {', '.join(gone)}, not there now"


def _rules(root: Node) -> tuple[Node, ...]:
    node = root.get("discover")
    items = node.value if node is not None and isinstance(node.value, tuple) else ()
    return tuple(rule for rule in items if _text(rule, "glob") and _text(rule, "extends"))


def _text(rule: Node, key: str) -> str:
    node = rule.get(key)
    return node.value if node is not None and isinstance(node.value, str) else ""


def _notes(rule: Node, found: Search) -> list[str]:
    pattern = _text(rule, "glob")
    if not found.models and not found.incomplete:
        return [f"line {rule.line}: {pattern} matches no model file"]
    return [f"line {rule.line}: {missing}" for missing in found.incomplete]


def _templates_are_right(rule: Node, layers: Layers, findings: Findings) -> bool:
    """Each fault once, and not once a file."""
    before = len(findings.faults)
    extends = rule.entries["extends"]
    template = layers.lay(rule.replace({"extends": extends}))
    if f"{{{PROJECTOR}}}" in json.dumps(template.plain()):
        message = f"its template needs {{{PROJECTOR}}}, which only models with a projector have"
        findings.add(extends, message, "name that template under extends_with_mmproj")
    if (other := rule.get("extends_with_mmproj")) is not None:
        layers.lay(rule.replace({"extends": other}))
    return len(findings.faults) == before


def _service(model: ModelFile, rule: Node) -> Node:
    """A service as it would be written by hand."""
    extends = rule.entries["extends"]
    given = {"file": model.file, "path": str(model.path)}
    if model.mmproj is not None:
        given[PROJECTOR] = model.mmproj
        extends = rule.get("extends_with_mmproj") or extends
    variables = {name: rule.replace(value) for name, value in given.items()}
    return rule.replace({"extends": extends, "vars": rule.replace(variables)})
