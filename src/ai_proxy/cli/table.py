"""How services and events look on a terminal."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 1000
_COLORS = {
    "ready": "green",
    "loading": "yellow",
    "starting": "yellow",
    "queued": "yellow",
    "draining": "magenta",
    "stopping": "magenta",
    "failed": "red",
    "stopped": "dim",
}


def show_services(services: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print a table of services, and below it why the failed ones failed."""
    # A pipe has no width of its own: lines are left whole for grep and the like.
    console = console or Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("SERVICE", "left"), ("STATE", "left"), ("REQUESTS", "right"), ("DEVICES", "left")):
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    table.add_column("MEMORY", justify="right", no_wrap=True)
    table.add_column("DETAIL", overflow="fold")
    for service in services:
        state = str(service["state"])
        table.add_row(
            service["id"],
            Text(state, _COLORS.get(state, "")),
            requests(service),
            devices(service),
            memory(service),
            Text(detail(service)),
        )
    console.print(table)


def requests(service: Mapping[str, Any]) -> str:
    """Requests that run, and those that wait.

    Example:
        >>> requests({"in_flight": 3, "waiting": 2}), requests({"in_flight": 0, "waiting": 0})
        ('3 (+2)', '–')
    """
    if service["waiting"]:
        return f"{service['in_flight']} (+{service['waiting']})"
    return str(service["in_flight"] or "–")


def devices(service: Mapping[str, Any]) -> str:
    """The GPUs that a service holds.

    Example:
        >>> devices({"runtime": "docker", "placement": {"devices": ["0", "1"]}})
        'GPU 0,1'
        >>> devices({"runtime": "process", "placement": {"devices": []}})
        'CPU'
    """
    placement = service["placement"]
    if not placement or service["runtime"] == "external":
        return "–"
    return f"GPU {','.join(placement['devices'])}" if placement["devices"] else "CPU"


def memory(service: Mapping[str, Any]) -> str:
    """The memory that a service holds.

    Example:
        >>> memory({"placement": {"devices": ["0"], "vram_mb": 9000, "memory_mb": 2048}})
        '9,000 MB + 2,048 MB RAM'
    """
    placement = service["placement"] or {}
    parts = [f"{placement['vram_mb']:,} MB"] if placement.get("vram_mb") else []
    parts += [f"{placement['memory_mb']:,} MB RAM"] if placement.get("memory_mb") else []
    return " + ".join(parts) or "–"


def detail(service: Mapping[str, Any]) -> str:
    """What else there is to say of a service, the most urgent first.

    Example:
        >>> figures = {"declared_vram_mb": 20_000, "seen_vram_mb": 17_310}
        >>> service = {"doing": "", "failure": None, "idle_for_s": 75, "pinned": True, "figures": figures}
        >>> detail({**service, "state": "ready"})
        'idle for 1m 15s, pinned, declared 20,000 MB, seen 17,310 MB'
    """
    failure = service["failure"]
    if failure and service["state"] in {"failed", "stopping"}:
        retry = (
            f" (tried again in {duration(failure['retry_in_s'])} if asked for)" if failure["retry_in_s"] >= 1 else ""
        )
        return f"{failure['message']}{retry}"
    said = [service["doing"]] if service["doing"] else []
    if service["idle_for_s"] is not None:
        said.append(f"idle for {duration(service['idle_for_s'])}")
    elif service["ready_for_s"] is not None:
        said.append(f"ready for {duration(service['ready_for_s'])}")
    if service["pinned"]:
        said.append("pinned")
    said += footprint(service["figures"])
    return ", ".join(said)


def footprint(figures: Mapping[str, Any]) -> list[str]:
    """What a service says it needs beside what was seen of it; nothing before it was seen.

    Example:
        >>> footprint({"declared_vram_mb": None, "seen_vram_mb": 17_310})
        ['seen 17,310 MB']
    """
    if figures["seen_vram_mb"] is None:
        return []
    declared = figures["declared_vram_mb"]
    return [*([f"declared {declared:,} MB"] if declared else []), f"seen {figures['seen_vram_mb']:,} MB"]


