"""What people are told of a listening socket: its address, and who may come.

It knows sockets and the config's keys, and nothing of what is served.
"""

import socket
from ipaddress import ip_address

from loguru import logger

from ai_proxy.config.keyring import Keyring
from ai_proxy.config.models import Config
from ai_proxy.config.server import ServerConfig


def url_of(listener: socket.socket, server: ServerConfig) -> str:
    """The address of a listener as a URL."""
    host, port = listener.getsockname()[:2]
    scheme = "http" if server.tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def warn_of_strangers(config: Config, listener: socket.socket) -> None:
    """Say that everybody may use the models, where it is so."""
    host = listener.getsockname()[0]
    if not ip_address(host).is_loopback and not Keyring(config.keys).data:
        logger.warning(
            "Whoever reaches {} may use the models, for no key is asked for: `ai-proxy key create NAME` makes one",
            url_of(listener, config.server),
        )
