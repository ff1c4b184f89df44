"""What TLS changes for a connection: what its buffers hold, why it was not made.

Contexts are made elsewhere, once; here they are only used.
"""

import asyncio
import ssl
from enum import StrEnum

_WRITE_BUFFER_BYTES = 64 * 1024

_HAS_EXPIRED = 10
_WRONG_NAMES = frozenset({62, 63, 64})  # host name, e-mail, address


class CertificateFault(StrEnum):
    """Why a certificate was not accepted."""

    EXPIRED = "certificate_expired"
    WRONG_NAME = "certificate_wrong_name"
    NOT_TRUSTED = "certificate_not_trusted"


def fault_of(error: ssl.SSLCertVerificationError) -> CertificateFault:
    """Say why a certificate was not accepted; the library's own words have addresses in them."""
    if error.verify_code == _HAS_EXPIRED:
        return CertificateFault.EXPIRED
    return CertificateFault.WRONG_NAME if error.verify_code in _WRONG_NAMES else CertificateFault.NOT_TRUSTED


def hold_little(transport: asyncio.Transport) -> None:
    """Have a transport buffer as little over TLS as it does over a plain socket; one of those is left as it is.

    By default a paused one goes on to read a quarter of a MiB, loses that if the other side closes meanwhile (on
    uvloop), and holds half a MiB for a peer that does not read.
    """
    if transport.get_extra_info("sslcontext") is not None:
        transport.set_read_buffer_limits(high=1, low=0)  # type: ignore[attr-defined]  # of both loops' TLS transports
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
