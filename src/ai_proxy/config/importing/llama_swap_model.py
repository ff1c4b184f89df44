"""One model of llama-swap's as a service. Pure."""

from collections.abc import Mapping

from ai_proxy.config.document import Node
from ai_proxy.config.fields import Rejected
from ai_proxy.config.importing.command import split
from ai_proxy.config.importing.draft import ENV_OPENS, ServiceDraft
from ai_proxy.config.importing.macros import Macros, unknown
from ai_proxy.config.importing.server import read_server

_READ = frozenset({
    "aliases", "checkEndpoint", "cmd", "cmdStop", "concurrencyLimit", "env", "filters", "macros", "proxy", "timeouts",
    "ttl", "unlisted", "unloadTimeout", "useModelName",
})  # fmt: skip
_LEFT = {
    "capabilities": ("/v1/models shows no capabilities", "remove it"),
    "description": ("/v1/models shows no descriptions", "remove it"),
    "metadata": ("/v1/models shows no metadata", "remove it"),
    "name": ("/v1/models shows no display names", "remove it"),
    "sendLoadingState": ("answers carry no loading messages", "look at /running or `ai-proxy events`"),
}
_PROXY = "http://localhost:${PORT}"
_STOPPERS = frozenset({"docker", "podman"})
_OWN_HEALTH = frozenset({"llama-cpp-server", "vllm"})
"""Engines whose health path is llama-swap's default."""


def read_model(model_id: str, node: Node, macros: Mapping[str, str]) -> ServiceDraft:
    """Make a service of a model.

    Args:
        model_id: Its key.
        node: Its settings.
        macros: The macros at the top.
    """
    service = ServiceDraft(f"models.{model_id}")
    own = Macros(model_id, macros, texts(node.get("macros")))
    engine = _read_command(service, node, own)
    _read_health(service, node, own, engine)
    _read_limits(service, node)
    _read_rest(service, node, own)
    return service


def texts(node: Node | None) -> dict[str, str]:
    """The entries of a mapping that are text."""
    entries = node.entries if node else {}
    return {name: child.value for name, child in entries.items() if isinstance(child.value, str)}


def items(node: Node | None) -> list[str]:
    """The texts in a list; of a mapping in it, its `id`."""
    if node is None or not isinstance(node.value, tuple):
        return []
    named = [child.get("id") or child for child in node.value]
    return [child.value for child in named if isinstance(child.value, str)]


def text(node: Node, *path: str) -> str:
    """The text at a path, empty if there is none."""
    found = node.get(*path)
    return found.value if found is not None and isinstance(found.value, str) else ""


def number(value: str) -> int | str | None:
    """A whole number, or the variable that holds one.

    Example:
        >>> number("60"), number("often")
        (60, None)
    """
    if value.removeprefix("-").isdecimal():
        return int(value)
    return value if value.startswith(ENV_OPENS) else None


def _read_command(service: ServiceDraft, node: Node, macros: Macros) -> str:
    command, target = macros.fill(text(node, "cmd")), macros.fill(text(node, "proxy") or _PROXY)
    environment = dict(_pair(macros.fill(item)) for item in items(node.get("env")))
    for key, filled in (("cmd", command), ("proxy", target)):
        for name in unknown(filled):
            service.leave(key, f"${{{name}}} is no macro", "write what it stands for")
    try:
        words = split(command)
    except Rejected as rejected:
        service.leave("cmd", rejected.message, rejected.fix)
        words = []
    if not words:
        if not command and text(node, "proxy"):
            service.put("url", target.rstrip("/"))
        return "generic"
    return read_server(service, words, environment, target)


def _pair(item: str) -> tuple[str, str]:
    name, _, value = item.partition("=")
    return name, value


def _read_health(service: ServiceDraft, node: Node, macros: Macros, engine: str) -> None:
    path = macros.fill(text(node, "checkEndpoint"))
    if path == "none":
        if engine != "generic":
            service.remarks.append("checkEndpoint none there; here it is ready when its own health path says so.")
    elif path or engine == "generic":
        path = f"/{(path or '/health').removeprefix('/')}"
        if engine not in _OWN_HEALTH or path != "/health":
            service.put("health.path", path)


def _read_limits(service: ServiceDraft, node: Node) -> None:
    ttl = number(text(node, "ttl"))
    if isinstance(ttl, str):
        service.remarks.append("0 in that variable means never there and is refused here.")
    if ttl == 0:
        service.put("idle_timeout_s", None)
    elif ttl is not None and ttl != -1:
        service.put("idle_timeout_s", ttl)
    if (grace := number(text(node, "unloadTimeout"))) not in {None, 0}:
        service.put("stop_grace_period", f"{grace}s")
    if (most := number(text(node, "concurrencyLimit"))) not in {None, 0}:
        service.put("limits.max_in_flight", most)
        service.remarks.append("concurrencyLimit there answered 429; beyond max_in_flight requests wait here.")
    read_timeouts(service, node)


def read_timeouts(service: ServiceDraft, node: Node) -> None:
    """Carry over the deadlines that have a counterpart."""
    ours = {"connect": "connect_s", "responseHeader": "first_byte_s"}
    for name, value in texts(node.get("timeouts")).items():
        if name not in ours:
            service.leave(f"timeouts.{name}", "it has no counterpart", "remove it")
        elif (seconds := number(value)) not in {None, 0}:
            service.put(f"timeouts.{ours[name]}", seconds)


def _read_rest(service: ServiceDraft, node: Node, macros: Macros) -> None:
    if text(node, "unlisted") == "true":
        service.put("unlisted", value=True)
    stop = macros.fill(text(node, "cmdStop"))
    is_container = "image" in service.keys
    if stop and not (is_container and stop.split()[0].rpartition("/")[2] in _STOPPERS):
        fix = "see that it ends on SIGTERM; after stop_grace_period it is killed"
        service.leave("cmdStop", "no command is run to stop a service", fix)
    filters = node.get("filters")
    for key in filters.entries if filters else ():
        service.leave(f"filters.{key}", "requests are not changed on their way", "have the clients send it")
    for key in node.entries:
        if key not in _READ:
            service.leave(key, *_LEFT.get(key, ("it has no counterpart", "remove it")))
