"""Requests for another protocol: which are passed on, and what becomes of those that an engine agrees to.

All tunnels of the data plane are here by the origin that they lead to, so that a replica that leaves can let them go.
"""

import asyncio
from typing import Final

from ai_proxy.errors import UpgradeNotSupported
from ai_proxy.gate import Grant
from ai_proxy.proxy.body import ClientGone
from ai_proxy.proxy.forward import as_ours
from ai_proxy.proxy.headers import inbound
from ai_proxy.proxy.request import Request
from ai_proxy.proxy.settings import ServiceSettings
from ai_proxy.proxy.tunnel import Tunnel
from ai_proxy.transport.errors import TransportError
from ai_proxy.transport.exchange import Exchange
from ai_proxy.transport.origin import Origin
from ai_proxy.transport.upgrade import RawSocket, tokens

_HTTP2: Final = b"h2c"
_WEBSOCKET: Final = [b"websocket"]


def asked_upgrade(request: Request) -> bytes:
    """Return the protocols that a request asks for, as it names them; empty if it does not ask its next hop.

    Raises:
        UpgradeNotSupported: They are not offered here.
    """
    fields = request.raw_fields
    if request.scope["http_version"] == "1.0" or b"upgrade" not in tokens(fields, b"connection"):
        # (RFC 9110 §7.8)
        return b""
    if _HTTP2 in tokens(fields, b"upgrade"):
        # Java's client asks every server for it, and takes what it gets.
        return b""
    if request.extension("ai_proxy.upgrade") is None:
        raise UpgradeNotSupported("this protocol upgrade is not offered here; ask without the field `Upgrade`")
    return b", ".join(value for name, value in fields if name.lower() == b"upgrade")


class Upgrades:
    """The upgraded connections of a data plane."""

    def __init__(self) -> None:
        self._tunnels: dict[Origin, set[Tunnel]] = {}

    def __repr__(self) -> str:
        return f"<Upgrades: {sum(map(len, self._tunnels.values()))} tunnels to {len(self._tunnels)} origins>"

    async def serve(self, exchange: Exchange, request: Request, grant: Grant, settings: ServiceSettings) -> None:
        """Answer with the engine's 101, and relay what follows until both sides are done.

        Raises:
            UpstreamBroken: The engine has left meanwhile.
            ClientGone: The client has.
        """
        try:
            upstream = exchange.take_over()
        except TransportError as error:
            raise as_ours(error, request) from error
        fields = inbound(exchange.headers, request_id=request.id.encode("ascii"), service=settings.label)
        fields += (field for field in exchange.headers if field[0].lower() == b"upgrade")
        client: RawSocket = request.extension("ai_proxy.upgrade")(fields)
        if client.transport.is_closing():
            upstream.transport.abort()
            raise ClientGone
        request.status = exchange.status
        tunnel = Tunnel(
            client,
            upstream,
            grant,
            is_websocket=tokens(exchange.headers, b"upgrade") == _WEBSOCKET,
            idle_s=settings.upgrade_idle_s,
            stall_s=settings.timeouts.idle_s,
        )
        request.extension("ai_proxy.shutdown")(tunnel.shut_down)
        tunnels = self._tunnels.setdefault(grant.origin, set())
        tunnels.add(tunnel)
        try:
            tunnel.join()
            request.ending = await tunnel.ended
        except asyncio.CancelledError:
            tunnel.go_away("the connection was ended by the proxy")
            raise
        finally:
            tunnels.discard(tunnel)
            if not tunnels:
                self._tunnels.pop(grant.origin, None)
            request.sent = tunnel.upstream.read_bytes
            request.body.received += tunnel.client.read_bytes

    def leave(self, origin: Origin) -> None:
        """Close all that lead to a replica that leaves."""
        for tunnel in tuple(self._tunnels.get(origin, ())):
            tunnel.go_away("the service is stopping")