def duration(seconds: float) -> str:
    """A time span for people.

    Example:
        >>> duration(5.2), duration(75), duration(7260)
        ('5s', '1m 15s', '2h 1m')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    return f"{whole // 3600}h {whole % 3600 // 60}m"


def event_line(kind: str, data: Mapping[str, Any]) -> str:
    """One event as a line for people.

    Example:
        >>> event_line("progress", {"at": 0, "service": "chat", "text": "pulling image, 41 %"})[9:]
        'chat: pulling image, 41 %'
        >>> answered = {"at": 0, "request": "f00-1", "service": "chat", "outcome": "admitted", "waited_s": 0.79}
        >>> event_line("request_answered", answered)[9:]
        'chat: f00-1 admitted after 0.8 s'
    """
    at = time.strftime("%H:%M:%S", time.localtime(data.get("at", time.time())))
    match kind:
        case "service":
            said = f"{data['service']}: {data['previous']} → {data['state']} ({data['reason']})"
        case "progress":
            said = f"{data['service']}: {data['text']}"
        case "decision":
            said = f"{data['service']}: {data['verdict']}: {data['reason']}"
        case "request_waits":
            said = f"{data['service']}: {data['request']} waits"
        case "request_answered":
            said = f"{data['service']}: {data['request']} {data['outcome']} after {data['waited_s']:.1f} s"
        case _:
            said = ", ".join(f"{key}: {value}" for key, value in data.items() if key not in {"at", "type"})
            said = f"{kind}: {said}"
    return f"{at} {said}"


def plan_line(plan: Mapping[str, Any]) -> str:
    """What would happen if a service had to start.

    Example:
        >>> victims = [{"holder": "a", "level": 0}, {"holder": "b", "level": 1}]
        >>> plan = {"service": "chat", "verdict": "evict", "reason": "no room", "victims": victims, "regret": 3.24}
        >>> plan_line(plan)
        'chat would start once a has stopped, b sleeps at level 1 (regret 3.2 s): no room'
    """
    service, reason = plan["service"], plan["reason"]
    match plan["verdict"]:
        case "running":
            return f"{service} need not start: {reason}"
        case "refuse":
            return f"{service} can't be started: {reason}"
        case "evict":
            left = (
                f"{it['holder']} sleeps at level {it['level']}" if it["level"] else f"{it['holder']} has stopped"
                for it in plan["victims"]
            )
            return f"{service} would start once {', '.join(left)} (regret {plan['regret']:.1f} s): {reason}"
        case verdict:
            return f"{service} would {verdict}: {reason}"


def story_lines(story: Mapping[str, Any]) -> Iterator[str]:
    r"""Where a request has waited and why, a line a step.

    Example:
        >>> step = {"after_s": 0.4, "kind": "decision", "service": "chat", "text": "wait: busy"}
        >>> story = {"id": "r-1", "service": "chat", "state": "waiting", "waited_s": 75, "timeline": [step]}
        >>> print(*story_lines(story), sep="\n")
        r-1 waits for chat, for 1m 15s so far
            0.4 s  chat: decision: wait: busy
    """
    match story["state"]:
        case "waiting":
            yield f"{story['id']} waits for {story['service']}, for {duration(story['waited_s'])} so far"
        case "running" if not story["timeline"]:
            yield f"{story['id']} runs on {story['service']}; it did not have to wait"
        case state:
            runs = "runs on" if state == "running" else "was for"
            yield f"{story['id']} {runs} {story['service']}: {story['outcome']} after {story['waited_s']:.1f} s"
    for step in story["timeline"]:
        yield f"{step['after_s']:7.1f} s  {step['service']}: {step['kind']}: {step['text']}"
