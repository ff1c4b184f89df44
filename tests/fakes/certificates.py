"""A certificate authority that lives as long as a test, and the files that it issues."""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import trustme

from ai_proxy.config.tls import ServerTls
from ai_proxy.proxy.listener_tls import ListenerTls

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)


class Pair(NamedTuple):
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """Issues certificates into a folder.

    Attributes:
        file: Its own certificate, by which others believe it.

    Args:
        folder: Where files go.
        name: Begins their names.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = name
        self._ca = trustme.CA()
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, *hosts: str, name: str = "server", expired: bool = False) -> Pair:
        """Issue a certificate for hosts, in place of what these files hold."""
        begin, end = LONG_AGO if expired else (None, None)
        issued = self._ca.issue_cert(*(hosts or ("127.0.0.1", "localhost")), not_before=begin, not_after=end)
        pair = Pair(self._folder / f"{self._name}-{name}.pem", self._folder / f"{self._name}-{name}.key")
        pair.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        pair.key.write_bytes(issued.private_key_pem.bytes())
        return pair

    def believer(self, shown: Pair | None = None) -> ssl.SSLContext:
        """A client that believes what this authority has issued, and shows a certificate or none."""
        context = ssl.create_default_context(cafile=self.file)
        if shown is not None:
            context.load_cert_chain(*shown)
        return context


def tls_of(authority: Authority, client_ca: Path | None = None) -> ListenerTls:
    """A listener's TLS that an authority vouches for; `client_ca` says whose clients it lets in."""
    cert, key = map(str, authority.issue())
    return ListenerTls(ServerTls(cert=cert, key=key, client_ca=str(client_ca) if client_ca else None))
