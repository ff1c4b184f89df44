"""How the listeners prove who they are: a TLS context that stays, with certificates that may be renewed.

A handshake is answered with the newest files that could be used; connections that stand are not touched. Nothing here
knows who listens.
"""

import asyncio
import hashlib
import ssl
from contextlib import suppress
from pathlib import Path

from loguru import logger

from ai_proxy.config.certificates import BadFile, complaint_about, server_context
from ai_proxy.config.tls import ServerTls


class ListenerTls:
    """The TLS of all listeners.

    Attributes:
        context: For whoever accepts clients.
        files: The files whose change is a reason to renew.

    Args:
        tls: What the config says.

    Raises:
        BadFile: A file can't be used.
    """

    def __init__(self, tls: ServerTls) -> None:
        self.files = tuple(Path(file) for file in tls.files)
        self._tls = tls
        self._read = _digest(self.files)
        self.context = self._newest = server_context(tls)
        # Loading into a context that is in use could leave it with a certificate and another one's key, and never
        # takes a CA away.
        self.context.sni_callback = self._choose
        self._warn(complaint_about(tls))

    def __repr__(self) -> str:
        return f"<ListenerTls {self._tls.cert}, clients' certificates {self._tls.clients}>"

    async def renew(self) -> None:
        """Use the files as they are now, if they have changed and can be used; else go on with what was read before."""
        await asyncio.to_thread(self._renew)

    def _renew(self) -> None:
        read = _digest(self.files)
        if read == self._read:
            return
        try:
            newest, complaint = server_context(self._tls), complaint_about(self._tls)
        except BadFile as bad:
            logger.error("New certificates are not used, those read before are: server.tls.{}: {}", bad.key, bad)
            return
        self._read, self._newest = read, newest
        logger.info("New connections are shown the certificate that {} holds now", self._tls.cert)
        self._warn(complaint)

    def _choose(self, end: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        end.context = self._newest

    def _warn(self, complaint: str | None) -> None:
        if complaint is not None:
            logger.warning("Clients will refuse to connect: {}", complaint)


def _digest(files: tuple[Path, ...]) -> bytes:
    content = hashlib.sha256()
    for file in files:
        with suppress(OSError):
            content.update(hashlib.sha256(file.read_bytes()).digest())
    return content.digest()
