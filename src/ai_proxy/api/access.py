"""Who may manage: holders of a management key, or, while there is none, whoever sits at this machine.

Owns that decision and nothing else. Keys are the config's (`keyring`); what browsers may send is `guard`'s business,
which comes first: a page that is not ours must not even get the browser to ask its user for a key.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from ai_proxy.api.problems import Refused, answer
from ai_proxy.config.keyring import Keyring, read_credentials
from ai_proxy.config.models import Config
from ai_proxy.forwarding import Address, TrustedProxies, address_of, everyone_in, hops_of, parsed_address, told_by

OPEN: Final = "/health"
"""The one path that everybody may ask: it tells that the process lives."""

_CHALLENGE: Final = 'Basic realm="ai-proxy management", Bearer'
_HOW: Final = "send it as `Authorization: Bearer KEY`, as `x-api-key`, or as the password of Basic"
_MAKE: Final = "`ai-proxy key create ops --management` makes a key that"

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
        self._trusted = TrustedProxies()

    def __repr__(self) -> str:
        return f"<Access by {self._keyring!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it; either way who asks, and from where, is noted for the audit log."""
        if scope["type"] == "http" and scope["path"] != OPEN:
            config = self._config()
            if config is not self._known:
                self._known, self._keyring = config, Keyring(config.keys)
                self._trusted = TrustedProxies(config.server.trusted_proxies)
            peer, fields = scope["client"][0] if scope.get("client") else None, scope["headers"]
            verdict = judge(self._keyring, peer, fields, self._trusted)
            scope["state"].update(
                actor=verdict.actor, client=peer and self._trusted.client(peer, hops_of(told_by(fields)))
            )
            if verdict.refusal is not None:
                await answer(scope, verdict.refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def judge(keyring: Keyring, peer: str | None, fields: Fields, trusted: TrustedProxies) -> Verdict:
    """Decide who may manage.

    1. While some key opens management, only such a key does.
    2. While none does, only this machine may.

    Args:
        keyring: The keys of the config.
        peer: Address of the connection's other end; None for a Unix socket.
        fields: The request's fields, names in lower case.
        trusted: The proxies whose word on their clients counts.

    Example:
        >>> judge(Keyring([]), "127.0.0.1", [], TrustedProxies()).actor
        'no key, loopback'
        >>> judge(Keyring([]), "10.0.0.7", [], TrustedProxies()).refusal.status_code
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


def distance_of(peer: str | None, fields: Fields, trusted: TrustedProxies) -> str:
    """Say why a request is not known to come from this machine; empty if it is.

    A proxy on this machine makes the whole world look local. What it writes of its clients gives it away, and is
    believed only if the config trusts it; every address must then be this machine's, since clients can add more.

    Args:
        peer: Address of the connection's other end; None for a Unix socket.
        fields: The request's fields, names in lower case.
        trusted: The proxies whose word on their clients counts.

    Example:
        >>> distance_of("::ffff:127.0.0.1", [], TrustedProxies())
        ''
        >>> distance_of("127.0.0.1", [(b"x-forwarded-for", b"10.0.0.7")], TrustedProxies())
        'the request came through another proxy, which server.trusted_proxies does not name'
    """
    if peer is not None and not _is_loopback(parsed_address(peer)):
        return f"{peer} is another one"
    named = list(everyone_in(told_by(fields)))
    if not named:
        return ""
    if peer is None or not trusted.trust(peer):
        return "the request came through another proxy, which server.trusted_proxies does not name"
    if all(_is_loopback(address_of(hop)) for hop in named):
        return ""
    return "the proxy in front says that its client is another one"


def _is_loopback(address: Address | None) -> bool:
    return address is not None and address.is_loopback
