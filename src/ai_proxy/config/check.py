"""Faults between keys: names claimed twice, services and devices that don't exist, variables that are ours to set.

Works on the resolved nodes, not on the models, so that these faults are found beside a wrong type in the same file.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping

from ai_proxy.config.document import Findings, Node
from ai_proxy.config.fields import Rejected
from ai_proxy.config.keys import key_hash
from ai_proxy.config.listening import check_listeners
from ai_proxy.config.naming import legal_id, pattern_of
from ai_proxy.config.sharing import ResourceRequirements
from ai_proxy.config.words import advice

_PLACEMENT_VARIABLES = frozenset(
    {
        "CUDA_DEVICE_ORDER",
        "CUDA_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "NVIDIA_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES",
    }
)

_CONTAINER_KEYS = frozenset(
    {
        "cap_add",
        "cpus",
        "entrypoint",
        "extra_hosts",
        "ipc",
        "labels",
        "mem_limit",
        "networks",
        "pull_policy",
        "security_opt",
        "shm_size",
        "ulimits",
        "user",
        "volumes",
    }
)


def check(root: Node, findings: Findings) -> None:
    """Note every fault between the keys of a resolved file.

    Args:
        root: The file with its services resolved, and no other layer left.
        findings: Gets the faults.
    """
    services = root.get("services")
    entries = services.entries if services else {}
    _check_default_service(root, entries, findings)
    _check_models(entries, findings)
    _check_keys(root, entries, findings)
    check_listeners(root, entries, findings)
    devices = _declared_devices(root, findings)
    capacities = root.get("capacities")
    for name, service in entries.items():
        _check_company(root, name, service, entries, findings)
        _check_custom(service, capacities.entries if capacities else {}, findings)
        _check_environment(service, findings)
        _check_container_keys(service, findings)
        if devices is not None:
            _check_gpus(service, devices, findings)


def _check_default_service(root: Node, services: Mapping[str, Node], findings: Findings) -> None:
    node = root.get("default_service")
    if node is None or not isinstance(node.value, str) or node.value in services or _may_come(root, node.value):
        return
    near = difflib.get_close_matches(node.value, services, 1)
    known = f"write {near[0]}" if near else f"write one of {', '.join(services) or 'your services'}"
    findings.add(node, f"no such service: {node.value!r}", known)


def _discovers(root: Node) -> bool:
    """Whether there are services of files: these come and go without a change of the file, and must not break it."""
    rules = root.get("discover")
    return rules is not None and bool(rules.value)


def _may_come(root: Node, service: str) -> bool:
    """Whether a file could make a service of this id."""
    return _discovers(root) and legal_id(service) == service


def _check_models(services: Mapping[str, Node], findings: Findings) -> None:
    owners: dict[str, str] = {}
    for service, node in services.items():
        for name, place in model_names(service, node):
            owner = owners.setdefault(name, service)
            if owner != service:
                message = f"model {name!r} belongs to service {owner} already"
                findings.add(place, message, "rename it in one of them, or remove it")


def model_names(service: str, node: Node) -> Iterator[tuple[str, Node]]:
    """The names under which a service's models are asked for, each with its place; what has the wrong type is left."""
    models = node.get("models")
    if models is None or models.value is None:
        yield service, node
    elif isinstance(models.value, Mapping):
        yield from models.value.items()
    else:
        for item in models.value if isinstance(models.value, tuple) else (models,):
            if isinstance(item.value, str):
                yield item.value, item


def _check_keys(root: Node, services: Mapping[str, Node], findings: Findings) -> None:
    """Names and hashes that are there twice, models that nobody offers; of a key nothing is shown but its name."""
    node = root.get("keys")
    offered = {name for service, entry in services.items() for name, _ in model_names(service, entry)} | set(services)
    seen: dict[str, Node] = {}
    for item in node.value if node is not None and isinstance(node.value, tuple) else ():
        for key, place in item.entries.items():
            if key in {"name", "hash"} and isinstance(place.value, str):
                first = seen.setdefault(_told_apart(key, place.value), place)
                if first is not place:
                    findings.add(place, f"another key has the same {key}", "give each its own, or remove one")
        for wanted in _items(item, "models"):
            name = str(wanted.value)
            if "*" not in name and not (name in offered or _offered_by_pattern(name, offered) or _discovers(root)):
                near = difflib.get_close_matches(name, offered, 3)
                fix = f"write {' or '.join(near)}" if near else "write a model's name, a service's id, or a pattern"
                findings.add(wanted, f"no service offers {name!r}", fix)


def _told_apart(key: str, value: str) -> str:
    """By what two entries are the same; a hash may be written in several ways."""
    try:
        return f"{key} {key_hash(value) if key == 'hash' else value}"
    except Rejected:
        return f"{key} {value}"


def _offered_by_pattern(name: str, offered: Iterable[str]) -> bool:
    return any(pattern_of(pattern).match(name) for pattern in offered if "*" in pattern)


