"""The part of the config that is about the proxy itself: its listener and its log.

Frozen pydantic like the rest. It knows nothing of services.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ai_proxy.config.fields import Networks
from ai_proxy.config.management import CorsConfig
from ai_proxy.config.section import Section
from ai_proxy.config.tls import ServerTls


class OnExit(StrEnum):
    """What becomes of running replicas when the proxy is asked to end."""

    STOP = "stop"
    KEEP = "keep"


class ServerConfig(Section):
    """The listener and what it bears."""

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on; loopback unless you say otherwise.",
        examples=["127.0.0.1"],
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any free one.", examples=[8000])
    tls: ServerTls | None = Field(None, description="Speak https, on every listener. Default: http.")
    on_exit: OnExit = Field(
        OnExit.STOP, description="stop or keep what was started when the proxy ends.", examples=["stop"]
    )
    drain_timeout_s: PositiveFloat = Field(
        30, description="How long open requests may go on after SIGTERM, in seconds.", examples=[30]
    )
    max_model_body_mb: PositiveInt = Field(
        64, description="Largest body that is read to find its model, in MiB.", examples=[64]
    )
    max_buffered_mb: PositiveInt = Field(
        512, description="All bodies held to find their model, together, in MiB.", examples=[512]
    )
    head_timeout_s: PositiveFloat = Field(15, description="For a request's head to arrive, in seconds.", examples=[15])
    body_idle_timeout_s: PositiveFloat = Field(
        60, description="Between two reads of a request's body, in seconds.", examples=[60]
    )
    keep_alive_s: PositiveFloat = Field(
        75, description="An idle client connection is closed after this long, in seconds.", examples=[75]
    )
    trusted_proxies: Networks = Field(
        (),
        description="Proxies in front of this one, as addresses or networks: what their `Forwarded`, `Via` and "
        "`X-Forwarded-…` fields say is kept and appended to. Anybody else's is replaced.",
        examples=[["10.0.0.0/8", "::1"]],
    )
    heartbeat_after_s: float = Field(
        15,
        ge=0,
        allow_inf_nan=False,
        description="A request for a stream that waits for its service is sent a comment after this long, and as often "
        "from then on, in seconds; 0: never.",
        examples=[15],
    )
    cors: CorsConfig = Field(CorsConfig(), description="Pages of other origins that may use the data plane.")


class LogConfig(Section):
    """What is logged, and how."""

    level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "INFO", description="Lowest level written.", examples=["INFO"]
    )
    format: Literal["text", "json"] = Field(
        "text", description="Lines for people, or one JSON object a line.", examples=["text"]
    )
    access: bool = Field(True, description="One line a request.", examples=[True])
