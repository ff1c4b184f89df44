"""llama-swap's YAML as a draft of ours.

Pure. What its keys mean there is written here; what becomes of one model is `llama_swap_model`'s.
"""

from collections.abc import Iterator, Mapping

from ai_proxy.config.document import Node
from ai_proxy.config.importing.company import Group, Pair, group_pairs, matrix_pairs
from ai_proxy.config.importing.draft import Draft, Left, ServiceDraft
from ai_proxy.config.importing.llama_swap_model import items, number, read_model, read_timeouts, text, texts
from ai_proxy.config.importing.macros import mark_env
from ai_proxy.config.naming import legal_id, unused_id

_READ = frozenset({
    "globalTTL", "groups", "healthCheckTimeout", "hooks", "logLevel", "macros", "matrix", "models", "peers", "routing",
    "startPort", "unloadTimeout",
})  # fmt: skip
_NO_COUNTERPART = ("it has no counterpart", "remove it")
_LEFT = {
    "apiKeys": ("keys are kept as hashes", "pipe each into `ai-proxy key hash NAME` and add what it prints"),
    "captureBuffer": ("bodies are not kept", "remove it"),
    "includeAliasesInList": ("/v1/models lists every name of a service that is not unlisted", "remove it"),
    "logRequests": ("one line a request is logged unless log.access is false", "write log: {access: false}"),
    "logToStdout": ("engines' output is shown by `ai-proxy logs`", "remove it"),
    "metricsMaxInMemory": ("/metrics has the sums, not the single requests", "remove it"),
    "profiles": ("models can't be switched at run time", "write the names under models in a service"),
    "sendLoadingState": ("answers carry no loading messages", "look at /running or `ai-proxy events`"),
}
_LEVELS = {"debug": "DEBUG", "warn": "WARNING", "error": "ERROR"}
_LEAST_START_S = 15


def convert(root: Node) -> Draft:
    """Make a draft of a whole file.

    Args:
        root: The file as nodes.
    """
    draft = Draft("llama-swap")
    models = _mapping(root, "models")
    ids = _ids(models)
    macros = {name: mark_env(value) for name, value in texts(root.get("macros")).items()}
    services = {name: read_model(name, node, macros) for name, node in models.items()}
    _read_top(draft, root)
    for name, node in models.items():
        _name_models(services[name], ids[name], name, node)
    _read_hooks(services, root, models)
    _read_company(draft, {name: service for name, service in services.items() if service.runs}, root, ids)
    for name, service in services.items():
        draft.add(ids[name], service)
    claimed = {alias for name, node in models.items() for alias in (name, *items(node.get("aliases")))}
    for name, node in _mapping(root, "peers").items():
        draft.add(unused_id(legal_id(name), draft.services), _peer(name, node, claimed))
    _remark(draft)
    return draft


def _mapping(root: Node, *path: str) -> Mapping[str, Node]:
    node = root.get(*path)
    return node.entries if node else {}


def _ids(models: Mapping[str, Node]) -> dict[str, str]:
    ids: dict[str, str] = {}
    for name in models:
        ids[name] = unused_id(legal_id(name), set(ids.values()))
    return ids


def _read_top(draft: Draft, root: Node) -> None:
    defaults: dict[str, object] = {}
    if (ttl := number(mark_env(text(root, "globalTTL")))) not in {None, 0}:
        defaults["idle_timeout_s"] = ttl
    if (start := number(mark_env(text(root, "healthCheckTimeout")))) is not None:
        defaults["health"] = {"start_timeout_s": max(start, _LEAST_START_S) if isinstance(start, int) else start}
    if (grace := number(mark_env(text(root, "unloadTimeout")))) not in {None, 0}:
        defaults["stop_grace_period"] = f"{grace}s"
    if (level := _LEVELS.get(text(root, "logLevel"))) is not None:
        draft.top["log"] = {"level": level}
    if defaults:
        draft.top["defaults"] = defaults
    for key in root.entries:
        if key not in _READ:
            draft.left.append(Left(key, *_LEFT.get(key, _NO_COUNTERPART)))


def _name_models(service: ServiceDraft, service_id: str, name: str, node: Node) -> None:
    names = list(dict.fromkeys([name, *items(node.get("aliases"))]))
    if (engines := mark_env(text(node, "useModelName"))) != "":
        service.put("models", dict.fromkeys(names, engines))
    elif names != [service_id]:
        service.put("models", names)


def _read_hooks(services: Mapping[str, ServiceDraft], root: Node, models: Mapping[str, Node]) -> None:
    aliases = {alias: name for name, node in models.items() for alias in items(node.get("aliases"))}
    for name in items(root.get("hooks", "on_startup", "preload")):
        service = services.get(aliases.get(name, name))
        if service is not None:
            service.put("preload", value=True)


