"""From a file to a `Config`, or to the list of everything that is wrong with it.

The steps, each over the whole file, none stopping at its first fault:

1. YAML to nodes that know their lines (`document`)
2. `${NAME}` from the environment, in every text (`substitute`)
3. defaults, templates, env files, vars and args into the services (`resolve`), also those that are found (`discover`)
4. types (`models`, worded by `explain`), then what holds between keys (`check`)
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ai_proxy.config.certificates import BadFile, complaint_about
from ai_proxy.config.check import check, model_names
from ai_proxy.config.discover import Discovered, absent, discover
from ai_proxy.config.document import Findings, Node, read
from ai_proxy.config.explain import explain
from ai_proxy.config.faults import ConfigError, Fault
from ai_proxy.config.fields import Rejected
from ai_proxy.config.models import Config, ServiceConfig
from ai_proxy.config.resolve import LAYER_KEYS, Finisher, Layers
from ai_proxy.config.substitute import substitute
from ai_proxy.config.tls_files import anchor_tls, check_tls, unverified

SMALLEST = 'services: {small: {type: llama-cpp-server, command: "llama-server -m small.gguf --port {port}"}}'
"""The smallest file that serves something."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A config, and what only those want to know who look at its file.

    Attributes:
        config: The config; its services have taken in defaults, templates, env files, vars and args.
        discovered: The files that services were made of, by service.
        notes: What is no fault but may surprise, for people.
    """

    config: Config
    discovered: Mapping[str, Path]
    notes: tuple[str, ...]


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read a config file.

    Args:
        path: The file.
        environ: Where `${NAME}` is looked up.

    Returns:
        The config; its services have taken in defaults, templates, env files, vars and args.

    Raises:
        ConfigError: Every fault of the file.
    """
    return inspect(path, environ).config


def inspect(path: Path, environ: Mapping[str, str]) -> Loaded:
    """Read a config file like `load`, and tell more about it.

    Raises:
        ConfigError: Every fault of the file.
    """
    findings = Findings(str(path))
    root = read(_text(path), findings)
    if not isinstance(root.value, Mapping):
        message = "the file is empty" if root.value is None else "not a mapping of keys"
        raise ConfigError([Fault(findings.file, root.line, "", message, f"write {SMALLEST}")])
    root = root.replace({key: node for key, node in root.value.items() if not key.startswith("x-")})
    root = _substituted(root, environ, findings)
    _check_layer_keys(root, findings)
    layers = Layers(root, findings)
    finisher = Finisher(path.parent, environ, findings)
    resolved = _resolved(root, layers, finisher)
    if (server := resolved.get("server")) is not None:
        resolved = resolved.put("server", anchor_tls(server, path.parent))
    found = discover(root, layers, path.parent, _taken(resolved), findings)
    resolved = _with_services(resolved, found, layers, finisher)
    config = _typed(resolved, findings)
    _check_layers(layers, findings)
    check(resolved, findings)
    check_tls(resolved, findings)
    if config is None or findings.faults:
        raise ConfigError(findings.faults)
    return Loaded(config, found.paths, (*found.notes, *absent(config), *_tls_notes(config)))


def _tls_notes(config: Config) -> Iterator[str]:
    if config.server.tls is not None:
        with suppress(BadFile):  # it was good a moment ago, and is being replaced
            if (complaint := complaint_about(config.server.tls)) is not None:
                yield complaint
    yield from (f"{service}: nobody checks its certificate (tls.verify: false)" for service in unverified(config))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([Fault(str(path), 0, "", "not UTF-8 text", "save it as UTF-8")]) from error
    except OSError as error:
        message = f"can't be read: {error.strerror}"
        raise ConfigError([Fault(str(path), 0, "", message, "check the path and its permissions")]) from error


def _substituted(node: Node, environ: Mapping[str, str], findings: Findings) -> Node:
    match node.value:
        case None:
            return node
        case str() if "$" in node.value:
            try:
                return node.replace(substitute(node.value, environ))
            except Rejected as rejected:
                findings.add_unknown(node, rejected.message, rejected.fix)
                return node
        case str():
            return node
        case tuple():
            return node.replace(tuple(_substituted(item, environ, findings) for item in node.value))
        case _:
            children = {key: _substituted(child, environ, findings) for key, child in node.value.items()}
            return node.replace(children)


def _check_layer_keys(root: Node, findings: Findings) -> None:
    for key in LAYER_KEYS:
        node = root.get(key)
        if node is not None and node.value is not None and not isinstance(node.value, Mapping):
            findings.add(node, "not a mapping (key: value)", f"write {key}: {{…}}, or remove it")
    if (extends := root.get("defaults", "extends")) is not None:
        findings.add(extends, "defaults extend nothing", "remove it; services and templates may extend a template")


def _resolved(root: Node, layers: Layers, finisher: Finisher) -> Node:
    for key in LAYER_KEYS:
        root = root.put(key, None)
    services = root.get("services")
    if services is None or not isinstance(services.value, Mapping):
        return root
    finished = {service: finisher.finish(layers.lay(node)) for service, node in services.value.items()}
    return root.put("services", services.replace(finished))


def _taken(resolved: Node) -> frozenset[str]:
    """Ids and model names of the services that were written by hand."""
    services = resolved.get("services")
    entries = services.entries if services else {}
    return frozenset(entries) | {name for id_, node in entries.items() for name, _ in model_names(id_, node)}


def _with_services(resolved: Node, found: Discovered, layers: Layers, finisher: Finisher) -> Node:
    """Add what was discovered; where that is asked for, nobody has to write services by hand as well."""
    services = resolved.get("services")
    if services is None:
        if resolved.get("discover") is None:
            return resolved
        services = Node({}, resolved.line, "services")
    if not isinstance(services.value, Mapping):
        return resolved
    finished = {service: finisher.finish(layers.lay(node)) for service, node in found.services.items()}
    return resolved.put("services", services.replace({**services.value, **finished}))


def _typed(root: Node, findings: Findings) -> Config | None:
    try:
        return Config.model_validate(root.plain())
    except ValidationError as error:
        explain(error.errors(), Config, root, findings)
        return None


def _check_layers(layers: Layers, findings: Findings) -> None:
    """A layer need not say what to run, but what it says must be right even if no service uses it."""
    for layer in layers.all():
        try:
            ServiceConfig.model_validate(layer.plain())
        except ValidationError as error:
            details = (detail for detail in error.errors() if detail["loc"] != ("runtime",))
            explain(details, ServiceConfig, layer, findings)
