"""The verb that tries a config on a trace, in no time and without a GPU: simulate."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ai_proxy.cli.failure import Failure
from ai_proxy.cli.local import ConfigFile, read_config

if TYPE_CHECKING:
    from ai_proxy.config.models import Config
    from ai_proxy.devices import Device
    from ai_proxy.scheduler.figures import Figures
    from ai_proxy.sim.model import Fleet
    from ai_proxy.sim.report import Outcome
    from ai_proxy.sim.traces import Request

ALL = "all"


def simulate(
    *,
    config: ConfigFile = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="Recorded requests, CSV or JSON lines, perhaps .gz: time, service, duration or tokens."),
    ] = None,
    generate: Annotated[
        str | None, typer.Option(metavar="NAME", help="Draw a trace: poisson, bursty, diurnal, chains or zipf.")
    ] = None,
    seed: Annotated[int, typer.Option(help="What a draw starts from.")] = 1,
    rate: Annotated[float, typer.Option(min=1e-6, help="Of a drawn trace: requests a second, in all.")] = 0.1,
    duration: Annotated[str, typer.Option(help="Of a drawn trace: 30m, 4h.")] = "4h",
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Who says what is evicted; may be repeated; all: compare them all."),
    ] = None,
    gpu: Annotated[
        list[int] | None, typer.Option(min=1, metavar="MB", help="A GPU of this size, in place of the config's.")
    ] = None,
    load: Annotated[
        list[str] | None, typer.Option(metavar="SERVICE=SECONDS", help="How long a service takes until it is ready.")
    ] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Requests that an engine works on at once.")] = None,
    gantt: Annotated[Path | None, typer.Option(metavar="SVG", help="Draw the GPUs over time.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts: JSON.")] = False,
) -> None:
    """Run the scheduler over a trace on a virtual clock: what would wait, load, be evicted?"""
    from ai_proxy.cli import simulation  # noqa: PLC0415  # brings rich and the scheduler, for which `serve` can't wait

    path, settings = read_config(config)
    names = _policies(policy)
    if gantt is not None and len(names) > 1:
        raise Failure("--gantt draws the run of one policy: name one with --policy")
    fleet = _fleet(path, settings, gpu or (), load or (), slots)
    if (trace is None) == (generate is None):
        raise Failure("give either --trace FILE or --generate NAME")
    requests = _read(trace, path, settings, seed) if trace else _draw(generate or "", fleet, seed, rate, duration)
    outcomes = [simulation.run(fleet, requests, name, record=gantt is not None) for name in names]
    if gantt is not None:
        _write(gantt, simulation.picture(fleet, outcomes[0], f"{path.name}, {trace.name if trace else generate}"))
    if as_json:
        typer.echo(json.dumps(simulation.as_json(fleet, outcomes), indent=2))
    else:
        simulation.show(path.name, fleet, outcomes)
    _insist_on_answers(outcomes)


def gantt(
    events: Annotated[Path, typer.Argument(help="What `ai-proxy events --json` printed.")],
    picture: Annotated[Path, typer.Argument(metavar="SVG", help="The picture to write.")],
) -> None:
    """Draw what the GPUs were used for in a real run, from its events."""
    from ai_proxy.sim.gantt import gantt as draw  # noqa: PLC0415
    from ai_proxy.sim.history import BadHistory, history_of  # noqa: PLC0415

    try:
        with events.open(encoding="utf-8") as lines:
            run = history_of(lines)
    except (BadHistory, UnicodeDecodeError) as fault:
        raise Failure(f"{events}: {fault}") from None
    if not run.spans:
        raise Failure(f"{events}: no event tells of a replica on a device; record with `ai-proxy events --json`")
    if run.lost:
        typer.echo(f"{events}: {run.lost} events are missing: some bars may be too long, or not there", err=True)
    _write(picture, draw(run.spans, title=events.name, waits=run.waits))


def _policies(names: Sequence[str] | None) -> list[str]:
    from ai_proxy.sim.policies import POLICIES  # noqa: PLC0415

    known = ["ours", *POLICIES]
    if unknown := [name for name in names or () if name not in {*known, ALL}]:
        raise Failure(f"no policy is called {', '.join(unknown)}; there are {', '.join(known)}, and {ALL}")
    return known if ALL in (names or ()) else list(dict.fromkeys(names or ["ours"]))


def _fleet(path: Path, config: "Config", gpus: Sequence[int], loads: Sequence[str], slots: int | None) -> "Fleet":
    from ai_proxy.scheduler.spec import UNLIMITED  # noqa: PLC0415
    from ai_proxy.sim.model import fleet_of  # noqa: PLC0415

    ready_s = dict(_load_time(said, config) for said in loads)
    devices = _devices(config, gpus)
    fleet = fleet_of(
        config,
        devices,
        config.memory_mb or _memory_mb(),
        figures=_learned(path, config),
        ready_s=ready_s,
        slots=slots or UNLIMITED,
    )
    if not devices and any(spec.demand.gpus for spec in fleet.specs):
        raise Failure(f"{path}: its services need a GPU and none is known: say --gpu MB, or list it under `devices`")
    return fleet


def _devices(config: "Config", gpus: Sequence[int]) -> "list[Device]":
    from ai_proxy.devices import Device  # noqa: PLC0415

    if gpus:
        return [Device(str(index), f"GPU-{index}", mb) for index, mb in enumerate(gpus)]
    declared = () if config.devices == "auto" else config.devices
    return [Device(it.id, it.uuid or it.id, it.vram_mb, it.name) for it in declared]


def _learned(path: Path, config: "Config") -> "dict[str, Figures]":
    """What the proxy of this config has learned so far, whether it runs or not; nothing if that can't be read."""
    import sqlite3  # noqa: PLC0415

    from ai_proxy.config.diff import spec_hash  # noqa: PLC0415
    from ai_proxy.config.paths import state_dir  # noqa: PLC0415
    from ai_proxy.control.database import peek  # noqa: PLC0415
    from ai_proxy.control.learned import FILE_NAME  # noqa: PLC0415
    from ai_proxy.scheduler.figures import merged  # noqa: PLC0415

    file = state_dir(path, config, os.environ) / FILE_NAME
    if not file.is_file():
        return {}
    try:
        kept = peek(file)
    except (sqlite3.Error, ValueError) as fault:
        typer.echo(f"note: what was learned is left aside: {file}: {fault}", err=True)
        return {}
    shapes = {service: spec_hash(settings) for service, settings in config.services.items()}
    seen = {
        service: merged(one for (shape, _), one in kept.items() if shape == wanted)
        for service, wanted in shapes.items()
    }
    return {service: figures for service, figures in seen.items() if figures is not None}