def _read_company(draft: Draft, services: Mapping[str, ServiceDraft], root: Node, ids: Mapping[str, str]) -> None:
    """What may run together: groups or a matrix, at the top or under `routing`."""
    settings = root.get("routing", "router", "settings")
    uses_matrix = text(root, "routing", "router", "use") == "matrix"
    matrix = root.get("matrix") or (settings.get("matrix") if settings and uses_matrix else None)
    groups = root.get("groups") or (settings.get("groups") if settings and not uses_matrix else None)
    if matrix is not None:
        _part(services, _matrix_pairs(draft, matrix, list(services)), ids)
        _read_costs(services, matrix)
    elif groups is not None:
        known = {name: _group(node) for name, node in groups.entries.items()}
        _part(services, group_pairs(known.values()), ids)
        _pin(services, known)
        _tell_one_sided(draft, groups, known)
    for name, rank in texts(root.get("routing", "scheduler", "settings", "fifo", "priority")).items():
        if name in services and (value := number(rank)) and isinstance(value, int):
            services[name].put("priority", "high" if value > 0 else "low")
            services[name].remarks.append(f"priority {value} there; here there is low, normal and high.")


def _group(node: Node) -> Group:
    def is_set(key: str, default: str) -> bool:
        return (text(node, key) or default) == "true"

    members = tuple(items(node.get("members")))
    return Group(members, is_set("swap", "true"), is_set("exclusive", "true"), is_set("persistent", "false"))


def _matrix_pairs(draft: Draft, matrix: Node, models: list[str]) -> set[Pair]:
    try:
        return matrix_pairs(texts(matrix.get("sets")), texts(matrix.get("vars")), models)
    except ValueError as error:
        draft.left.append(Left(matrix.key, f"a set {error}", "write conflicts in the services concerned"))
        return set()


def _read_costs(services: Mapping[str, ServiceDraft], matrix: Node) -> None:
    names = texts(matrix.get("vars"))
    for short, cost in texts(matrix.get("evict_costs")).items():
        service = services.get(names.get(short, short))
        if service is not None and (weight := number(cost)) not in {None, 0, 1}:
            service.put("weight", weight)


def _part(services: Mapping[str, ServiceDraft], apart: set[Pair], ids: Mapping[str, str]) -> None:
    """Write each pair once, at the model that comes first: conflicts hold in either direction."""
    order = list(services)
    for place, name in enumerate(order):
        if others := [ids[other] for other in order[place + 1 :] if frozenset({name, other}) in apart]:
            services[name].put("conflicts", others)


def _pin(services: Mapping[str, ServiceDraft], groups: Mapping[str, Group]) -> None:
    for name, group in groups.items():
        members = [services[member] for member in group.members if member in services]
        for service in members if group.persistent else ():
            if group.swap and len(members) > 1:
                service.remarks.append(
                    f"Group {name} is persistent there; what gives way to its own group can't be pinned."
                )
                continue
            service.put("pinned", value=True)
            if service.keys.get("idle_timeout_s") is not None:
                service.remarks.append("pinned: idle_timeout_s counts only once that is removed.")


def _tell_one_sided(draft: Draft, node: Node, groups: Mapping[str, Group]) -> None:
    """Whether it counts in one direction only: who is exclusive, while others are not."""
    mixed = len({group.exclusive for group in groups.values() if not group.persistent}) > 1
    for name, group in groups.items() if mixed else ():
        if group.exclusive and not group.persistent:
            why = "that it unloads groups which do not unload it holds in one order only"
            path = f"{node.key}.{name}.exclusive"
            draft.left.append(Left(path, why, "write conflicts where memory does not tell, else nothing"))


def _peer(name: str, node: Node, claimed: set[str]) -> ServiceDraft:
    """A peer as a service; of a name that several offer, the first has it, as there."""
    service = ServiceDraft(f"peers.{name}")
    service.put("url", mark_env(text(node, "proxy")).rstrip("/"))
    if key := mark_env(text(node, "apiKey")):
        service.put("headers", {"authorization": f"Bearer {key}", "x-api-key": key})
    offered = items(node.get("models"))
    service.put("models", [model for model in offered if model not in claimed])
    for model in offered:
        if model in claimed:
            service.leave("models", f"{model} is offered by an earlier one", "give it another name here if you need it")
    claimed.update(offered)
    read_timeouts(service, node)
    for key in _unread(node):
        service.leave(key, "requests are not changed on their way", "have the clients send it")
    return service


def _unread(node: Node) -> Iterator[str]:
    return (key for key in node.entries if key not in {"proxy", "apiKey", "models", "timeouts"})


def _remark(draft: Draft) -> None:
    services = draft.services.values()
    if any("url" not in service.keys for service in services):
        draft.remarks.append(
            "What a model needs of a GPU is not in there: until that was seen, each has one to itself. To have them "
            "share from the start, write resources: {vram_required_mb: …}."
        )
    if any("conflicts" in service.keys for service in services):
        draft.remarks.append("conflicts are what was said there of who runs together; memory alone may say it as well.")
    elif len(draft.services) > 1:
        draft.remarks.append("One model at a time there; here those run together that fit.")
