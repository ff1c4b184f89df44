"""The files that TLS needs: made into contexts, or into words for what is wrong with them.

Reading them blocks, for as long as a disk takes. Who connects to whom is nothing to it.
"""

import ssl
from contextlib import suppress
from pathlib import Path

from ai_proxy.config.fields import Rejected
from ai_proxy.config.tls import ClientAuth, ServerTls, ServiceTls

ALPN = ("http/1.1",)
_FLIGHTS = 4  # more than any handshake has

_VERIFY_MODES = {
    ClientAuth.OFF: ssl.CERT_NONE,
    ClientAuth.OPTIONAL: ssl.CERT_OPTIONAL,
    ClientAuth.REQUIRED: ssl.CERT_REQUIRED,
}


class BadFile(Rejected):
    """A file that can't be used.

    Args:
        key: The key that names it.
        message: What is wrong with it.
        fix: What to do.
    """

    def __init__(self, key: str, message: str, fix: str) -> None:
        super().__init__(message, fix)
        self.key = key


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """Make the context in which clients are accepted.

    Raises:
        BadFile: A file can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(ALPN)
    _load_pair(context, ("cert", tls.cert), ("key", tls.key))
    if tls.client_ca is not None and tls.clients is not ClientAuth.OFF:
        _load_cas(context, "client_ca", tls.client_ca)
        # A client whose certificate is believed no longer must not come in on what was agreed earlier.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    context.verify_mode = _VERIFY_MODES[tls.clients]
    return context


def client_context(tls: ServiceTls | None = None) -> ssl.SSLContext:
    """Make the context in which a service is reached; without settings the system's CAs are believed.

    Raises:
        BadFile: A file can't be used.
    """
    tls = tls or ServiceTls()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca is not None:
        _load_cas(context, "ca", tls.ca)
    else:
        context.load_default_certs()
    if tls.client_cert is not None:
        key = ("client_key", tls.client_key) if tls.client_key is not None else ("client_cert", tls.client_cert)
        _load_pair(context, ("client_cert", tls.client_cert), key)
    return context


def complaint_about(tls: ServerTls) -> str | None:
    """Say what clients will not like about a listener's certificate; that it has expired, for one.

    It is tried on a client that believes the certificate itself, so that only such things are left to it.

    Raises:
        BadFile: A file can't be used.
    """
    server, client = server_context(ServerTls(cert=tls.cert, key=tls.key)), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True))
    try:
        client.load_verify_locations(tls.cert)
        for _ in range(_FLIGHTS):
            for end in ends:
                _step(end)
    except ssl.SSLCertVerificationError as error:
        return f"{tls.cert}: {error.verify_message}"
    except OSError as error:
        return f"{tls.cert}: {error}"
    return None


def _step(end: ssl.SSLObject) -> None:
    with suppress(ssl.SSLWantReadError):
        end.do_handshake()


def _load_pair(context: ssl.SSLContext, cert: tuple[str, str], key: tuple[str, str]) -> None:
    _text(*cert)
    text = _text(*key)
    try:
        context.load_cert_chain(cert[1], key[1], password=lambda: b"")
    except OSError as error:
        raise _what_is_wrong(error, cert, key, text) from None


def _what_is_wrong(error: OSError, cert: tuple[str, str], key: tuple[str, str], text: str) -> BadFile:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return BadFile(key[0], f"{key[1]} is not the key of {cert[1]}", "write the file that came with the certificate")
    if "ENCRYPTED" in text:
        return BadFile(key[0], f"{key[1]} has a password", "take it off: `openssl pkey -in FILE -out NEW`")
    if "PRIVATE KEY-----" not in text:
        return BadFile(key[0], f"{key[1]} holds no private key", "write a PEM file that does")
    return BadFile(cert[0], f"{cert[1]} holds no certificate that can be used", "write a PEM file of one")


def _load_cas(context: ssl.SSLContext, key: str, file: str) -> None:
    _text(key, file)
    try:
        context.load_verify_locations(file)
    except OSError:
        raise BadFile(key, f"{file} holds no certificate", "write a PEM file of CAs") from None


def _text(key: str, file: str) -> str:
    try:
        return Path(file).read_text("ascii", "replace")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BadFile(key, f"can't read {file}: {reason}", "correct the path, or its permissions") from None
