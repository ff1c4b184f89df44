"""The verbs `key create` and `key hash`: a new API key, or one that you have, as the entry that a config needs.

Nothing is written to any file, and a key is shown once, by the verb that makes it.
"""

import hashlib
import math
import secrets
import sys
from typing import Annotated

import typer

from ai_proxy.cli.failure import Failure
from ai_proxy.config.sharing import Priority

app = typer.Typer(no_args_is_help=True, help="API keys: make one, or the entry of one that you have.")

PREFIX = "sk-aip-"
_RANDOM_BYTES = 32
_SHORTEST = 32
_LONGEST_BYTES = 4096

Name = Annotated[str, typer.Argument(help="Name by which logs and lists speak of it.")]
Models = Annotated[
    str | None,
    typer.Option(help="Models that it may use, commas between them; `*` is any run of characters.", show_default=False),
]
Management = Annotated[bool, typer.Option("--management", help="It opens the management API.")]
PriorityClass = Annotated[
    Priority | None, typer.Option(help="Precedence of its requests while they wait.", show_default=False)
]
NoSwap = Annotated[bool, typer.Option("--no-swap", help="No service is started for its sake.")]
MaxInFlight = Annotated[int | None, typer.Option(min=1, help="Requests at once.", show_default=False)]
PerMinute = Annotated[int | None, typer.Option(min=1, help="Requests within a minute.", show_default=False)]


@app.command()
def create(
    name: Name,
    models: Models = None,
    *,
    management: Management = False,
    priority: PriorityClass = None,
    no_swap: NoSwap = False,
    max_in_flight: MaxInFlight = None,
    requests_per_minute: PerMinute = None,
) -> None:
    """Make a key: it is shown once, on standard output, and what to add to the config on standard error."""
    key = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    entry = _entry(
        name,
        key.encode(),
        models=None if models is None else [model.strip() for model in models.split(",")],
        may_swap=False if no_swap else None,
        priority=None if priority is None else priority.value,
        max_in_flight=max_in_flight,
        requests_per_minute=requests_per_minute,
        management=management or None,
    )
    typer.echo(f"Add this to your config; the key itself is not shown again:\n\n{entry}", err=True)
    typer.echo(key)


@app.command("hash")
def hash_(name: Name) -> None:
    """Read a key that you have from standard input, and print what to add to the config."""
    key = _given()
    if len(key) < _SHORTEST:
        typer.echo(f"this key has {len(key)} characters only: whoever reads its hash may guess it", err=True)
    typer.echo(_entry(name, key), nl=False)


def _given() -> bytes:
    if sys.stdin.isatty():
        given = str(typer.prompt("Key", hide_input=True, err=True)).encode()
    else:
        given = sys.stdin.buffer.read(_LONGEST_BYTES + 1).strip()
    if not given or len(given) > _LONGEST_BYTES or len(given.split()) > 1:
        raise Failure("standard input holds no key: one word is wanted")
    return given


def _entry(name: str, key: bytes, **limits: object) -> str:
    """The lines of a config that make it known, checked as they will be."""
    from pydantic import ValidationError  # noqa: PLC0415  # as everywhere, for the sake of the other verbs

    from ai_proxy.config.keys import KeyConfig  # noqa: PLC0415

    said = {key: value for key, value in limits.items() if value is not None}
    entry = {"name": name, "hash": f"sha256:{hashlib.sha256(key).hexdigest()}", **said}
    try:
        KeyConfig.model_validate(entry)
    except ValidationError as error:
        raise Failure(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    return "keys:\n  - " + "\n    ".join(f"{key}: {_inline(value)}" for key, value in entry.items()) + "\n"


def _inline(value: object) -> str:
    """A value as YAML of one line."""
    import yaml  # noqa: PLC0415

    return yaml.safe_dump(value, default_flow_style=True, width=math.inf).removesuffix("...\n").strip()
