"""The part of the config that says who may reach what from a browser or another machine: management, and CORS.

Frozen pydantic like the rest. Who holds a key is `keys`' business.
"""

from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, model_validator

from ai_proxy.config.fields import HeaderName, Rejected, Strings
from ai_proxy.config.origins import HostName, OriginName, OriginOrAny
from ai_proxy.config.section import Section


class ManagementConfig(Section):
    """The management plane: where it listens, and whom it takes for a friend."""

    host: str | None = Field(
        None,
        description="Address of its own listener. Default: 127.0.0.1 where `port` is set.",
        examples=["127.0.0.1"],
    )
    port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of its own listener, which then alone has /api/v1, /ui and /metrics; 0: any free one. "
        "Default: it shares the proxy's.",
        examples=[8001],
    )
    allowed_hosts: Annotated[tuple[HostName, ...], *Strings.__metadata__] = Field(
        (),
        description="Names by which browsers may reach it, beside addresses, local names and `server.host`.",
        examples=[["ai.example.com"]],
    )
    trusted_origins: Annotated[tuple[OriginName, ...], *Strings.__metadata__] = Field(
        (),
        description="Origins (scheme, host, port) whose pages may use it; for a proxy in front that changes `Host`.",
        examples=[["https://ops.example.com"]],
    )

    @model_validator(mode="after")
    def _a_listener_has_a_port(self) -> Self:
        if self.host is not None and self.port is None:
            raise Rejected("a host without a port", "add port, or remove host to share the proxy's listener")
        return self

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of its own listener; None if it has none.

        Example:
            >>> ManagementConfig(port=8001).address, ManagementConfig().address
            (('127.0.0.1', 8001), None)
        """
        return None if self.port is None else (self.host or "127.0.0.1", self.port)


class CorsConfig(Section):
    """Which web pages of other origins may use the data plane."""

    allow_origins: Annotated[tuple[OriginOrAny, ...], *Strings.__metadata__] = Field(
        (),
        description="Origins (scheme, host, port) of such pages, or `*` for all. Default: none.",
        examples=[["https://chat.example.com"]],
    )
    allow_headers: Annotated[tuple[HeaderName, ...], *Strings.__metadata__] | None = Field(
        None,
        description="Header fields that they may send. Default: those that they ask for.",
        examples=[["authorization", "content-type"]],
    )
    max_age_s: NonNegativeInt = Field(
        600, description="How long a browser may remember what it was told, in seconds.", examples=[600]
    )

    @model_validator(mode="after")
    def _opens_to_somebody(self) -> Self:
        if self.allow_headers and not self.allow_origins:
            raise Rejected("allow_headers without effect while no origin is allowed", "add allow_origins")
        return self
