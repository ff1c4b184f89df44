"""Verbs that talk to a running proxy over its management API: ps, start, stop, logs, explain, lease and more."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ai_proxy.cli.failure import Failure

if TYPE_CHECKING:
    from ai_proxy.cli.client import Client

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="AI_PROXY_URL",
        help="Where the proxy listens; else what the config file says. AI_PROXY_KEY holds the key, if it needs one.",
    ),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="Config file to find the proxy by.")]
Json = Annotated[bool, typer.Option("--json", help="For scripts: JSON.")]
ServiceArg = Annotated[str, typer.Argument(help="Id of the service.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return at once instead of when it is done.")]


def ps(url: Url = None, config: ConfigFile = None, *, as_json: Json = False) -> None:
    """Show all services and what they do."""
    with _client(url, config) as client:
        services = client.get("/services")
    if as_json:
        typer.echo(json.dumps(services, indent=2, ensure_ascii=False))
        return
    from ai_proxy.cli.table import show_services  # noqa: PLC0415

    show_services(services)


def start(service: ServiceArg, url: Url = None, config: ConfigFile = None, *, no_wait: NoWait = False) -> None:
    """Start a service and wait until it is ready."""
    _act(service, "start", url, config, wait=not no_wait)


def stop(service: ServiceArg, url: Url = None, config: ConfigFile = None, *, no_wait: NoWait = False) -> None:
    """Stop a service once its open requests are done."""
    _act(service, "stop", url, config, wait=not no_wait)


def restart(service: ServiceArg, url: Url = None, config: ConfigFile = None, *, no_wait: NoWait = False) -> None:
    """Stop a service once its open requests are done, and start it again."""
    _act(service, "restart", url, config, wait=not no_wait)


def _act(service: str, verb: str, url: str | None, config: Path | None, *, wait: bool) -> None:
    with _client(url, config) as client:
        answer = client.act(service, verb, wait=wait)
    typer.echo(f"{answer['id']} is {answer['state']}")


def logs(
    service: ServiceArg,
    url: Url = None,
    config: ConfigFile = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines.")] = False,
    tail: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many old lines.")] = 200,
) -> None:
    """Show a service's output."""
    with _client(url, config) as client:
        if not follow:
            typer.echo(client.logs(service, tail), nl=False)
            return
        for kind, data in client.follow_logs(service, tail):
            if kind == "line":
                typer.echo(data["text"])
            elif kind == "error":
                raise Failure(str(data["detail"]))


def events(url: Url = None, config: ConfigFile = None, *, as_json: Json = False) -> None:
    """Follow what happens: changes of services, decisions, reloads."""
    from ai_proxy.cli.table import event_line  # noqa: PLC0415

    with _client(url, config) as client:
        for kind, data in client.follow_events():
            typer.echo(json.dumps(data, ensure_ascii=False) if as_json else event_line(kind, data))


def reload(url: Url = None, config: ConfigFile = None) -> None:
    """Have the proxy read its config file again."""
    with _client(url, config) as client:
        answer = client.reload()
    changed = {key: value for key, value in answer.items() if value}
    typer.echo("; ".join(f"{key}: {', '.join(value)}" for key, value in changed.items()) or "nothing changed")


def explain(
    request: Annotated[str, typer.Argument(help="Its id: the answer's x-request-id.")],
    url: Url = None,
    config: ConfigFile = None,
    *,
    as_json: Json = False,
) -> None:
    """Tell where a request waited, and why."""
    from ai_proxy.cli.table import story_lines  # noqa: PLC0415

    with _client(url, config) as client:
        story = client.story(request)
    lines = [json.dumps(story, indent=2, ensure_ascii=False)] if as_json else story_lines(story)
    typer.echo("\n".join(lines))


def plan(service: ServiceArg, url: Url = None, config: ConfigFile = None, *, as_json: Json = False) -> None:
    """Tell what would happen if a service had to start now; starts nothing."""
    from ai_proxy.cli.table import plan_line  # noqa: PLC0415

    with _client(url, config) as client:
        would = client.plan(service)
    typer.echo(json.dumps(would, indent=2, ensure_ascii=False) if as_json else plan_line(would))


def lease(
    command: Annotated[list[str], typer.Argument(help="The program and its arguments, after `--`.", metavar="COMMAND")],
    *,
    vram_mb: Annotated[int | None, typer.Option(min=1, help="On each GPU, in MiB.  [default: the whole GPU]")] = None,
    device: Annotated[list[str] | None, typer.Option(help="Index or UUID of a GPU.  [default: any]")] = None,
    gpus: Annotated[int, typer.Option(min=1, help="How many, where it may be any.")] = 1,
    name: Annotated[str | None, typer.Option(help="For people.  [default: the program's]")] = None,
    wait_s: Annotated[float, typer.Option("--wait", help="For services to make room, in seconds.")] = 600,
    ttl_s: Annotated[float, typer.Option("--ttl", help="Held for so long after this command dies, in seconds.")] = 60,
    url: Url = None,
    config: ConfigFile = None,
) -> None:
    """Hold room on the GPUs while a program runs: a training job, a game."""
    from ai_proxy.cli.lease import named, run_under_lease  # noqa: PLC0415

    wish = {"device": device or "any", "gpus": gpus, "vram_mb": vram_mb, "ttl_s": ttl_s, "wait_s": wait_s}
    with _client(url, config) as client:
        status = run_under_lease(client, {**wish, "name": named(command[0]) if name is None else name}, command)
    raise typer.Exit(status)


def _client(url: str | None, config: Path | None) -> "Client":
    from ai_proxy.cli.client import Client  # noqa: PLC0415  # httpx takes longer to import than `serve` may to listen

    return Client(url, config)
