"""Measure direct, nginx and ai-proxy in interleaved rounds; write JSON and a page into bench-results/.

Run as `python -m benchmarks.load`; needs wrk, nginx, taskset and two cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.load.contestants import BODY, Contestant, Ports, contestants, upstream_command
from benchmarks.load.departures import departures
from benchmarks.load.processes import LOAD_CORE, PROXY_CORE, cpu_s, free_port, pinned, rss_mb
from benchmarks.load.report import page
from benchmarks.load.requests import flood, one_by_one
from benchmarks.results import keep

_EVENTS = [sys.executable, "-m", "benchmarks.load.events"]


def measure(options: argparse.Namespace, folder: Path) -> Mapping[str, Any]:
    """Run everything and collect the rounds."""
    ports = Ports(free_port(), free_port(), free_port(), free_port())
    racers = contestants(folder, ports, options.services)
    with ExitStack() as running:

        def start(command: Any, core: int, name: str, port: int) -> int:
            return running.enter_context(pinned(command, core, log=folder / f"{name}.log", port=port))

        start(upstream_command(folder, ports), LOAD_CORE, "upstream", ports.upstream)
        start([*_EVENTS, "upstream", str(ports.events)], LOAD_CORE, "events", ports.events)
        pids = {r.name: start(r.command, PROXY_CORE, r.name, r.port) for r in racers if r.command is not None}
        for racer in racers:
            flood(racer.port, folder, connections=options.connections, seconds=1)
        requests: dict[str, list[dict[str, float]]] = {racer.name: [] for racer in racers}
        events: dict[str, list[dict[str, float]]] = {racer.name: [] for racer in racers}
        for turn in range(options.rounds):
            print(f"round {turn + 1} of {options.rounds}", file=sys.stderr)
            for racer in racers:
                requests[racer.name].append(_requests(racer, pids.get(racer.name), folder, options))
                events[racer.name].append(_events(racer, pids.get(racer.name), options))
    return {"json": requests, "events": events}


def _requests(racer: Contestant, pid: int | None, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    before = cpu_s(pid) if pid else 0.0
    got = flood(racer.port, folder, connections=options.connections, seconds=options.seconds)
    used_s = cpu_s(pid) - before if pid else 0.0
    alone = one_by_one(racer.port, count=options.alone)
    return {
        **got._asdict(),
        "cpu_us": used_s / got.requests * 1e6,
        "one_p50_us": alone.p50_us,
        "one_p99_us": alone.p99_us,
        "rss_mb": rss_mb(pid) if pid else 0.0,
    }


def _events(racer: Contestant, pid: int | None, options: argparse.Namespace) -> dict[str, float]:
    before = cpu_s(pid) if pid else 0.0
    numbers = [str(racer.events_port), str(options.streams), str(options.events)]
    command = ["taskset", "-c", str(LOAD_CORE), *_EVENTS, "client", *numbers]
    said: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    used_s = cpu_s(pid) - before if pid else 0.0
    return {**said, "cpu_us": used_s / said["chunks"] * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rounds", type=int, default=5)
    add("--seconds", type=int, default=3, help="of each flood")
    add("--connections", type=int, default=64)
    add("--alone", type=int, default=2000, help="requests at concurrency 1")
    add("--streams", type=int, default=200)
    add("--events", type=int, default=100, help="of each stream")
    add("--services", type=int, default=10, help="configured in ai-proxy")
    add("--departures", type=int, default=50, help="clients that leave, in each phase")
    add("--out", type=Path, default=Path("bench-results"))
    options = parser.parse_args()
    busy = os.getloadavg()[0]
    # The clients of this process stay off the core that is measured.
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="ai-proxy-load-") as folder:
        figures = measure(options, Path(folder))
        gone = departures(Path(folder), options.departures)
    result = {
        "load_before": round(busy, 2),
        "body_bytes": len(BODY),
        **{name: getattr(options, name) for name in ("rounds", "connections", "streams", "services")},
        **figures,
        "departures": {phase: delay._asdict() for phase, delay in gone.items()},
    }
    keep(options.out, "load", result, page)


if __name__ == "__main__":
    main()
