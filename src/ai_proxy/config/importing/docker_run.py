"""`docker run …` as the Compose-named keys of a service.

Pure. Owns Docker's flags: which take a value, which key each one is, and which have no counterpart.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from ai_proxy.config.importing.command import device_list
from ai_proxy.config.importing.draft import ServiceDraft

_SHORT = {
    "a": "attach", "c": "cpu-shares", "d": "detach", "e": "env", "h": "hostname", "i": "interactive", "l": "label",
    "m": "memory", "p": "publish", "P": "publish-all", "q": "quiet", "t": "tty", "u": "user", "v": "volume",
    "w": "workdir",
}  # fmt: skip
_SWITCHES = frozenset({
    "detach", "disable-content-trust", "help", "init", "interactive", "no-healthcheck", "oom-kill-disable",
    "privileged", "publish-all", "quiet", "read-only", "rm", "sig-proxy", "tty", "use-api-socket",
})  # fmt: skip
_NEEDLESS = frozenset({
    "attach", "cidfile", "detach", "detach-keys", "disable-content-trust", "expose", "init", "interactive", "name",
    "no-healthcheck", "publish-all", "quiet", "restart", "rm", "sig-proxy", "stop-signal", "tty",
})  # fmt: skip
"""What we do ourselves, in our own way."""

_AS_THEY_ARE = {"ipc": "ipc", "memory": "mem_limit", "shm-size": "shm_size", "user": "user", "workdir": "working_dir"}
_LISTS = {"add-host": "extra_hosts", "cap-add": "cap_add", "env-file": "env_file", "security-opt": "security_opt"}
_GPU_DEVICES = ("/dev/kfd", "/dev/dri", "/dev/nvidia")
_MODES = frozenset({"ro", "rw"})


@dataclass(slots=True)
class Container:
    """What a command line makes of a container.

    Attributes:
        service: Gets the keys, and what has none.
        command: What follows the image.
        ports: Ports that are published: the host's, and the container's that it leads to.
    """

    service: ServiceDraft
    command: list[str] = field(default_factory=list)
    ports: dict[str, str] = field(default_factory=dict)


def is_docker_run(words: Sequence[str]) -> bool:
    """Whether a command starts a container.

    Example:
        >>> is_docker_run(["sudo", "/usr/bin/docker", "run", "--rm", "x"]), is_docker_run(["docker", "start", "x"])
        (True, False)
    """
    return _image_flags(words) is not None


def read_docker_run(words: Sequence[str], service: ServiceDraft) -> Container:
    """Read a command for which `is_docker_run` holds.

    Args:
        words: The whole command.
        service: Gets the keys.
    """
    start = _image_flags(words) or 0
    container = Container(service)
    if "podman" in words[: start - 1] or PurePath(words[0]).name == "podman":
        service.remarks.append("podman there: runs on Docker here.")
    position = start
    while position < len(words) and words[position].startswith("-"):
        if words[position] == "--":
            position += 1
            break
        position = _read_flags(words, position, container)
    if position < len(words):
        service.keys = {"image": words[position], **service.keys}
    container.command = list(words[position + 1 :])
    return container


def _image_flags(words: Sequence[str]) -> int | None:
    """Where the flags of `docker run` begin."""
    rest = list(words[1:] if words and words[0] == "sudo" else words)
    if len(rest) < 2 or PurePath(rest[0]).name not in {"docker", "podman"}:
        return None
    at = 2 if rest[1] == "container" else 1
    return len(words) - len(rest) + at + 1 if rest[at : at + 1] == ["run"] else None


def _read_flags(words: Sequence[str], position: int, container: Container) -> int:
    """Take in one word of flags and its value; return where the next begins."""
    word = words[position]
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        name = "network" if name == "net" else name
        if name in _SWITCHES:
            if value != "false":
                _take(name, value, container)
            return position + 1
        if not equals and position + 1 < len(words):
            position, value = position + 1, words[position + 1]
        _take(name, value, container)
        return position + 1
    for index, letter in enumerate(word[1:], 1):
        name = _SHORT.get(letter, letter)
        if name in _SWITCHES:
            _take(name, "", container)
            continue
        value = word[index + 1 :].removeprefix("=")
        if not value and position + 1 < len(words):
            position, value = position + 1, words[position + 1]
        _take(name, value, container)
        break
    return position + 1


def _take(name: str, value: str, container: Container) -> None:
    keys = container.service.keys
    if name in _NEEDLESS:
        return
    if name in _AS_THEY_ARE:
        keys[_AS_THEY_ARE[name]] = value
    elif name in _LISTS:
        _append(keys, _LISTS[name], value)
    elif name in _TAKERS:
        _TAKERS[name](container, value)
    else:
        shown = f"--{name} {value}".strip() if len(name) > 1 else f"-{name} {value}".strip()
        container.service.leave("cmd", f"{shown} has no counterpart", "see whether the image needs it")


def _append(keys: dict[str, object], key: str, *values: str) -> None:
    listed = keys.setdefault(key, [])
    if isinstance(listed, list):
        listed.extend(values)


def _insert(keys: dict[str, object], key: str, name: str, value: object) -> None:
    inner = keys.setdefault(key, {})
    if isinstance(inner, dict):
        inner[name] = value


def _volume(container: Container, value: str) -> None:
    host, *inside = value.split(":")
    if not inside:
        container.service.leave("cmd", f"-v {value} is a volume without a name", f"write volumes: [name:{value}]")
        return
    modes = inside[1].split(",") if len(inside) > 1 else []
    kept = [mode for mode in modes if mode in _MODES]
    if dropped := [mode for mode in modes if mode not in _MODES]:
        container.service.leave("cmd", f"-v {value}: mode {','.join(dropped)} is unknown here", "relabel it yourself")
    _append(container.service.keys, "volumes", ":".join([host, inside[0], *kept[:1]]))


def _mount(container: Container, value: str) -> None:
    fields = dict(_pairs(value.split(",")))
    source = fields.get("source") or fields.get("src", "")
    target = next((fields[name] for name in ("target", "destination", "dst") if name in fields), "")
    if fields.get("type", "volume") not in {"bind", "volume"} or not source or not target:
        container.service.leave("cmd", f"--mount {value} is no bind or named volume", "see whether it is needed")
        return
    is_read_only = fields.get("readonly", fields.get("ro", "false")) in {"", "true", "1"}
    _append(container.service.keys, "volumes", f"{source}:{target}" + (":ro" if is_read_only else ""))


def _pairs(items: Sequence[str]) -> Iterator[tuple[str, str]]:
    for item in items:
        name, _, value = item.partition("=")
        yield name, value


def _env(container: Container, value: str) -> None:
    name, equals, text = value.partition("=")
    _insert(container.service.keys, "environment", name, text if equals else None)


def _label(container: Container, value: str) -> None:
    name, _, text = value.partition("=")
    _insert(container.service.keys, "labels", name, text)


def _publish(container: Container, value: str) -> None:
    *host, inside = re.sub(r"/(tcp|udp)$", "", value).rsplit(":", 2)
    container.ports[host[-1] if host else inside] = inside


def _gpus(container: Container, value: str) -> None:
    wanted = value.strip("\"'")
    if wanted.isdecimal():
        container.service.put("resources.gpus", int(wanted))
    elif wanted.startswith("device="):
        container.service.put("resources.gpus", device_list(wanted.removeprefix("device=")))
    elif wanted == "all":
        _say_one_gpu(container, f"--gpus {wanted}")
    else:
        container.service.leave("cmd", f"--gpus {wanted} can't be read", "write resources: {gpus: …}")


def _say_one_gpu(container: Container, flag: str) -> None:
    resources = container.service.keys.get("resources")
    if isinstance(resources, dict) and "gpus" in resources:
        return
    container.service.remarks.append(f"{flag} there; here it gets one GPU unless you write resources: {{gpus: 2}}.")


def _device(container: Container, value: str) -> None:
    _, cdi, named = value.partition("nvidia.com/gpu=")
    if cdi and named != "all":
        listed = container.service.keys.get("resources")
        before = listed.get("gpus", []) if isinstance(listed, dict) else []
        container.service.put("resources.gpus", [*before, named])
    elif cdi:
        _say_one_gpu(container, f"--device {value}")
    elif not value.startswith(_GPU_DEVICES):
        container.service.leave("cmd", f"--device {value} has no counterpart", "see whether the image needs it")


def _network(container: Container, value: str) -> None:
    if value in {"host", "none"} or value.startswith("container:"):
        fix = "its port is reached without; name a network of Docker's if it needs one"
        container.service.leave("cmd", f"--network {value} is not possible", fix)
    elif value not in {"bridge", "default"}:
        _append(container.service.keys, "networks", value)


def _ulimit(container: Container, value: str) -> None:
    name, _, limits = value.partition("=")
    soft, _, hard = limits.partition(":")
    both = {"soft": _number(soft), "hard": _number(hard)}
    _insert(container.service.keys, "ulimits", name, both if hard else _number(soft))


def _number(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text


def _entrypoint(container: Container, value: str) -> None:
    container.service.put("entrypoint", [value])


def _pull(container: Container, value: str) -> None:
    if value != "missing":
        container.service.put("pull_policy", value)


def _runtime(container: Container, value: str) -> None:
    if value not in {"nvidia", "runc"}:
        container.service.leave("cmd", f"--runtime {value} has no counterpart", "make it Docker's default runtime")


def _cpus(container: Container, value: str) -> None:
    container.service.put("cpus", float(value) if "." in value else _number(value))


def _stop_timeout(container: Container, value: str) -> None:
    container.service.put("stop_grace_period", f"{value}s")


_TAKERS: Mapping[str, Callable[[Container, str], None]] = {
    "cpus": _cpus,
    "device": _device,
    "entrypoint": _entrypoint,
    "env": _env,
    "gpus": _gpus,
    "label": _label,
    "mount": _mount,
    "network": _network,
    "publish": _publish,
    "pull": _pull,
    "runtime": _runtime,
    "stop-timeout": _stop_timeout,
    "ulimit": _ulimit,
    "volume": _volume,
}
