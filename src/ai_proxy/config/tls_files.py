"""The `tls` sections of a file: where the files that they name are, and what is wrong with those.

Works on nodes, as `resolve` and `check` do. What is in the files is for `certificates` to judge.
"""

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from ai_proxy.config.certificates import BadFile, client_context, server_context
from ai_proxy.config.document import Findings, Node
from ai_proxy.config.models import Config
from ai_proxy.config.section import Section
from ai_proxy.config.tls import FILE_KEYS, ServerTls, ServiceTls


def anchor_tls(node: Node, directory: Path) -> Node:
    """Have the files of a server's or a service's `tls` start at the config file; what has the wrong type is left.

    Args:
        node: The server or the service.
        directory: The config file's.
    """
    tls = node.get("tls")
    for name, child in tls.entries.items() if tls is not None else ():
        if tls is not None and name in FILE_KEYS and isinstance(child.value, str) and child.value:
            tls = tls.put(name, child.replace(str(directory.absolute() / Path(child.value).expanduser())))
    return node.put("tls", tls) if tls is not None else node


def check_tls(root: Node, findings: Findings) -> None:
    """Note each file that can't be used, and each service that has no use for any.

    Args:
        root: The file with its services resolved.
        findings: Gets the faults.
    """
    if (listener := root.get("server", "tls")) is not None:
        _try(ServerTls, server_context, listener, findings)
    services = root.get("services")
    for service in services.entries.values() if services is not None else ():
        tls, url = service.get("tls"), service.get("url")
        if tls is None or tls.value is None:
            continue
        if url is not None and isinstance(url.value, str) and url.value.lower().startswith("https://"):
            _try(ServiceTls, client_context, tls, findings)
        elif not tls.key.startswith("defaults."):
            findings.add(tls, "only a service with a url of https is reached by TLS", "remove it, or write https://")


def unverified(config: Config) -> list[str]:
    """The services whose certificates nobody checks."""
    return [service for service, it in config.services.items() if it.tls is not None and not it.tls.verify]


def _try[T: Section](kind: type[T], use: Callable[[T], object], node: Node, findings: Findings) -> None:
    try:
        use(kind.model_validate(node.plain()))
    except ValidationError:
        return  # told with the other types
    except BadFile as bad:
        findings.add(node.get(bad.key) or node, bad.message, bad.fix)
