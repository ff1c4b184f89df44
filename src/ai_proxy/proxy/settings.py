"""What the data plane takes from a config: routes, and for each service how to talk to it.

Built once from a config and never changed; a reload builds another and requests in flight keep theirs.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ai_proxy.config.leaving import HalfClose, OnDisconnect
from ai_proxy.config.models import Config, ServiceConfig
from ai_proxy.config.sharing import Affinity, Replicas
from ai_proxy.forwarding import TrustedProxies
from ai_proxy.proxy.headers import SetFields
from ai_proxy.routing.table import RouteTable
from ai_proxy.transport.limits import Timeouts

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How to talk to one service.

    Attributes:
        label: Its id as a header value.
        timeouts: Deadlines of an exchange with it.
        upgrade_idle_s: An upgraded connection without a message for so long keeps no replica busy.
        setting: Fields set on every request to it.
        host: Host that it is asked by; None: the client's. A service that runs elsewhere gets its own, or it could
            not tell its sites apart; one of ours gets the client's, which it may compare with `Origin`.
        forward_key: It is shown the client's key.
        drains: What it answers to a client that has left is read to the end.
        keeps_half_closed: A client that sends no more is still answered.
        affinity: What keeps requests on the same replica; None where there is never more than one.
    """

    label: bytes
    timeouts: Timeouts
    upgrade_idle_s: float
    setting: SetFields
    host: bytes | None
    forward_key: bool
    drains: bool
    keeps_half_closed: bool
    affinity: Affinity | None

    @classmethod
    def of(cls, service: str, config: ServiceConfig) -> "ServiceSettings":
        """Read one service's settings."""
        limits = config.timeouts
        return cls(
            label=service.encode(),
            timeouts=Timeouts(connect_s=limits.connect_s, first_byte_s=limits.first_byte_s, idle_s=limits.idle_s),
            upgrade_idle_s=limits.upgrade_idle_s,
            setting=SetFields.of(config.headers),
            host=None if config.url is None else urlsplit(config.url).netloc.encode(),
            forward_key=config.forward_key,
            drains=config.on_disconnect is OnDisconnect.DRAIN,
            keeps_half_closed=config.half_close is HalfClose.KEEP,
            affinity=_affinity(config.replicas),
        )


def _affinity(replicas: Replicas) -> Affinity | None:
    return replicas.affinity if replicas.max > 1 and replicas.affinity is not Affinity.NONE else None


class ProxySettings:
    """All that one config says to the data plane; immutable.

    Attributes:
        table: The routes.
        services: Settings of each service.
        trusted: The proxies in front whose word counts; None: nobody's.
        max_model_body_bytes: Largest body that is read to find its model.
        max_buffered_bytes: All such bodies together.
        heartbeat_s: How long a stream waits in silence; 0: for ever.

    Args:
        config: A config whose references were checked.
        table: Its routes.
    """

    def __init__(self, config: Config, table: RouteTable) -> None:
        self.table = table
        self.services = {service: ServiceSettings.of(service, config.services[service]) for service in config.services}
        trusted = config.server.trusted_proxies
        self.trusted = TrustedProxies(trusted) if trusted else None
        self.max_model_body_bytes = config.server.max_model_body_mb * _MIB
        self.max_buffered_bytes = config.server.max_buffered_mb * _MIB
        self.heartbeat_s = config.server.heartbeat_after_s

    def __repr__(self) -> str:
        return f"<ProxySettings of {self.table!r}>"
