"""The command line as a whole: which verbs there are, and how a failure looks.

A failure is one clear line on stderr and an exit status that is not 0; a traceback only with `--debug`.
"""

import os
import sys
from typing import Annotated

import typer

from ai_proxy.cli import fleet, local
from ai_proxy.cli.failure import Failure

DEBUG = "AI_PROXY_DEBUG"

app = typer.Typer(
    name="ai-proxy",
    help="One endpoint for all your inference services.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(local.serve)
app.command("check")(local.check)
app.command("schema")(local.schema)
app.command("demo")(local.demo)
app.command("pull")(local.pull)
app.command("ps")(fleet.ps)
app.command("start")(fleet.start)
app.command("stop")(fleet.stop)
app.command("restart")(fleet.restart)
app.command("logs")(fleet.logs)
app.command("events")(fleet.events)
app.command("reload")(fleet.reload)
app.command("version")(local.version)


@app.callback()
def options(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """One endpoint for all your inference services."""
    if debug:
        os.environ[DEBUG] = "1"


def run() -> None:
    """Run the command line and end the process with its status."""
    try:
        app()
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        print(_line(error), file=sys.stderr)  # noqa: T201  # a command line talks on stderr
        sys.exit(error.status if isinstance(error, Failure) else 1)


def _line(error: Exception) -> str:
    match error:
        case Failure():
            return str(error)
        case OSError(strerror=str(reason)):
            return f"{error.filename}: {reason}" if error.filename else reason
        case _:
            return f"unexpected error: {type(error).__name__}: {error} (--debug shows the traceback)"