def _check_environment(service: Node, findings: Findings) -> None:
    environment = service.get("environment")
    entries = environment.entries if environment else {}
    for name in _PLACEMENT_VARIABLES & entries.keys():
        fix = "remove it and name the GPUs in resources.gpus"
        findings.add(entries[name], f"{name} is set from the placement", fix)


def _check_container_keys(service: Node, findings: Findings) -> None:
    """Without an image there is no container to have these; keys that only come from `defaults` may not fit all."""
    if "image" in service.entries:
        return
    kind = (
        "a service with a url runs elsewhere" if "url" in service.entries else "a command without an image is a process"
    )
    for name in sorted(_CONTAINER_KEYS & service.entries.keys()):
        node = service.entries[name]
        if node.value is not None and not node.key.startswith("defaults."):
            findings.add(node, f"{kind}, not a container", "remove it, or give the service an image")


def _declared_devices(root: Node, findings: Findings) -> list[Mapping[str, Node]] | None:
    """The devices that the file lists, or None where they are found by themselves."""
    node = root.get("devices")
    if node is None or not isinstance(node.value, tuple):
        return None
    seen: set[str] = set()
    for item in node.value:
        identity = item.get("id")
        if identity is not None and isinstance(identity.value, str):
            if identity.value in seen:
                findings.add(identity, f"device {identity.value!r} is listed twice", "give each its own index")
            seen.add(identity.value)
    return [item.entries for item in node.value]


def _check_gpus(service: Node, devices: list[Mapping[str, Node]], findings: Findings) -> None:
    node = service.get("resources", "gpus")
    if node is None:
        return
    known = [str(device[key].value) for device in devices for key in ("id", "uuid") if key in device]
    if isinstance(node.value, tuple):
        for item in node.value:
            if isinstance(item.value, str) and item.value not in known:
                fix = f"write one of {', '.join(dict.fromkeys(known)) or 'the listed ids'}, or add it to devices"
                findings.add(item, f"devices lists no GPU {item.value!r}", fix)
    elif isinstance(node.value, str) and node.value.isdecimal() and int(node.value) > len(devices):
        findings.add(node, f"devices lists only {len(devices)}", "ask for fewer, or add them to devices")


def _check_company(root: Node, name: str, service: Node, services: Mapping[str, Node], findings: Findings) -> None:
    """Who a service can't be beside, or can't be without."""
    conflicts = {item.value for item in _items(service, "conflicts")}
    for item in (*_items(service, "conflicts"), *_items(service, "requires")):
        if item.value == name:
            findings.add(item, "a service can't name itself here", "remove it")
        elif item.value not in services and not _may_come(root, str(item.value)):
            near = difflib.get_close_matches(str(item.value), services, 1)
            fix = f"write {near[0]}" if near else f"write one of {', '.join(services)}"
            findings.add(item, f"no such service: {item.value!r}", fix)
    for item in _items(service, "requires"):
        required = services.get(str(item.value))
        if item.value in conflicts:
            findings.add(item, f"{item.value} is among its conflicts too", "remove it from one of them")
        elif required is not None and name in {other.value for other in _items(required, "conflicts")}:
            findings.add(item, f"{item.value} says that it conflicts with {name}", "remove one of the two")
        elif _leads_to(str(item.value), name, services):
            findings.add(item, f"{item.value} in turn requires {name}: neither could start", "remove one of the two")


def _leads_to(start: str, goal: str, services: Mapping[str, Node]) -> bool:
    """Whether one service requires another, over however many others."""
    reached, ahead = {start}, [start]
    while ahead:
        service = services.get(ahead.pop())
        for item in _items(service, "requires") if service is not None else ():
            if isinstance(item.value, str) and item.value not in reached:
                reached.add(item.value)
                ahead.append(item.value)
    return goal in reached


def _items(service: Node, key: str) -> tuple[Node, ...]:
    """The texts under a key that takes one or many."""
    node = service.get(key)
    if node is None:
        return ()
    items = node.value if isinstance(node.value, tuple) else (node,)
    return tuple(item for item in items if isinstance(item.value, str))


def _check_custom(service: Node, capacities: Mapping[str, Node], findings: Findings) -> None:
    """What a service takes of the config's own capacities; any other unknown key ends up here too."""
    resources = service.get("resources")
    for name, node in (resources.entries if resources else {}).items():
        if name in ResourceRequirements.model_fields:
            continue
        if (capacity := capacities.get(name)) is None:
            fix = f"{advice(name, ResourceRequirements)}, or say how much there is of it: capacities: {{{name}: …}}"
            findings.add(node, "unknown key", fix)
        elif _number(node) > _number(capacity):
            findings.add(node, f"capacities has only {capacity.value} of {name}", "ask for less, or raise it")


def _number(node: Node) -> int:
    """A whole number; 0 for what is none, which is a fault of its own."""
    return int(node.value) if isinstance(node.value, str) and node.value.isdecimal() else 0
