"""large-model-proxy's JSONC as a draft of ours.

Pure. Its keys are read as it reads them, whatever their case; what becomes of its resources is `shares`' business.
"""

import re
from collections.abc import Iterator, Mapping
from typing import cast

from ai_proxy.config.fields import Rejected
from ai_proxy.config.importing.command import split
from ai_proxy.config.importing.draft import Draft, Left, ServiceDraft
from ai_proxy.config.importing.server import read_server
from ai_proxy.config.importing.shares import Shares
from ai_proxy.config.naming import legal_id, unused_id

type Keys = Mapping[str, object]

_TOP_READ = frozenset({
    "maxtimetowaitforservicetocloseconnectionbeforegivingupseconds", "openaiapi", "resourcesavailable", "services",
    "shutdownafterinactivityseconds",
})  # fmt: skip
_READ = frozenset({
    "args", "command", "considerstoppedonprocessexit", "healthcheckcommand", "healthcheckintervalmilliseconds",
    "killcommand", "listenport", "name", "openaiapi", "openaiapimodels", "proxytargethost", "proxytargetport",
    "resourcerequirements", "restartonconnectionfailure", "shutdownafterinactivityseconds",
    "startuptimeoutmilliseconds", "targetport", "workdir",
})  # fmt: skip
_NO_COUNTERPART = ("it has no counterpart", "remove it")
_LEFT = {
    "clientrequestbufferlimitbytes": (
        "uploads wait in the client while a service starts",
        "see server.max_buffered_mb",
    ),
    "contextsize": ("requests are not routed by their length", "give clients the services' own names"),
    "contextsizebytes": ("requests are not routed by their length", "give clients the services' own names"),
    "defaultserviceurl": ("there is no page of links", "remove it"),
    "logfilepath": ("output is kept in memory", "see `ai-proxy logs`"),
    "managementapi": ("it has no port of its own", "ask /api/v1 on the proxy's port"),
    "outputservicelogs": ("output is kept in memory", "see `ai-proxy logs`"),
    "serviceurl": ("there is no page of links", "remove it"),
}
_IDLE_S = 120
"""What it takes where nothing is said."""

_CURL = re.compile(r"https?://[^/\s'\"]+(/[^\s'\"]*)?")
_STOPPER = re.compile(r"(sudo )?(docker|podman) (stop|kill|rm)\b")


def convert(document: Keys) -> Draft:
    """Make a draft of a whole file.

    Args:
        document: The file as plain values.
    """
    top = _folded(document)
    draft = Draft("large-model-proxy")
    shares = Shares(_mapping(top.get("resourcesavailable")), draft)
    _read_top(draft, document, top)
    for index, entry in enumerate(_list(top.get("services"))):
        if isinstance(entry, dict):
            _read_service(draft, index, entry, shares)
    draft.top |= shares.top()
    return draft


def _folded(keys: Keys) -> dict[str, object]:
    return {name.lower(): value for name, value in keys.items()}


def _mapping(value: object) -> Keys:
    return cast("Keys", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _read_top(draft: Draft, document: Keys, top: Keys) -> None:
    port = _folded(_mapping(top.get("openaiapi"))).get("listenport")
    if port is not None and str(port).isdecimal():
        draft.top["server"] = {"port": int(str(port))}
    idle = _whole(top.get("shutdownafterinactivityseconds")) or _IDLE_S
    defaults: dict[str, object] = {"idle_timeout_s": idle}
    if wait := _whole(top.get("maxtimetowaitforservicetocloseconnectionbeforegivingupseconds")):
        defaults["limits"] = {"max_wait_s": wait}
    draft.top["defaults"] = defaults
    draft.left.extend(Left(key, why, fix) for key, why, fix in _leftovers(document, _TOP_READ))


def _leftovers(keys: Keys, read: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    for key, value in keys.items():
        if key.lower() not in read and value is not None:
            yield key, *_LEFT.get(key.lower(), _NO_COUNTERPART)


def _whole(value: object) -> int:
    """A whole number; 0 for what is none."""
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() else 0


def _read_service(draft: Draft, index: int, entry: Keys, shares: Shares) -> None:
    keys = _folded(entry)
    name = str(keys.get("name") or f"service-{index}")
    service_id = unused_id(legal_id(name), draft.services)
    service = ServiceDraft(f"Services[{index}]")
    shares.read(service, _mapping(keys.get("resourcerequirements")))
    _read_command(service, keys)
    _name_models(service, service_id, name, keys)
    _read_health(service, keys)
    if idle := _whole(keys.get("shutdownafterinactivityseconds")):
        service.put("idle_timeout_s", idle)
    for key, why, fix in _leftovers(entry, _READ):
        service.leave(key, why, fix)
    draft.add(service_id, service)


def _read_command(service: ServiceDraft, keys: Keys) -> None:
    command = str(keys.get("command") or "")
    if not command:
        return
    try:
        words = [command, *split(str(keys.get("args") or ""))]
    except Rejected as rejected:
        service.leave("Args", rejected.message, rejected.fix)
        return
    host, port = keys.get("proxytargethost") or "localhost", keys.get("proxytargetport") or keys.get("targetport")
    read_server(service, words, {}, f"http://{host}:{port}")
    service.left = [Left(it.path.replace(".cmd", ".Args"), it.why, it.fix) for it in service.left]
    if keys.get("workdir") and "image" not in service.keys:
        service.put("working_dir", str(keys["workdir"]))
    kill = str(keys.get("killcommand") or "")
    if kill and not ("image" in service.keys and _STOPPER.match(kill)):
        fix = "see that it ends on SIGTERM; after stop_grace_period it is killed"
        service.leave("KillCommand", "no command is run to stop a service", fix)
    if keys.get("considerstoppedonprocessexit") is False and "image" not in service.keys:
        fix = "have it stay in the foreground"
        service.leave("ConsiderStoppedOnProcessExit", "a process that ends is a service that ended", fix)


def _name_models(service: ServiceDraft, service_id: str, name: str, keys: Keys) -> None:
    models = [str(model) for model in _list(keys.get("openaiapimodels"))] or [name]
    if not keys.get("openaiapi"):
        service.put("models", [])
    elif models != [service_id]:
        service.put("models", models)
    if port := keys.get("listenport"):
        fix = f"have its clients ask for /{service_id}/… on the proxy's port"
        service.leave("ListenPort", f"a service has no port of its own ({port})", fix)


def _read_health(service: ServiceDraft, keys: Keys) -> None:
    if timeout_ms := _whole(keys.get("startuptimeoutmilliseconds")):
        service.put("health.start_timeout_s", max(1, timeout_ms // 1000))
    command = str(keys.get("healthcheckcommand") or "")
    if not command:
        return
    url = _CURL.search(command) if re.search(r"\b(curl|wget)\b", command) else None
    if url is None:
        service.leave("HealthcheckCommand", "health is asked for by HTTP", "write health: {path: /health}")
    elif service.keys.get("type") not in {"llama-cpp-server", "vllm"} or url[1] != "/health":
        service.put("health.path", url[1] or "/")
