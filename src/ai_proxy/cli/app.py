"""The command line as a whole: which verbs there are, and how a failure looks.

A failure is one clear line on stderr and an exit status that is not 0; a traceback only with `--debug`. Nothing heavy
is imported here: a verb brings what it needs, for `serve` must listen soon.
"""

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from ai_proxy.cli import fleet, importing, keys, local, simulate
from ai_proxy.cli.failure import Failure

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
app.command("import")(importing.import_config)
app.add_typer(keys.app, name="key")
app.command("demo")(local.demo)
app.command("pull")(local.pull)
app.command("simulate")(simulate.simulate)
app.command("gantt")(simulate.gantt)
app.command("ps")(fleet.ps)
app.command("start")(fleet.start)
app.command("stop")(fleet.stop)
app.command("restart")(fleet.restart)
app.command("logs")(fleet.logs)
app.command("explain")(fleet.explain)
app.command("plan")(fleet.plan)
app.command("lease")(fleet.lease)
app.command("events")(fleet.events)
app.command("reload")(fleet.reload)
app.command("version")(local.version)


@dataclass(slots=True)
class Options:
    """What holds for every verb."""

    debug: bool = False


@app.callback()
def options(
    context: typer.Context, *, debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False
) -> None:
    """One endpoint for all your inference services."""
    context.ensure_object(Options).debug = debug


def run() -> None:
    """Run the command line and end the process with its status."""
    common = Options()
    try:
        app(obj=common)
    except Exception as error:
        if common.debug:
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
            return f"unexpected error: {type(error).__name__}: {error} (ai-proxy --debug … shows the traceback)"