def _memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def _load_time(said: str, config: "Config") -> tuple[str, float]:
    service, _, seconds = said.partition("=")
    try:
        known = (service, float(seconds))
    except ValueError:
        raise Failure(f"--load {said}: not SERVICE=SECONDS; write for instance {service or 'chat'}=12.5") from None
    if service not in config.services or not 0 <= known[1] < 1e6:
        raise Failure(f"--load {said}: services are {', '.join(config.services)}; seconds are 0 or more")
    return known


def _read(trace: Path, path: Path, config: "Config", seed: int) -> "list[Request]":
    from ai_proxy.errors import ProxyError  # noqa: PLC0415
    from ai_proxy.routing.table import RouteTable  # noqa: PLC0415
    from ai_proxy.sim.recorded import BadTrace, read_trace  # noqa: PLC0415

    table = RouteTable(config)

    def service_of(name: str) -> str:
        if name in config.services:
            return name
        try:
            return table.resolve(name).service
        except ProxyError as error:
            raise ValueError(f"{error.message}; correct the trace, or add the name to a service in {path}") from None

    try:
        return read_trace(trace, tuple(config.services), seed=seed, resolve=service_of)
    except BadTrace as bad:
        raise Failure(str(bad)) from None


def _draw(generator: str, fleet: "Fleet", seed: int, rate_per_s: float, duration: str) -> "list[Request]":
    from ai_proxy.config.fields import Rejected, duration_s  # noqa: PLC0415
    from ai_proxy.sim.traces import GENERATORS  # noqa: PLC0415

    if generator not in GENERATORS:
        raise Failure(f"no generator is called {generator}; there are {', '.join(GENERATORS)}")
    try:
        length_s = duration_s(duration)
    except Rejected as rejected:
        raise Failure(f"--duration {duration}: {rejected}") from None
    return GENERATORS[generator]([spec.id for spec in fleet.specs], length_s, rate_per_s, seed)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise Failure(f"can't write {path}: {error.strerror}") from None


def _insist_on_answers(outcomes: "Sequence[Outcome]") -> None:
    """A request without an answer is a fault of ours, which a script must notice."""
    if lost := [outcome.report for outcome in outcomes if outcome.report.unanswered]:
        said = ", ".join(f"{report.unanswered} under {report.policy}" for report in lost)
        raise Failure(f"requests were left without an answer: {said}; please report this with the config and the trace")
