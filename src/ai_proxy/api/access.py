"""Who may manage: holders of a management key, or, while there is none, whoever sits at this machine.

Owns that decision and nothing else. Keys are the config's (`keyring`); what browsers may send is `guard`'s business,
which comes first: a page that is not ours must not even get the browser to ask its user for a key.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from ai_proxy.api.problems import Refused, answer
from ai_proxy.config.keyring import Keyring, read_credentials
from ai_proxy.config.models import Config

OPEN: Final = "/health"
"""The one path that everybody may ask: it tells that the process lives."""

_CHALLENGE: Final = 'Basic realm="ai-proxy management", Bearer'
_HOW: Final = "send it as `Authorization: Bearer KEY`, as `x-api-key`, or as the password of Basic"
_MAKE: Final = "`ai-proxy key create ops --management` makes a key that"
_FORWARDING: Final = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip"})

type Network = IPv4Network | IPv6Network
type Fields = Collection[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided on a request.

    Attributes:
        actor: Who asks, for the audit log; never the key.
        refusal: Why it may not; None if it may.
    """

    actor: str
    refusal: Refused | None = None


class Access:
    """Lets requests through to the routes, or answers 401 or 403.

    Args:
        app: What is behind it.
        config: Tells the config in force.
    """

    def __init__(self, app: ASGIApp, config: Callable[[], Config]) -> None:
        self._app = app
        self._config = config
        # For the life of a config
        self._known: Config | None = None
        self._keyring = Keyring(())
        self._trusted: Sequence[Network] = ()

    def __repr__(self) -> str:
        return f"<Access by {self._keyring!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it; either way who asks, and from where, is noted for the audit log."""
        if scope["type"] == "http" and scope["path"] != OPEN:
            config = self._config()
            if config is not self._known:
                self._known, self._keyring = config, Keyring(config.keys)
                self._trusted = [ip_network(network) for network in config.server.trusted_proxies]
            peer, fields = scope["client"][0] if scope.get("client") else None, scope["headers"]
            verdict = judge(self._keyring, peer, fields, self._trusted)
            scope["state"].update(actor=verdict.actor, client=client_of(peer, fields, self._trusted))
            if verdict.refusal is not None:
                await answer(scope, verdict.refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def judge(keyring: Keyring, peer: str | None, fields: Fields, trusted: Collection[Network]) -> Verdict:
    """Decide who may manage.

    1. While some key opens management, only such a key does.
    2. While none does, only this machine may.

    Args:
        keyring: The keys of the config.
        peer: Address of the connection's other end; None for a Unix socket.
        fields: The request's fields, names in lower case.
        trusted: Networks of the proxies whose word on their clients counts.

    Example:
        >>> judge(Keyring([]), "127.0.0.1", [], ()).actor
        'no key, loopback'
        >>> judge(Keyring([]), "10.0.0.7", [], ()).refusal.status_code
        403
    """
    secret = read_credentials(dict(fields))
    key = None if secret is None else keyring.find(secret)
    who = "no key" if secret is None else "an unknown key" if key is None else f"key {key.name} ({key.fingerprint})"
    if keyring.management:
        if key is None:
            refusal = Refused(401, "management_key_needed", f"management needs a key: {_HOW}")
            refusal.headers = {"www-authenticate": _CHALLENGE}
            return Verdict(who, refusal)
        if not key.management:
            detail = f"the key {key.name!r} does not open management; {_MAKE} does"
            return Verdict(who, Refused(403, "not_a_management_key", detail))
        return Verdict(who)
    if distance := distance_of(peer, fields, trusted):
        detail = f"while no key opens management, only this machine may use it, and {distance}; {_MAKE} opens it"
        return Verdict(who, Refused(403, "not_local", f"{detail} from elsewhere"))
    return Verdict(f"{who}, loopback")


def distance_of(peer: str | None, fields: Fields, trusted: Collection[Network]) -> str:
    """Say why a request is not known to come from this machine; empty if it is.

    A proxy on this machine makes the whole world look local. What it writes of its clients gives it away, and is
    believed only if the config trusts it; every address must then be this machine's, since clients can add more.

    Args:
        peer: Address of the connection's other end; None for a Unix socket.
        fields: The request's fields, names in lower case.
        trusted: Networks of the proxies whose word on their clients counts.

    Example:
        >>> distance_of("::ffff:127.0.0.1", [], ())
        ''
        >>> distance_of("127.0.0.1", [(b"x-forwarded-for", b"10.0.0.7")], ())
        'the request came through another proxy, which server.trusted_proxies does not name'
    """
    if peer is not None and not _is_loopback(peer):
        return f"{peer} is another one"
    named = [value.decode("latin-1") for name, value in fields if name in _FORWARDING]
    if not named:
        return ""
    if peer is None or not _is_within(peer, trusted):
        return "the request came through another proxy, which server.trusted_proxies does not name"
    if all(_is_loopback(node) for value in named for node in _nodes(value)):
        return ""
    return "the proxy in front says that its client is another one"


def client_of(peer: str | None, fields: Fields, trusted: Collection[Network]) -> str | None:
    """The nearest address on a request's way that is no trusted proxy's: nobody can be believed further.

    Args:
        peer: Address of the connection's other end; None for a Unix socket.
        fields: The request's fields, names in lower case.
        trusted: Networks of the proxies whose word on their clients counts.

    Example:
        >>> told = [(b"x-forwarded-for", b"192.0.2.1, 203.0.113.7, 127.0.0.1")]
        >>> client_of("127.0.0.1", told, [ip_network("127.0.0.0/8")]), client_of("127.0.0.1", told, [])
        ('203.0.113.7', '127.0.0.1')
    """
    client = peer
    ways = (
        [node for name, value in fields if name == field for node in _nodes(value.decode("latin-1"))]
        for field in (b"x-forwarded-for", b"forwarded")
    )
    for node in reversed(next(filter(None, ways), [])):
        if client is None or not _is_within(client, trusted) or _address(node) is None:
            break
        client = node
    return client


def _nodes(value: str) -> list[str]:
    """The clients that a forwarding field names, nearest last; of `Forwarded` an element without one is the whole."""
    nodes = []
    for element in value.split(","):
        pairs = [pair.partition("=") for pair in element.split(";")]
        node = next((given for name, _, given in pairs if name.strip().lower() == "for"), element)
        nodes.append(_bare(node.strip().strip('"')))
    return nodes


def _bare(node: str) -> str:
    """An address without its port and brackets.

    Example:
        >>> _bare("[::1]:4711"), _bare("127.0.0.1:80"), _bare("::1")
        ('::1', '127.0.0.1', '::1')
    """
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node.partition(":")[0] if node.count(":") == 1 else node


def _is_loopback(node: str) -> bool:
    address = _address(node)
    return address is not None and address.is_loopback


def _is_within(node: str, networks: Collection[Network]) -> bool:
    address = _address(node)
    return address is not None and any(address in network for network in networks)


def _address(node: str) -> IPv4Address | IPv6Address | None:
    """A node's address, if it has one; that of IPv4 where IPv6 only wraps it."""
    try:
        parsed = ip_address(node)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed
