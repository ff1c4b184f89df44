"""The part of the config that says which connections are encrypted, and whose certificates are believed.

Frozen pydantic like the rest. The files themselves are read by `certificates`.
"""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from ai_proxy.config.fields import Rejected
from ai_proxy.config.section import Section


class ClientAuth(StrEnum):
    """Whether clients have to show a certificate."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


class ServerTls(Section):
    """How the listeners prove who they are, and who may connect."""

    cert: str = Field(
        description="File with the certificate and those between it and its CA, PEM; relative to the config file. All "
        "files are read again when they change.",
        examples=["tls/fullchain.pem"],
    )
    key: str = Field(description="File with its private key, PEM, without a password.", examples=["tls/privkey.pem"])
    client_ca: str | None = Field(
        None, description="File with the CAs of clients' certificates, PEM.", examples=["tls/clients.pem"]
    )
    client_auth: ClientAuth | None = Field(
        None,
        description="Whether clients have to show a certificate of `client_ca`: off, optional (one that is shown must "
        "be good) or required. Default: required where `client_ca` is set.",
        examples=["required"],
    )

    @model_validator(mode="after")
    def _knows_whom_to_believe(self) -> Self:
        if self.client_ca is None and self.client_auth not in {None, ClientAuth.OFF}:
            raise Rejected("client_auth without a client_ca", "add client_ca, or remove client_auth")
        return self

    @property
    def clients(self) -> ClientAuth:
        """What is asked of clients, said or implied."""
        return self.client_auth or (ClientAuth.OFF if self.client_ca is None else ClientAuth.REQUIRED)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it names.

        Example:
            >>> ServerTls(cert="a.pem", key="a.key").files
            ('a.pem', 'a.key')
        """
        return tuple(name for name in (self.cert, self.key, self.client_ca) if name is not None)


class ServiceTls(Section):
    """Whom to believe to be a service that is reached by https, and how to prove who we are."""

    ca: str | None = Field(
        None,
        description="File with the CAs that may vouch for it, PEM, in place of the system's; relative to the config "
        "file. Files are read when the service is started.",
        examples=["tls/internal-ca.pem"],
    )
    verify: bool = Field(
        True,
        description="false: whoever answers is believed to be the service. Each start of the proxy warns.",
        examples=[True],
    )
    server_name: str | None = Field(
        None,
        min_length=1,
        description="Name that its certificate has to bear. Default: the host in `url`.",
        examples=["llm.internal"],
    )
    client_cert: str | None = Field(
        None, description="File with a certificate to show to it, PEM.", examples=["tls/proxy.pem"]
    )
    client_key: str | None = Field(
        None, description="File with its private key. Default: it is in the same file.", examples=["tls/proxy.key"]
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.client_key is not None and self.client_cert is None:
            raise Rejected("client_key without a client_cert", "add client_cert, or remove client_key")
        if self.ca is not None and not self.verify:
            raise Rejected("ca without effect while verify is false", "remove one of the two")
        return self


FILE_KEYS = frozenset({"cert", "key", "client_ca", "ca", "client_cert", "client_key"})
"""The keys of both whose values are files."""
