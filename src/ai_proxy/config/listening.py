"""Addresses to listen on that services have for themselves: their form, and that no two listeners want the same.

Works on texts and on the resolved nodes, so that what clashes is found beside a wrong type in the same file.
"""

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Annotated, Final

from pydantic import AfterValidator

from ai_proxy.config.document import Findings, Node
from ai_proxy.config.fields import Rejected

_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+|localhost)):(\d{1,5})")
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  # compared with, not bound
_SERVER: Final = ("127.0.0.1", "8000")


def listen_address(value: str) -> tuple[str, int]:
    """Read an address and a port.

    Raises:
        Rejected: It is neither.

    Example:
        >>> listen_address("127.0.0.1:8188"), listen_address("[::1]:0")
        (('127.0.0.1', 8188), ('::1', 0))
    """
    match = _ADDRESS.fullmatch(value)
    host = (match[1] or match[2].replace("localhost", "127.0.0.1")) if match else ""
    try:
        if match is None or int(match[3]) > 65535:
            raise ValueError
        ip_address(host)
    except ValueError:
        fix = "write 127.0.0.1:8188, 0.0.0.0:8188 or [::1]:8188; port 0 is any free one"
        raise Rejected(f"not an address and a port: {value!r}", fix) from None
    return host, int(match[3])


def _listen(value: str) -> str:
    listen_address(value)
    return value


Listen = Annotated[str, AfterValidator(_listen)]
"""An address and a port, as text."""


def check_listeners(root: Node, services: Mapping[str, Node], findings: Findings) -> None:
    """Note each listener whose address another one has.

    Args:
        root: The file with its services resolved.
        services: The services in it.
        findings: Gets the faults.
    """
    taken = list(_own_listeners(root))
    port = root.get("management", "port")
    if port is not None and len(taken) == 2 and _clash(taken[0][1], taken[1][1]):
        fix = "choose another, or remove it: then management shares the proxy's listener"
        findings.add(port, f"the proxy listens on port {port.value} already", fix)
    for service, entry in services.items():
        node = entry.get("listen")
        if node is None or not isinstance(node.value, str):
            continue
        try:
            address = listen_address(node.value)
        except Rejected:
            continue  # told with the other types
        owner = next((owner for owner, other in taken if _clash(address, other)), None)
        if owner is not None:
            findings.add(node, f"{owner} listens on {node.value} already", "choose another port")
        taken.append((f"service {service}", address))


def _own_listeners(root: Node) -> Iterator[tuple[str, tuple[str, int]]]:
    """The proxy's own, as far as the file says it; a flag of the command line may still change that."""
    for section, owner, usual in (("server", "the proxy", _SERVER), ("management", "management", ("127.0.0.1", "0"))):
        nodes = (root.get(section, "host"), root.get(section, "port"))
        host, port = (default if it is None else it.value for it, default in zip(nodes, usual, strict=True))
        if isinstance(host, str) and isinstance(port, str) and port.isdecimal():
            yield owner, (host.replace("localhost", "127.0.0.1"), int(port))


def _clash(one: tuple[str, int], other: tuple[str, int]) -> bool:
    (host, port), (other_host, other_port) = one, other
    return port == other_port != 0 and (host == other_host or not _ANY.isdisjoint({host, other_host}))
