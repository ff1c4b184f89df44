"""What every tool's services have in common once their words are known: a command or a container, and a port.

Pure.
"""

import re
from collections.abc import Mapping, Sequence

from ai_proxy.config.importing.command import engine_of, gpus_of, visible_devices
from ai_proxy.config.importing.docker_run import is_docker_run, read_docker_run
from ai_proxy.config.importing.draft import PORT, ServiceDraft
from ai_proxy.config.substitute import START_NAMES

_URL = re.compile(r"https?://(?P<host>\[[^\]]*\]|[^:/]*)(?::(?P<port>[^/]+))?(?P<path>/.*)?")
_LOOPBACK = frozenset({"127.0.0.1", "0.0.0.0", "localhost", "[::1]", ""})  # noqa: S104  # as others write it
_CLIENTS = frozenset({"start", "exec", "compose", "restart"})


def read_server(service: ServiceDraft, words: Sequence[str], environment: Mapping[str, str], target: str) -> str:
    """Give a service what it runs and where that listens.

    Args:
        service: Gets the keys.
        words: The command, placeholders filled.
        environment: Variables that the tool sets for the command.
        target: The URL at which the tool reaches it.

    Returns:
        The kind of engine.
    """
    if is_docker_run(words):
        return _read_container(service, words, environment, target)
    engine = engine_of(words)
    service.put("type", engine)
    service.put("command", list(words))
    if words[0].endswith("docker") and words[1:2] and words[1] in _CLIENTS:
        fix = "write image and what else `docker run` would need"
        service.leave("cmd", "it only talks to Docker, and what it starts is not ours to stop", fix)
    rest, gpus = visible_devices(environment)
    if rest:
        service.put("environment", rest)
    _choose_gpus(service, engine, words, gpus)
    _choose_port(service, words, rest, target)
    _check_braces(service, words)
    return engine


def _read_container(service: ServiceDraft, words: Sequence[str], environment: Mapping[str, str], target: str) -> str:
    container = read_docker_run(words, service)
    engine = engine_of(container.command, str(service.keys.get("image", "")))
    service.put("type", engine)
    if container.command:
        service.put("command", container.command)
    gpus = _take_environment(service, environment)
    _choose_gpus(service, engine, container.command, gpus)
    match = _URL.fullmatch(target)
    asked = (match["port"] or "80") if match else ""
    leads_to = container.ports.get(asked) or next(iter(container.ports.values()), asked)
    if leads_to.isdecimal():
        service.put("port", int(leads_to))
    _check_braces(service, container.command)
    return engine


def _take_environment(service: ServiceDraft, outside: Mapping[str, str]) -> int | list[str] | None:
    """Give the container its variables; those that it only passes on have their values from outside of it."""
    inside = service.keys.pop("environment", None)
    passed: dict[str, str | None] = inside if isinstance(inside, dict) else {}
    for name in passed.keys() & outside.keys():
        if passed[name] is None:
            passed[name] = outside[name]
    known, gpus = visible_devices({name: value for name, value in passed.items() if value is not None})
    rest = {name: value for name, value in passed.items() if value is None or name in known}
    if rest:
        service.put("environment", rest)
    if unseen := sorted(outside.keys() - passed.keys()):
        service.leave("env", f"{', '.join(unseen)} was set for docker, not in the container", "write environment")
    return gpus


def _choose_gpus(service: ServiceDraft, engine: str, words: Sequence[str], named: int | list[str] | None) -> None:
    """What the environment or Docker names; else what the command line says."""
    resources = service.keys.get("resources")
    if named is not None:
        service.put("resources.gpus", named)
    elif not (isinstance(resources, dict) and "gpus" in resources) and (said := gpus_of(engine, words)) is not None:
        service.put("resources.gpus", said[0])
        service.remarks.append(f"gpus: because of {said[1]}.")


def _choose_port(service: ServiceDraft, words: Sequence[str], environment: Mapping[str, str], target: str) -> None:
    match = _URL.fullmatch(target)
    if match is None or match["host"] not in _LOOPBACK:
        fix = "write url instead of command if it runs elsewhere"
        service.leave("proxy", f"{target} is not this machine", fix)
        return
    if (match["path"] or "/") != "/":
        service.leave("proxy", f"the path {match['path']} is not put before requests", "ask for it, or run it below /")
    if any(PORT in text for text in (*words, *environment.values())):
        return
    port = match["port"] or "80"
    if port.isdecimal():
        service.put("port", int(port))


def _check_braces(service: ServiceDraft, words: Sequence[str]) -> None:
    for name in sorted(START_NAMES - {"port"}):
        if any(f"{{{name}}}" in word for word in words):
            service.leave("cmd", f"{{{name}}} stands for something of ours here", "write it in another way")
