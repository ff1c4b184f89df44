"""The verb `import`: another tool's config, written as ours, and what of it is left to do by hand."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ai_proxy.cli.failure import CONFIG_FAULT, Failure
from ai_proxy.config.faults import ConfigError
from ai_proxy.config.load import load


def import_config(
    file: Annotated[Path, typer.Argument(help="Config of llama-swap (YAML) or large-model-proxy (JSONC).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; else standard output.", show_default=False)
    ] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write the config of another tool as one of ours, and list what could not be carried over."""
    from ai_proxy.config.importing.convert import convert  # noqa: PLC0415  # as everywhere, for `serve`'s sake
    from ai_proxy.config.importing.write import render, variables  # noqa: PLC0415

    try:
        draft = convert(file.read_text("utf-8"), str(file))
    except UnicodeDecodeError:
        raise Failure(f"{file}: not UTF-8 text", CONFIG_FAULT) from None
    except ConfigError as error:
        raise Failure(str(error), CONFIG_FAULT) from None
    text = render(draft, file.name)
    if output is None:
        typer.echo(text, nl=False)
    else:
        _write(output, text, force=force)
        _check(output, variables(text))
    if draft.left:
        typer.echo(f"not carried over from {file}:", err=True)
    for left in draft.left:
        typer.echo(f"  {left}", err=True)


def _write(output: Path, text: str, *, force: bool) -> None:
    try:
        with output.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Failure(f"{output} is there already; --force replaces it") from None


def _check(output: Path, variables: list[str]) -> None:
    """Say at once what `check` would say."""
    if missing := [name for name in variables if name not in os.environ]:
        typer.echo(f"{output}: written; set in its environment: {', '.join(missing)}", err=True)
        return
    try:
        count = len(load(output, os.environ).services)
    except ConfigError as error:
        typer.echo(f"{output}: written, but not fine yet:\n{error}", err=True)
    else:
        typer.echo(f"{output}: written, fine, {count} service{'s' * (count != 1)}", err=True)
