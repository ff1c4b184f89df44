"""The part of the config that is about API keys: who holds one, and what it opens.

Frozen pydantic like the rest. Only the hash of a key is ever written down. How a key is presented and found is
`keyring`'s business; nothing here repeats a value that may be a key, not even to complain about it.
"""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, WithJsonSchema, model_validator

from ai_proxy.config.fields import Rejected, Strings
from ai_proxy.config.section import Section
from ai_proxy.config.sharing import Priority

_HASH = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?")
_MAKE_ONE = "`ai-proxy key create NAME` makes a key and its entry, `ai-proxy key hash` the entry of a key that you have"


def key_hash(value: object) -> str:
    """Read the SHA-256 of a key: 64 hexadecimal digits, `sha256:` before them or not.

    Raises:
        Rejected: It is anything else; the message does not repeat it, for it may be the key itself.

    Example:
        >>> key_hash("sha256:" + "AB" * 32) == "ab" * 32
        True
    """
    match = _HASH.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise Rejected("not the SHA-256 of a key (64 hexadecimal digits)", _MAKE_ONE)
    return match[1].lower()


def _name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise Rejected("not a key's name", "use letters, digits, dot, dash, underscore, @; at most 64 characters")
    return value


def _model_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or not all(names):
        raise Rejected("a key for no model", 'write names, or "*" for all of them')
    return names


def _a_list(value: object) -> object:
    if isinstance(value, str | int | float):
        raise Rejected("not a list of keys", _MAKE_ONE)
    return value


class KeyConfig(Section):
    """One API key: what it opens, and how much."""

    name: Annotated[str, AfterValidator(_name)] = Field(
        description="Name by which logs and lists speak of it.", examples=["backend"]
    )
    hash: Annotated[str, BeforeValidator(key_hash), WithJsonSchema({"type": "string"})] = Field(
        description="SHA-256 of the key in hexadecimal, `sha256:` before it or not; `ai-proxy key create` prints it.",
        examples=["${BACKEND_KEY_HASH}"],
        repr=False,
    )
    models: Annotated[Strings, AfterValidator(_model_names)] | None = Field(
        None,
        description="Models that it may use, named as clients name them; `*` matches any run of characters. The id of "
        "a service opens its own paths. Default: all.",
        examples=[["chat", "embed-*"]],
    )
    may_swap: bool = Field(
        True, description="A service may be started, and others be made to leave, for its sake.", examples=[False]
    )
    priority: Priority | None = Field(
        None,
        description="Precedence of its requests while they wait. Default: that of the service.",
        examples=["high"],
    )
    max_in_flight: PositiveInt | None = Field(None, description="Requests at once; more get 429.", examples=[400])
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Requests within any 60 seconds; more get 429.", examples=[600]
    )
    management: bool = Field(
        False,
        description="It opens the management API; models only if `models` is given too.",
        examples=[True],
    )

    @model_validator(mode="before")
    @classmethod
    def _is_an_entry(cls, data: object) -> object:
        if isinstance(data, str | int | float):
            raise Rejected("not an entry {name: …, hash: …}", _MAKE_ONE)
        return data

    @model_validator(mode="after")
    def _opens_what_it_limits(self) -> Self:
        data_only = ("may_swap", "priority", "max_in_flight", "requests_per_minute")
        if not self.opens_models and (dead := [key for key in data_only if key in self.model_fields_set]):
            raise Rejected(
                f"{', '.join(dead)}: without effect on a key for management alone", "remove it, or add models"
            )
        return self

    @property
    def opens_models(self) -> bool:
        """Whether it is a key of the data plane."""
        return not self.management or self.models is not None

    @property
    def fingerprint(self) -> str:
        """Enough of the hash to tell keys apart in a log.

        Example:
            >>> KeyConfig(name="ops", hash="ab" * 32).fingerprint
            'abababab'
        """
        return self.hash[:8]


Keys = Annotated[tuple[KeyConfig, ...], BeforeValidator(_a_list)]
